"""Words of a sentence, in lower case, with their places.

A hyphen inside a word separates two words and is none itself ("air-space" is "air", "space"). A dash between
spaces is one, and so are "(-)" and "-ve". Placeholders of removed text (XXXX, ___) are words.
"""

import re
from typing import Final

TOKEN: Final = re.compile(
    r"(?<=\s)-(?=[.,;]|\Z)|[^\W\d]+(?:['’][^\W\d]+|\(s\))?|\d+(?:[.,]\d+)*|\([-+]\)|[-+]ve\b|[,;:()/.?><\[\]&+*|–—]|(?<!\S)-+(?!\S)"
)

_NOT: Final = ("n't", "n’t")  # the end of a contraction
# Marks that end most words. A letter before one of them ends the word, so that no pattern is needed.
_AFTER_WORD: Final = frozenset(",.;:?)")
# Words of a dictation for a mark, short forms, and asides between commas, which are left out.
PHRASES: Final[dict[tuple[str, ...], str]] = {
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
SAME: Final = {
    "&": "and", "chst": "chest", "lt": "left", "lft": "left", "letf": "left", "leff": "left", "lef": "left",
    "rt": "right", "rght": "right", "rigth": "right", "rigt": "right", "righ": "right",
}  # fmt: skip
SHORT: Final = frozenset(SAME)
DASHES: Final = frozenset(("-", "–", "—"))
SIDES: Final = frozenset(("right", "left", "r", "l", "rt", "lt"))
CLOSES: Final = (".", ",", ";")
ENDS: Final[tuple[list[str], ...]] = ([], ["."], [","], [";"])
STOPS: Final = frozenset((".", ";", ":"))
LABEL: Final = 2  # words of a label before a dash
ANSWERS: Final = (["no"], ["none"], ["nil"], ["negative"], ["neg"], ["absent"])
SPOKEN: Final = frozenset(("w", "line", "paragraph", "stop", "lesser", "less", "extent"))

Tokens = tuple[list[str], list[int], list[int]]


def tokenise(text: str, offset: int = 0) -> Tokens:
    """Return (words, starts, ends) of one sentence; the places are counted from `offset` code points on."""
    lower = text.lower()
    if len(lower) != len(text):  # a few characters get longer in lower case: places would shift
        lower = "".join(small if len(small := each.lower()) == 1 else each for each in text)
    words: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for part in lower.split(" "):  # no word has a space
        end = at + len(part)
        if part.isalpha():
            words.append(part)
            starts.append(at)
            ends.append(end)
        elif part[:-1].isalpha() and part[-1] in _AFTER_WORD:
            words += [part[:-1], part[-1]]
            starts += [at, end - 1]
            ends += [end - 1, end]
        elif part:
            _match(lower, at, end, (words, starts, ends))
        at = end + 1
    if not SPOKEN.isdisjoint(words):
        _shorten(words, starts, ends)
    if not SHORT.isdisjoint(words):
        words = [SAME.get(each, each) for each in words]
    if " -" in lower or "–" in lower or "—" in lower:
        _mark_minus(words)
    if offset:
        starts, ends = [each + offset for each in starts], [each + offset for each in ends]
    return words, starts, ends


def _match(text: str, at: int, end: int, lists: Tokens) -> None:
    """Add the words of text[at:end] that the pattern finds, and "not" for the "n't" of a contraction."""
    words, starts, ends = lists
    for match in TOKEN.finditer(text, at, end):
        start, stop = match.span()
        word = text[start:stop]
        if word.endswith(_NOT):
            cut = stop - (2 if word[:-2] == "can" else 3)
            if cut > start:
                words.append(text[start:cut])
                starts.append(start)
                ends.append(cut)
            word, start = "not", cut
        words.append(word)
        starts.append(start)
        ends.append(stop)


def _shorten(words: list[str], starts: list[int], ends: list[int]) -> None:
    """Remove asides of degree from the words, and replace the names of marks in a dictation by the marks."""
    for phrase, mark in PHRASES.items():
        n, size = 0, len(phrase)
        while n + size <= len(words):
            if tuple(words[n : n + size]) == phrase:
                words[n : n + size] = [mark] if mark else []
                kept = 1 if mark else 0
                del starts[n + kept : n + size]
                del ends[n : n + size - kept]
            n += 1


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


def words_of(phrase: str) -> tuple[str, ...]:
    """Return the words of a phrase of the lexicon, as `tokenise` gives them."""
    return tuple(tokenise(phrase)[0])
