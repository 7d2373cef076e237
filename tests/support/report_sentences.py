"""Clinical sentences and what the parser finds in them: add a line to a file of sentences/ for each bug.

triplets.jsonl    all triplets of a text, in the order of the words: region, finding, existence
existence.jsonl   the existence of a finding; null: the text does not state it for now
challenge.jsonl   all that a text states of a finding; null: not that it is present
negex.jsonl       the existence of words of clinical notes, which are read with a lexicon of the user
clinical.jsonl    the same, with other notes
clinical2.jsonl   the same: notes written before any of them was parsed
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "sentences"


def _rows(name: str) -> list[tuple[Any, ...]]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [tuple(json.loads(line).values()) for line in lines]


TRIPLETS = [(text, [tuple(each) for each in triplets]) for text, triplets in _rows("triplets")]
EXISTENCE = _rows("existence")
CHALLENGE = _rows("challenge")
NEGEX = _rows("negex")
CLINICAL = _rows("clinical") + _rows("clinical2")
