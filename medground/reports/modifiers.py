"""Severity and change of findings, from words before a finding in its own phrase, or after it."""

from collections.abc import Iterable
from typing import Any

from medground.reports.ellipsis import Half
from medground.reports.existence import HARD
from medground.reports.linking import Mention

Tags = dict[str, list[Any]]
NEAR = 4


def modify(words: list[str], tags: Tags, mentions: list[Mention], halves: Iterable[Half]) -> None:
    """Set the severity and change of the mentions; words of a half belong to the half."""
    apart = {n for half in halves for n in range(half.start, half.end)}
    for kind in ("Q", "C"):
        for i, j, value in tags.get(kind, ()):
            owner = None if i in apart else _owner(words, mentions, i, j)
            if owner is not None:
                owner.modify(kind, value)


def _owner(words: list[str], mentions: list[Mention], i: int, j: int) -> Mention | None:
    """Return the mention of a modifier on words [i, j): the next of its phrase, else the one before."""
    for mention in mentions:
        if mention.i <= i and j <= mention.j:
            return mention
        if mention.i >= j:
            gap = words[j : mention.i]
            if len(gap) <= NEAR and not HARD & set(gap) and "," not in gap:
                return mention
            break
    earlier = [mention for mention in mentions if mention.j <= i]
    if earlier and not HARD & set(words[earlier[-1].j : i]):
        return earlier[-1]
    return None
