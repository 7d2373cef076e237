"""Longest matches of a lexicon's phrases in a sentence."""

from typing import Any

from medground.reports.tries import Roles, Trie


def match(trie: Trie, words: list[str]) -> list[tuple[int, int, Roles]]:
    """Return (i, j, roles) of the trie's longest phrases at words [i, j), from left to right."""
    found: list[tuple[int, int, Roles]] = []
    free, size = 0, len(words)
    for n in [n for n, word in enumerate(words) if word in trie]:
        if n < free:
            continue
        node: Trie = trie[words[n]]
        end = best = n + 1
        roles = node.get("")
        while end < size:
            below: Trie | None = node.get(words[end])
            if below is None:
                break
            node = below
            end += 1
            if "" in node:
                roles, best = node[""], end
        if roles is not None:
            found.append((n, best, roles))
            free = best
    return found


def by_kind(matches: list[tuple[int, int, Roles]]) -> dict[str, list[tuple[int, int, Any]]]:
    """Return the matches by kind of role: lists of (i, j, value)."""
    found: dict[str, list[tuple[int, int, Any]]] = {}
    for i, j, roles in matches:
        for kind, value in roles:
            if kind in found:
                found[kind].append((i, j, value))
            else:
                found[kind] = [(i, j, value)]
    return found


def in_order(matches: list[tuple[int, int, Roles]]) -> list[tuple[int, int, str, Any]]:
    """Return (i, j, kind, value) for each role of each match."""
    return [(i, j, kind, value) for i, j, roles in matches for kind, value in roles]
