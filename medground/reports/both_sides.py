"""A phrase about both sides as two, one a side: "bibasal opacities" -> "right basal opacities", and left.

For models that answer a phrase with one box: asked for each side, they show both. Texts in, texts out.
"""

import re

_ONE_OF = {
    "lungs": "lung", "bases": "base", "zones": "zone", "lobes": "lobe", "fields": "field", "sides": "side",
    "apices": "apex", "hila": "hilum", "hemidiaphragms": "hemidiaphragm",
}  # fmt: skip
# What says "both", and what says it of one side; {side} is the side. The first that is found is taken.
_BOTH = [
    (
        re.compile(rf"\bboth (?P<place>(?:\w+ ){{0,2}})(?P<noun>{'|'.join(_ONE_OF)})\b", re.I),
        "the {side} {place}{one}",
    ),
    (re.compile(r"\bbilaterally\b", re.I), "on the {side}"),
    (re.compile(r"\bbilateral\b", re.I), "{side}"),
    (re.compile(r"\bbi-?bas(?P<end>al|ilar)\b", re.I), "{side} bas{end}"),
    (re.compile(r"\bbi-?apical\b", re.I), "{side} apical"),
]
_EACH = re.compile(
    r"(?P<one>.*\b(?:right|left)\b) and (?P<other>.*?\b(?:right|left)\b)(?P<rest>.*)", re.I | re.S
)
_SIDE = re.compile(r"\b(?:right|left)\b", re.I)


def apart(text: str) -> tuple[str, str] | None:
    """(of the right side, of the left), or None for a text that does not speak of both, or not simply.

    "small right and large left effusions" is told apart too, each side with its own words.
    """
    sides = [match[0].lower() for match in _SIDE.finditer(text)]
    for pattern, words in _BOTH:
        if match := pattern.search(text):
            return None if sides else (_of("right", match, words), _of("left", match, words))
    each = _EACH.fullmatch(text)
    if each is None or sorted(sides) != ["left", "right"]:
        return None
    first, second = each["one"] + each["rest"], each["other"] + each["rest"]
    return (first, second) if sides[0] == "right" else (second, first)


def _of(side: str, match: re.Match[str], words: str) -> str:
    """The text with the words for one side in the place of those for both."""
    named = match.groupdict()
    said = words.format(side=side, one=_ONE_OF.get(named.get("noun", "").lower()), **named)
    return match.string[: match.start()] + said + match.string[match.end() :]
