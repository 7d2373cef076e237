"""A phrase about the other side: "right basal opacity" -> "left basal opacity". Texts in, texts out."""

import re

_SIDES = {"left": "right", "leftward": "rightward", "lt": "rt", "lul": "rul", "lll": "rll", "l": "r"}
_OTHER = _SIDES | {right: left for left, right in _SIDES.items()}
# Chambers, great vessels and the like have one side, or mean another thing on the other. A lone L or R is a
# side only as a capital.
_FIXED = r"(?![- ]*(?:sided|side)?[- ]+(?:heart|ventric|atri|aort|arch)|[- ]+in[- ]+place|['’.\d])"
_SIDE = re.compile(rf"\b((?i:left(?:ward)?|right(?:ward)?|lt|rt|[lr]ul|[lr]ll)|[LR])\b{_FIXED}")
# What only one side has, and words that name both: swapping them says nothing, or the same again.
_NO_TWIN = re.compile(
    r"\b(rml|middle lobe|minor fissure|lingula\w*|bilateral(ly)?|both|bi-?(basilar|basal|apical|hilar))\b",
    re.I,
)


def other_side(text: str) -> str | None:
    """The phrase with left for right and right for left; the same again gives the phrase back. None for one
    that names no side, or both, or what has no counterpart there."""
    sides = {match[0][0].lower() for match in _SIDE.finditer(text)}
    if len(sides) != 1 or _NO_TWIN.search(text):
        return None
    return _SIDE.sub(lambda match: _like(match[0], _OTHER[match[0].lower()]), text)


def _like(word: str, other: str) -> str:
    """The other word in the capitals of the first."""
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
