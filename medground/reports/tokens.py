"""Words of a sentence, in lower case, with their places.

A hyphen inside a word separates two words and is none itself ("air-space" is "air", "space"). A dash between
spaces is one, and so are "(-)" and "-ve". Placeholders of removed text (XXXX, ___) are words.
"""

import re

TOKEN = re.compile(
    r"(?<=\s)-(?=[.,;]|\Z)|[^\W\d]+(?:['’][^\W\d]+|\(s\))?|\d+(?:[.,]\d+)*|\([-+]\)|[-+]ve\b|[,;:()/.?><\[\]&+*|–—]|(?<!\S)-+(?!\S)"
)

_FULL = {"n't": "not", "n’t": "not", "'t": "not", "’t": "not"}
_NOT = re.compile(r"n['’]t$")
# Words of a dictation for a mark, short forms, and asides between commas, which are left out.
PHRASES: dict[tuple[str, ...], str] = {
    ("next", "line"): ".",
    ("new", "line"): ".",
    ("new", "paragraph"): ".",
    ("next", "paragraph"): ".",
    ("full", "stop"): ".",
    (",", "to", "a", "lesser", "extent", ","): "",
    (",", "to", "a", "lesser", "degree", ","): "",
    (",", "less", "so", ","): "",
    (",", "to", "some", "extent", ","): "",
    ("w", "/", "o"): "without",
    ("w", "/"): "with",
}
# Short and misspelled forms of words with one meaning.
SAME = {
    "&": "and", "chst": "chest", "lt": "left", "lft": "left", "letf": "left", "leff": "left", "lef": "left",
    "rt": "right", "rght": "right", "rigth": "right", "rigt": "right", "righ": "right",
}  # fmt: skip
SHORT = frozenset(SAME)
DASHES = frozenset(("-", "–", "—"))
SIDES = frozenset(("right", "left", "r", "l", "rt", "lt"))
CLOSES = (".", ",", ";")
ENDS: tuple[list[str], ...] = ([], ["."], [","], [";"])
STOPS = frozenset((".", ";", ":"))
LABEL = 2  # words of a label before a dash
ANSWERS = (["no"], ["none"], ["nil"], ["negative"], ["neg"], ["absent"])
SPOKEN = frozenset(("w", "line", "paragraph", "stop", "lesser", "less", "extent"))

Tokens = tuple[list[str], list[int], list[int]]


def tokenise(text: str, offset: int = 0) -> Tokens:
    """Return (words, starts, ends) of one sentence; the places are counted from `offset` code points on."""
    lower = text.lower()
    if len(lower) != len(text):  # a few characters get longer in lower case: places would shift
        lower = "".join(small if len(small := each.lower()) == 1 else each for each in text)
    spans = [match.span() for match in TOKEN.finditer(lower)]
    if "'t" in lower or "’t" in lower:
        spans = [each for span in spans for each in _without_contraction(lower, *span)]
    words = [lower[start:end] for start, end in spans]
    if "'t" in lower or "’t" in lower:
        words = [_FULL.get(each, each) for each in words]
    if not SPOKEN.isdisjoint(words):
        spans, words = _written(spans, words)
    if not SHORT.isdisjoint(words):
        words = [SAME.get(each, each) for each in words]
    if " -" in lower or "–" in lower or "—" in lower:
        _mark_minus(words)
    return words, [start + offset for start, _ in spans], [end + offset for _, end in spans]


def _written(spans: list[tuple[int, int]], words: list[str]) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the words without asides of degree, and with the marks that a dictation names."""
    for phrase, mark in PHRASES.items():
        n, size = 0, len(phrase)
        while n + size <= len(words):
            if tuple(words[n : n + size]) == phrase:
                words[n : n + size] = [mark] if mark else []
                spans[n : n + size] = [(spans[n][0], spans[n + size - 1][1])] if mark else []
            n += 1
    return spans, words


def _mark_minus(words: list[str]) -> None:
    """Replace a minus at the end of a clause by the mark of absence, and a dash after a label by a colon.

    Examples: "effusion -.", "effusion - no.", "heart - normal.".
    """
    begin = 0
    for n, word in enumerate(words):
        begin = n + 1 if word in STOPS else begin
        if not n or word not in DASHES:
            continue
        label = begin < n <= begin + LABEL and words[begin] not in ("no", ":")
        if word == "-" and (n + 1 == len(words) or words[n + 1] in CLOSES):
            words[n] = "(-)"
        elif words[n - 1] in SIDES:
            continue
        elif label or (words[n + 1 : n + 2] in ANSWERS and words[n + 2 : n + 3] in ENDS):
            words[n] = ":"


def _without_contraction(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the spans of "has" and "n't" for "hasn't", of "can" and "'t" for "can't"."""
    word = text[start:end]
    if not _NOT.search(word):
        return [(start, end)]
    cut = end - (2 if word[:-2] == "can" else 3)
    return [(start, cut), (cut, end)]


def words_of(phrase: str) -> tuple[str, ...]:
    """Return the words of a phrase of the lexicon, as `tokenise` gives them."""
    return tuple(tokenise(phrase)[0])
