"""The 40 tags that ASG recognises on an image (Li et al., MICCAI 2024), and what a report says of names.

The table is `tags.toml`; the findings' side of it is in `reports/lexicons/findings.toml`.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from medground.records import Existence, Triplet
from medground.reports.wordlists import read_table

UNCERTAIN = -1.0
_STRENGTH: dict[str, int] = {"absent": 0, "uncertain": 1, "present": 2}
_LABEL = {"absent": 0.0, "uncertain": UNCERTAIN, "present": 1.0}


def _table() -> list[dict[str, Any]]:
    text = resources.files("medground.objectives").joinpath("tags.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["tag"]


NAMES: tuple[str, ...] = tuple(each["name"] for each in _table())
"""The 40 tags, in the order of every tensor."""

TAG_OF: dict[str, str] = {
    each["name"]: each["asg"] for each in read_table("findings.toml")["finding"] if "asg" in each
}
"""The tag of each finding that has one."""

_WORDS = {
    each["name"]: re.compile(rf"\b(?:{'|'.join(each['words'])})\b".replace("*", r"\w*"), re.IGNORECASE)
    for each in _table()
    if "words" in each
}


def said(text: str, triplets: Sequence[Triplet]) -> Iterator[tuple[str, Existence]]:
    """The tags that a sentence speaks of, each with the existence of the finding that gives it.

    A tag that hangs on words has the strongest existence in the sentence; without a finding there is none.
    """
    for each in triplets:
        if each.finding in TAG_OF:
            yield TAG_OF[each.finding], each.existence
    for name, words in _WORDS.items():
        if triplets and words.search(text):
            yield name, max((each.existence for each in triplets), key=_STRENGTH.__getitem__)


def note(said: Iterable[tuple[str, Existence]], known: dict[str, Existence]) -> None:
    """Add to `known` what is said of each name: present outweighs uncertain, and that absent."""
    for name, existence in said:
        if name not in known or _STRENGTH[existence] > _STRENGTH[known[name]]:
            known[name] = existence


def labels(names: Iterable[str], known: Mapping[str, Existence]) -> list[float]:
    """One number for each name: 1 present, 0 absent or not spoken of, UNCERTAIN where the report is."""
    return [_LABEL[known.get(name, "absent")] for name in names]
