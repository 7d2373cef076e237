"""The named regions of a chest X-ray: their order, synonyms, sides, wholes and parts.

The table is `regions.toml`; names are spelled as in Chest ImaGenome. "Right" is the patient's right:
the left half of the image.
"""

import re
import tomllib
from importlib import resources
from typing import Any


def _table() -> list[dict[str, Any]]:
    """Return one entry for each region, in the order of the file."""
    text = resources.files("medground.anatomy").joinpath("regions.toml").read_text(encoding="utf-8")
    result: list[dict[str, Any]] = tomllib.loads(text)["region"]
    return result


_REGIONS = _table()

SILVER: list[str] = [each["name"] for each in _REGIONS if each["set"] == "silver"]
"""The 29 regions of Chest ImaGenome's scene graphs."""

NAMES: list[str] = SILVER + [each["name"] for each in _REGIONS if each["set"] == "gold"]
"""The 36 regions that have a box on an image, in the order of every table and tensor."""

SYNONYMS: dict[str, list[str]] = {each["name"]: each["synonyms"] for each in _REGIONS}
"""Synonyms of each region, in lower case, without the name itself."""

PARENT: dict[str, str] = {each["name"]: each["parent"] for each in _REGIONS if "parent" in each}
"""The region whose area holds this one; regions inside no other are left out."""

PARTS: dict[str, list[str]] = {each["name"]: each["parts"] for each in _REGIONS if "parts" in each}
"""The regions that together are this one: the box around their boxes is its box."""

NAME_OF: dict[str, str] = {word: name for name, words in SYNONYMS.items() for word in (name, *words)}
"""Region name by name or synonym, in lower case."""

_SIDE = re.compile(r"\b(left|right)\b")
_OTHER = {"left": "right", "right": "left"}


def swap_sides(words: str) -> str:
    """Return the words with each "left" made "right" and back; others untouched."""
    return _SIDE.sub(lambda side: _OTHER[side[1]], words)


def holds(whole: str, part: str) -> bool:
    """Return True where `part` is `whole` or lies in it."""
    at: str | None = part
    while at is not None and at != whole:
        at = PARENT.get(at)
    return at is not None


def mirror(name: str) -> str:
    """Return the region on the other side, or the same name without one (spine, right atrium)."""
    other = swap_sides(name)
    return other if other in SYNONYMS else name
