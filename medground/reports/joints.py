"""Joints of clauses: commas and "and" between two clauses that each have a finding and a verb."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

from medground.reports.wordlists import word_set

FINITE: Final = word_set("joints", "finite")
ADVERBS: Final = word_set("joints", "adverbs")
STOPS: Final = word_set("joints", "stops")
HAVE: Final = frozenset(("has", "have", "is", "are"))
VERBS: Final = HAVE | {"was", "were", "did", "do", "does"}
STATES: Final = VERBS | word_set("states", "copulas") | word_set("linking", "shows") | {"persists", "persist"}
JOINS: Final = frozenset(("or", "nor", "and", "/"))
SINGULAR: Final = frozenset(("is", "has", "was"))
CAN: Final = frozenset(("can", "cannot", "could", "may", "might"))
ASSERTING: Final = word_set("existence", "asserting") | {"new", "interval", "development"}
BARE: Final = frozenset(("absent", "not", "resolved", "cleared", "gone"))
DOUBTED: Final = frozenset(
    ("possible", "probable", "likely", "suspected", "new", "greater", "larger", "more")
)
CERTAIN: Final = ASSERTING - word_set("existence", "sizes") | {"no", "without"}
NOTHING: Final[frozenset[str]] = frozenset()
UNLESS: Final = frozenset(("if", "whether", "when"))
# Nothing that is denied does these: "no infiltrate, opacities suggest edema".
ASSERTS: Final = frozenset(
    ("suggest", "suggests", "may", "might", "could", "persist", "persists", "remain", "remains")
)
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
            and UNLESS.isdisjoint(words[floor:n])
            and _opens(words, ordered, starts, first, FINITE if _has(verbs, floor, n) else ASSERTS)
        ):
            found.append(n)
            floor = first
    return found


def _has(places: list[int], start: int, end: int) -> bool:
    """Return whether one of the sorted places is in [start, end)."""
    n = bisect_left(places, start)
    return n < len(places) and places[n] < end


def _opens(
    words: list[str], spots: list[tuple[int, int]], starts: list[int], first: int, verbs: frozenset[str]
) -> bool:
    """Return whether a finding and then one of these verbs follow, from word `first` on."""
    n = bisect_left(starts, first)
    if n == len(spots) or spots[n][0] > first + OPENING:
        return False
    i, j = spots[n]
    if any(word in FINITE or word in STOPS for word in words[first:i]):
        return False
    after = words[j : j + FAR]
    return next((word in verbs for word in after if word in FINITE or word in STOPS), False)


def own_clause(words: list[str], has_finding: Callable[[int, int], bool], before: int, i: int) -> int | None:
    """Return the start of the last clause before word i, if one with a verb of its own precedes it.

    "The heart is enlarged and pneumothorax is not seen" denies the second finding only.
    """
    for n in range(i - 1, before, -1):
        if words[n] in ("and", ",") and has_finding(n + 1, i):
            apart = not STATES.isdisjoint(words[before:n]) or _is_pair(words, before, n, i)
            return n + 1 if apart and has_finding(before, n) else None
    return None


def _is_pair(words: list[str], before: int, n: int, i: int) -> bool:
    """Return whether "and" or a comma at word n joins no list: "new edema, and effusion is not seen".

    A list of two has no comma before "and" and none of "also" and "now" after it. A predicate in the
    singular is about the second finding only if the first has a modifier: "stable edema and effusion is".
    """
    if not JOINS.isdisjoint(words[before:n]):
        return False
    if words[n] == ",":
        return words[i] in SINGULAR | BARE and not (ASSERTING | DOUBTED).isdisjoint(words[before:n])
    commas = words[before:n].count(",")
    if commas + (words[n + 1] in ADVERBS) and commas <= (words[n - 1] == ","):
        return True
    said = CERTAIN if words[i] in CAN else ASSERTING if words[i] in SINGULAR else NOTHING
    return not commas and not said.isdisjoint(words[before:n])
