"""Long phrases, shortened to the words of their findings and places.

A text encoder has a limit. A phrase cut at its end could lose its place ("... right lower lobe").
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator

from medground.records import Span, Triplet
from medground.reports.parser import Parser
from medground.reports.sentences import split_sentences

_WORD = re.compile(r"\S+")
_SIDE = re.compile(r"\b(?:left|right|bilateral(?:ly)?|both)\b(?:\s+\S+){0,2}", re.IGNORECASE)
MOST = 20_000  # characters that are searched for findings; a phrase has fewer
GAP = 2  # most words between two kept ones that are kept, too
_STRENGTH = {"present": 0, "uncertain": 1, "absent": 2}


def shortened(text: str, parser: Parser, fits: Callable[[str], bool]) -> str:
    """Return the part of a text that `fits`: its findings with their places, and short gaps between them.

    Other words would distract a small encoder. Findings with a place come before those without, and present
    ones before absent ones. Words keep their order. A text without a finding keeps its words about sides, or
    its first words. A text that `fits` is returned unchanged.
    """
    if fits(text):
        return text
    text = text[:MOST]
    words = [match.span() for match in _WORD.finditer(text)]
    ends = [end for _, end in words]
    starts = [start for start, _ in words]
    kept: set[int] = set()
    for spans in _statements(text, parser):
        more = kept.union(*(range(bisect_right(ends, a), bisect_left(starts, b)) for a, b in spans))
        if fits(_joined(text, words, more)):
            kept = more
    gaps = [n for n in range(len(words)) if n not in kept and (not kept or _gap(n, kept) <= GAP)]
    low, high = 0, len(gaps)
    while low < high:  # the largest number of further words that fits
        middle = (low + high + 1) // 2
        if fits(_joined(text, words, kept | {*gaps[:middle]})):
            low = middle
        else:
            high = middle - 1
    return _joined(text, words, kept | {*gaps[:low]})


def _statements(text: str, parser: Parser) -> Iterator[list[Span]]:
    """Yield the spans of each finding with its place and cue, the most important first.

    Then those of other places, and of words about sides.
    """
    regions: list[str] = []
    found: list[Triplet] = []
    places: list[Span] = []
    for start, end in split_sentences(text, 0, len(text)):
        triplets, regions = parser.read(text, start, end, regions)
        found += triplets
        reading = parser.analyse(text[start:end], start)
        places += [(reading.starts[each.i], reading.ends[each.j - 1]) for each in reading.places]
    for each in sorted(found, key=lambda each: (each.region is None, _STRENGTH[each.existence])):
        yield [span for span in (each.finding_span, each.region_span, each.cue_span) if span is not None]
    yield from ([place] for place in places)
    yield from ([match.span()] for match in _SIDE.finditer(text))


def _gap(number: int, kept: set[int]) -> float:
    """Return the number of words between the kept words before and after this one."""
    before = max((each for each in kept if each < number), default=-math.inf)
    return min((each for each in kept if each > number), default=math.inf) - before - 1


def _joined(text: str, words: list[Span], kept: set[int]) -> str:
    return " ".join(text[words[n][0] : words[n][1]] for n in sorted(kept))
