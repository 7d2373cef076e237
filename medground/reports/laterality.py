"""Left and right in texts: the side a phrase names, the phrase with sides swapped, one phrase per side."""

import re

# Whole words; a single L or R only as a capital.
from typing import Final

_LEFT: Final = r"(?i:left(?:ward)?|lt|lul|lll)|L(?!['’.\d])"
_RIGHT: Final = r"(?i:right(?:ward)?|rt|rul|rll)|R(?!['’.\d])"
_ONLY_RIGHT: Final = r"(?i:rml)"  # the left lung has no middle lobe
_BOTH: Final = r"(?i:bilateral(?:ly)?|both|bi-?(?:basilar|basal|apical|hilar))"
_NAMES_LEFT: Final = re.compile(rf"\b({_LEFT})\b")
_NAMES_RIGHT: Final = re.compile(rf"\b({_RIGHT}|{_ONLY_RIGHT})\b")
_NAMES_BOTH: Final = re.compile(rf"\b{_BOTH}\b")

_TO_RIGHT: Final = {
    "left": "right",
    "leftward": "rightward",
    "lt": "rt",
    "lul": "rul",
    "lll": "rll",
    "l": "r",
}
_OTHER: Final = _TO_RIGHT | {right: left for left, right in _TO_RIGHT.items()}
# Chambers and great vessels have a fixed side, or mean another structure on the other side.
_FIXED: Final = r"(?![- ]*(?:sided|side)?[- ]+(?:heart|ventric|atri|aort|arch)|[- ]+in[- ]+place)"
_SIDE: Final = re.compile(rf"\b({_LEFT}|{_RIGHT})\b{_FIXED}")
# Structures of one side only, and words for both sides: they cannot be swapped.
_NOT_SWAPPED: Final = re.compile(rf"\b({_ONLY_RIGHT}|(?i:middle lobe|minor fissure|lingula\w*)|{_BOTH})\b")

_SINGULAR: Final = {
    "lungs": "lung", "bases": "base", "zones": "zone", "lobes": "lobe", "fields": "field", "sides": "side",
    "apices": "apex", "hila": "hilum", "hemidiaphragms": "hemidiaphragm",
}  # fmt: skip
# Words for both sides, and the words for one {side} in their place. The first that matches is used.
_BILATERAL: Final = [
    (
        re.compile(rf"\bboth (?P<place>(?:\w+ ){{0,2}})(?P<noun>{'|'.join(_SINGULAR)})\b", re.I),
        "the {side} {place}{singular}",
    ),
    (re.compile(r"\bbilaterally\b", re.I), "on the {side}"),
    (re.compile(r"\bbilateral\b", re.I), "{side}"),
    (re.compile(r"\bbi-?bas(?P<end>al|ilar)\b", re.I), "{side} bas{end}"),
    (re.compile(r"\bbi-?apical\b", re.I), "{side} apical"),
]
_EACH: Final = re.compile(
    r"(?P<one>.*\b(?:right|left)\b) and (?P<other>.*?\b(?:right|left)\b)(?P<rest>.*)", re.I | re.S
)
_WRITTEN_OUT: Final = re.compile(r"\b(?:right|left)\b", re.I)


def side_of(text: str) -> str:
    """Return the side that the text names: `left`, `right`, `both` or `none`."""
    left, right = bool(_NAMES_LEFT.search(text)), bool(_NAMES_RIGHT.search(text))
    if _NAMES_BOTH.search(text) or (left and right):
        return "both"
    return "left" if left else "right" if right else "none"


def side_of_region(region: str | None) -> str:
    """Return `left` or `right`, the first word of a region's name, or "" for other regions and None."""
    first = (region or "").split(" ")[0]
    return first if first in ("left", "right") else ""


def swap(text: str) -> str | None:
    """Return the phrase with left and right swapped; swapping twice gives the phrase.

    Returns None for a phrase with no side, with both sides, or with a structure of one side only.
    """
    sides = {match[0][0].lower() for match in _SIDE.finditer(text)}
    if len(sides) != 1 or _NOT_SWAPPED.search(text):
        return None
    return _SIDE.sub(lambda match: _in_case_of(match[0], _OTHER[match[0].lower()]), text)


def split_bilateral(text: str) -> tuple[str, str] | None:
    """Return (right, left), the phrase about each side; None unless it is clearly about both sides.

    "bibasal opacities" becomes "right basal opacities" and "left basal opacities". In "small right and large
    left effusions" each side keeps its own words. For models that predict one box per phrase.
    """
    sides = [match[0].lower() for match in _WRITTEN_OUT.finditer(text)]
    for pattern, words in _BILATERAL:
        if match := pattern.search(text):
            return None if sides else (_one_sided("right", match, words), _one_sided("left", match, words))
    each = _EACH.fullmatch(text)
    if each is None or sorted(sides) != ["left", "right"]:
        return None
    first, second = each["one"] + each["rest"], each["other"] + each["rest"]
    return (first, second) if sides[0] == "right" else (second, first)


def _one_sided(side: str, match: re.Match[str], words: str) -> str:
    """Return the text with the words for one side in place of the matched words for both."""
    named = match.groupdict()
    words = words.format(side=side, singular=_SINGULAR.get(named.get("noun", "").lower()), **named)
    return match.string[: match.start()] + words + match.string[match.end() :]


def _in_case_of(word: str, other: str) -> str:
    """Return the other word, capitalized as the first."""
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
