"""Long phrases, shortened to the words of their findings and places and the words next to those.

A text encoder has a limit. A phrase cut at its end could lose its place ("... right lower lobe").
"""

import re
from collections.abc import Callable, Iterator

from medground.records import Span, Triplet
from medground.reports.parser import Parser
from medground.reports.sentences import split_sentences

_WORD = re.compile(r"\S+")
_SIDE = re.compile(r"\b(?:left|right|bilateral(?:ly)?|both)\b", re.IGNORECASE)
_STRENGTH = {"present": 0, "uncertain": 1, "absent": 2}


def shortened(text: str, parser: Parser, fits: Callable[[str], bool]) -> str:
    """Return the part of a text that `fits`: its findings with their places, and the words nearest to them.

    Findings with a place come before those without, and present ones before absent ones. Words keep their
    order. A text without a finding keeps its words about sides, and the words nearest to them. A text that
    `fits` is returned unchanged.
    """
    if fits(text):
        return text
    words = [match.span() for match in _WORD.finditer(text)]
    kept: set[int] = set()
    for spans in _statements(text, parser):
        more = kept | {n for n, word in enumerate(words) if any(_overlap(word, span) for span in spans)}
        if fits(_joined(text, words, more)):
            kept = more
    nearest = sorted(set(range(len(words))) - kept, key=lambda n: (_distance(n, kept), n))
    low, high = 0, len(nearest)
    while low < high:  # the largest number of further words that fits
        middle = (low + high + 1) // 2
        if fits(_joined(text, words, kept | {*nearest[:middle]})):
            low = middle
        else:
            high = middle - 1
    return _joined(text, words, kept | {*nearest[:low]})


def _statements(text: str, parser: Parser) -> Iterator[list[Span]]:
    """Yield the spans of each finding with its place and cue, the most important first; then the sides."""
    regions: list[str] = []
    found: list[Triplet] = []
    for start, end in split_sentences(text, 0, len(text)):
        triplets, regions = parser.read(text, start, end, regions)
        found += triplets
    for each in sorted(found, key=lambda each: (each.region is None, _STRENGTH[each.existence])):
        yield [span for span in (each.finding_span, each.region_span, each.cue_span) if span is not None]
    for match in _SIDE.finditer(text):
        yield [match.span()]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _distance(number: int, kept: set[int]) -> int:
    return min((abs(number - each) for each in kept), default=0)


def _joined(text: str, words: list[Span], kept: set[int]) -> str:
    return " ".join(text[words[n][0] : words[n][1]] for n in sorted(kept))
