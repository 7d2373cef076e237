"""The longest phrases of a lexicon in a sentence."""

from medground.reports.lexicon import Trie


def match(trie: Trie, words: list[str]) -> dict[str, list]:
    """The longest phrases of the trie, left to right, by kind: lists of (i, j, value)."""
    found: dict[str, list] = {}
    n, count = 0, len(words)
    while n < count:
        node = trie.get(words[n])
        if node is None:
            n += 1
            continue
        end, roles, best = n + 1, node.get(""), n + 1
        while end < count and (node := node.get(words[end])) is not None:
            end += 1
            if "" in node:
                roles, best = node[""], end
        if roles is None:
            n += 1
            continue
        for kind, value in roles:
            found.setdefault(kind, []).append((n, best, value))
        n = best
    return found
