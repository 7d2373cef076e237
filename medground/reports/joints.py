"""Joints of clauses: commas and "and" between two clauses that each have a finding and a verb."""

from bisect import bisect_left
from collections.abc import Iterable

from medground.reports.wordlists import word_set

FINITE = word_set("joints", "finite")
ADVERBS = word_set("joints", "adverbs")
STOPS = word_set("joints", "stops")
UNLESS = frozenset(("if", "whether", "when"))
OPENING, FAR = 6, 8  # words before a clause's finding, and from there to its verb


def after_joint(words: list[str], n: int) -> int:
    """Return the first word of what a comma or "and" at word n joins, after "also" and "now"."""
    n += 1
    while n < len(words) and (words[n] == "and" or words[n] in ADVERBS):
        n += 1
    return n


def clause_joints(words: list[str], spots: Iterable[tuple[int, int]], hard: Iterable[int]) -> list[int]:
    """Return the words that join two clauses: "no nodule is seen, and edema is possible".

    `spots` are the findings, `hard` the words that end a clause in any case.
    """
    ordered = sorted(spots)
    if len(ordered) < 2 or FINITE.isdisjoint(words):
        return []
    starts = [i for i, _ in ordered]
    verbs = [n for n, word in enumerate(words) if word in FINITE]
    ends = frozenset(hard)
    found: list[int] = []
    floor = 0
    for n, word in enumerate(words):
        if n in ends:
            floor = n + 1
        if word not in (",", "and") or n <= floor:
            continue
        first = after_joint(words, n)
        if (
            _has(starts, floor, n)
            and _has(verbs, floor, n)
            and UNLESS.isdisjoint(words[floor:n])
            and _opens(words, ordered, starts, first)
        ):
            found.append(n)
            floor = first
    return found


def _has(places: list[int], start: int, end: int) -> bool:
    """Return whether one of the sorted places is in [start, end)."""
    n = bisect_left(places, start)
    return n < len(places) and places[n] < end


def _opens(words: list[str], spots: list[tuple[int, int]], starts: list[int], first: int) -> bool:
    """Return whether a finding and then its verb follow, from word `first` on."""
    n = bisect_left(starts, first)
    if n == len(spots) or spots[n][0] > first + OPENING:
        return False
    i, j = spots[n]
    if any(word in FINITE or word in STOPS for word in words[first:i]):
        return False
    after = words[j : j + FAR]
    return next((word in FINITE for word in after if word in FINITE or word in STOPS), False)
