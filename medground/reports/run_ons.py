"""Sentences that run on without a full stop: "no pneumothorax the heart is enlarged".

A clause is complete after a finding, a predicate state ("heart is enlarged") or a word such as "seen". If no
conjunction follows, a new clause begins before "the" or "no", and before a structure with its own predicate.
After a negation it also begins before a finding with a modifier ("mild edema").
"""

from typing import Any

from medground.reports.existence import CLOSERS, HARD, SOFT
from medground.reports.wordlists import word_set

Tags = dict[str, list[Any]]
OPENERS = word_set("run_ons", "openers")
SEEN = word_set("run_ons", "seen")
BETWEEN = word_set("run_ons", "between")
MODIFIERS = word_set("run_ons", "modifiers") | SOFT
TRAILING = word_set("run_ons", "trailing")
NEAR = 8


def find_run_ons(words: list[str], tags: Tags, devices: frozenset[str]) -> list[int]:
    """Return the words that begin a clause without a separator before them, in order.

    `devices` are the names of lines, tubes and devices: another finding directly before one is no compound.
    """
    findings = {i: (j, name) for i, j, name in tags.get("F", ())}
    structures = {i: j for i, j, _ in tags.get("S", ()) if i not in findings}
    states = {i: j for i, j, _ in tags.get("T", ())}
    negations = {i for i, _, _ in tags.get("N", ())}
    done = _complete(words, findings, structures, states)
    found: list[int] = []
    for n in sorted(done):
        while n < len(words) and words[n] in TRAILING:
            n += 1
        if n >= len(words) or n in found:
            continue
        if words[n] in OPENERS:
            begins = n in done
        elif n in negations and words[n] == "no":
            begins = any(n < i <= n + NEAR for i in findings)
        else:
            begins = _begins(words, n, findings, structures, states, devices, bool(negations))
        if begins:
            found.append(n)
    return found


def _complete(
    words: list[str],
    findings: dict[int, tuple[int, str]],
    structures: dict[int, int],
    states: dict[int, int],
) -> set[int]:
    """Return the places after findings, predicate states and words such as "seen" after them."""
    ends = {j for j, _ in findings.values()}
    for i, j in states.items():
        k = i
        while k and words[k - 1] in BETWEEN:
            k -= 1
        if k in structures.values() or k < i:
            ends.add(j)
    if ends:
        first = min(ends)
        ends |= {n + 1 for n, word in enumerate(words) if n >= first and word in SEEN}
    return ends


def _begins(
    words: list[str],
    n: int,
    findings: dict[int, tuple[int, str]],
    structures: dict[int, int],
    states: dict[int, int],
    devices: frozenset[str],
    negated: bool,
) -> bool:
    """Return whether the words from n on are a structure with its predicate, or a new finding."""
    k = n
    while k < len(words) and k not in findings and k not in structures and words[k] in MODIFIERS:
        k += 1
    if k in structures:
        end = structures[k]
        while end < len(words) and words[end] in BETWEEN:
            end += 1
        return end in states
    if k not in findings or not negated:
        return False
    end, name = findings[k]
    if name in devices:
        before = next((other for j, other in findings.values() if j == n), None)
        return before is not None and before not in devices and bool(BETWEEN & set(words[end : end + 2]))
    rest = words[n : next((m for m in range(n, len(words)) if words[m] in HARD), len(words))]
    return words[n] in SOFT and not CLOSERS & set(rest)


def with_stops(lists: tuple[list[str], list[int], list[int]], places: list[int]) -> None:
    """Insert a full stop without a length before each of these words."""
    words, starts, ends = lists
    for n in reversed(places):
        words.insert(n, ".")
        starts.insert(n, ends[n - 1])
        ends.insert(n, ends[n - 1])
