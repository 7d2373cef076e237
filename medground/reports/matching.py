"""The longest phrases of a lexicon in a sentence."""

from typing import Any

from medground.reports.lexicon import Trie


def match(trie: Trie, words: list[str]) -> dict[str, list[tuple[int, int, Any]]]:
    """The longest phrases of the trie, left to right, by kind: lists of (i, j, value) for words [i, j)."""
    found: dict[str, list[tuple[int, int, Any]]] = {}
    free, count = 0, len(words)
    for n in [n for n, word in enumerate(words) if word in trie]:
        if n < free:
            continue
        node = trie[words[n]]
        end = best = n + 1
        roles = node.get("")
        while end < count and (node := node.get(words[end])) is not None:
            end += 1
            if "" in node:
                roles, best = node[""], end
        if roles is None:
            continue
        for kind, value in roles:
            if kind in found:
                found[kind].append((n, best, value))
            else:
                found[kind] = [(n, best, value)]
        free = best
    return found
