"""Words of a sentence, in lower case, with where they stand.

A hyphen inside a word separates two words and is none itself ("air-space" is "air", "space"); a dash that
stands alone is one. Words that were taken out of a report (XXXX, ___) are words.
"""

import re

TOKEN = re.compile(r"[^\W\d]+(?:['’][^\W\d]+)?|\d+(?:[.,]\d+)*|[,;:()/.?><\[\]&+*|–—]|(?<!\S)-+(?!\S)")

Tokens = tuple[list[str], list[int], list[int]]


def tokenise(text: str, offset: int = 0) -> Tokens:
    """(words, starts, ends) of one sentence; the places are counted from `offset` code points on."""
    words, starts, ends = [], [], []
    for match in TOKEN.finditer(text):
        start, end = match.span()
        words.append(match[0].lower())
        starts.append(start + offset)
        ends.append(end + offset)
    return words, starts, ends


def words_of(phrase: str) -> tuple[str, ...]:
    """The words of a phrase of the lexicon, as `tokenise` gives them."""
    return tuple(tokenise(phrase)[0])
