"""The 40 image tags of ASG (Li et al., MICCAI 2024), and their labels from reports.

`tags.toml` has the tags; `reports/lexicons/findings.toml` has the tag of each finding.
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


def mentioned(text: str, triplets: Sequence[Triplet]) -> Iterator[tuple[str, Existence]]:
    """Yield the tags that a sentence mentions, each with the existence of its finding.

    A tag defined by words gets the strongest existence in the sentence, and needs a finding in it.
    """
    for each in triplets:
        if each.finding in TAG_OF:
            yield TAG_OF[each.finding], each.existence
    for name, words in _WORDS.items():
        if triplets and words.search(text):
            yield name, max((each.existence for each in triplets), key=_STRENGTH.__getitem__)


def merge(mentions: Iterable[tuple[str, Existence]], known: dict[str, Existence]) -> None:
    """Add the existence of each name to `known`: present replaces uncertain, uncertain replaces absent."""
    for name, existence in mentions:
        if name not in known or _STRENGTH[existence] > _STRENGTH[known[name]]:
            known[name] = existence


def labels(names: Iterable[str], known: Mapping[str, Existence]) -> list[float]:
    """Return one number per name: 1 present, 0 absent or not mentioned, UNCERTAIN."""
    return [_LABEL[known.get(name, "absent")] for name in names]
