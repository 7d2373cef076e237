"""The side that a phrase names, and the same phrase of the other side. Texts in, texts out."""

import re

# Whole words, and a lone L or R where it is a capital.
_LEFT = r"(?i:left(?:ward)?|lt|lul|lll)|L(?!['’.\d])"
_RIGHT = r"(?i:right(?:ward)?|rt|rul|rll)|R(?!['’.\d])"
_ONLY_RIGHT = r"(?i:rml)"  # the left lung has no middle lobe
_BOTH = r"(?i:bilateral(?:ly)?|both|bi-?(?:basilar|basal|apical|hilar))"
_NAMES_LEFT = re.compile(rf"\b({_LEFT})\b")
_NAMES_RIGHT = re.compile(rf"\b({_RIGHT}|{_ONLY_RIGHT})\b")
_NAMES_BOTH = re.compile(rf"\b{_BOTH}\b")

_SIDES = {"left": "right", "leftward": "rightward", "lt": "rt", "lul": "rul", "lll": "rll", "l": "r"}
_OTHER = _SIDES | {right: left for left, right in _SIDES.items()}
# Chambers, great vessels and the like have one side, or mean another thing on the other.
_FIXED = r"(?![- ]*(?:sided|side)?[- ]+(?:heart|ventric|atri|aort|arch)|[- ]+in[- ]+place)"
_SIDE = re.compile(rf"\b({_LEFT}|{_RIGHT})\b{_FIXED}")
# What only one side has, and words that name both: swapping them says nothing, or the same again.
_NO_TWIN = re.compile(rf"\b({_ONLY_RIGHT}|(?i:middle lobe|minor fissure|lingula\w*)|{_BOTH})\b")


def side_of(text: str) -> str:
    """`left`, `right`, `both` or `none`: the side that the words name."""
    left, right = bool(_NAMES_LEFT.search(text)), bool(_NAMES_RIGHT.search(text))
    if _NAMES_BOTH.search(text) or (left and right):
        return "both"
    return "left" if left else "right" if right else "none"


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
