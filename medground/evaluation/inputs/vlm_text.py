"""Text output of vision-language models, with boxes in the text: JSON lines with phrase_id and `output`.

maira-2  <box><x10><y20><x30><y40></box>, where bin n of the 100 means (n + .5) / 100; or the output of its
         processor, [('words', [(0.1, 0.2, 0.3, 0.4)])], as text or as JSON
radvlm   [0.1, 0.2, 0.3, 0.4]

Boxes keep their order in the text and have the score 1.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from medground import jsonl
from medground.errors import BadRecord
from medground.evaluation.inputs import files
from medground.evaluation.inputs.readers import Answer, Take
from medground.records import Box

log = logging.getLogger(__name__)
# Nothing is matched in two ways (++ and *+ never give back), so that a text is read in linear time.
_NUMBER = r"\s*+([-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?)\s*+"
_FOUR = ",".join([_NUMBER] * 4)
_BINS = re.compile(r"<box>" + "".join(rf"\s*+<{axis}(\d++)>" for axis in "xyxy") + r"\s*+</box>")
MAX_DIGITS = 6  # of a bin; MAIRA-2 writes 0 to 99
_PLAIN = re.compile(rf"[\[(]{_FOUR}[\])]")
_SHARES = re.compile(rf"\[{_FOUR}\]")
FORMS = {"maira-2": "<box><x10><y20><x30><y40></box>", "radvlm": "[0.1, 0.2, 0.3, 0.4]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One line of a text format."""

    phrase_id: str
    output: str | list[Any]
    image_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def read_maira_2(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each line of MAIRA-2 output; boxes are fractions of its frame."""
    _read(stream, bad_lines, take, "maira-2", _of_maira_2)


def read_radvlm(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each line of RadVLM output, with its numbers unchanged."""
    _read(stream, bad_lines, take, "radvlm", lambda text: _boxes(_SHARES, text))


def _of_maira_2(text: str) -> list[Box]:
    return _boxes(_BINS, text, _of_bin) or _boxes(_PLAIN, text)


def _of_bin(digits: str) -> float:
    if len(digits) > MAX_DIGITS:
        raise BadRecord("expected bins from 0 to 99", "output")
    return (int(digits) + 0.5) / 100


def _boxes(pattern: re.Pattern[str], text: str, value: Callable[[str], float] = float) -> list[Box]:
    found = ([value(number) for number in match.groups()] for match in pattern.finditer(text))
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in found]


def _read(
    stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take, kind: str, find: Callable[[str], list[Box]]
) -> None:
    texts = recognised = 0

    def check(said: Said) -> None:
        nonlocal texts, recognised
        text = said.output if isinstance(said.output, str) else json.dumps(said.output)
        found = find(text)
        texts, recognised = texts + bool(text.strip()), recognised + len(found)
        take(Answer(said.image_id, said.phrase_id, [(box, 1.0) for box in found], whole=True))

    for _ in jsonl.read(stream, Said, bad_lines, check):  # type: ignore[arg-type]
        pass
    if texts and not recognised:
        log.warning(
            "%s: no box in any of %d texts; is it --input-format %s, which writes %s?",
            *(stream.name, texts, kind, FORMS[kind]),
        )
