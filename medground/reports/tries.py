"""Tries of words: a dict from word to node, with the roles of a phrase under "" of its last node."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from medground.reports.tokens import words_of
from medground.reports.wordlists import words as word_tables

Trie = dict[str, Any]
Roles = tuple[tuple[str, Any], ...]
_GROUP = re.compile(r"\(([^()]*\|[^()]*)\)")
_BRITISH = {each: tuple(other.split()) for each, other in word_tables()["spelling"]["british"].items()}
_IRREGULAR: dict[str, str] = word_tables()["spelling"]["plurals"]


def spellings(pattern: str) -> Iterator[tuple[str, ...]]:
    """Yield every phrase that a pattern generates, as words: "(a|b) c" gives a c and b c."""
    parts = _GROUP.split(pattern)
    choices = [part.split("|") if n % 2 else [part] for n, part in enumerate(parts)]
    seen = dict.fromkeys(words_of("".join(choice)) for choice in product(*choices))
    yield from (each for each in seen if each)


def _plural(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def variants(phrase: tuple[str, ...], plural: bool) -> Iterator[tuple[str, ...]]:
    """Yield the phrase in both spellings and, with `plural`, with its last word in the plural."""
    other = tuple(part for word in phrase for part in _BRITISH.get(word, (word,)))
    for each in dict.fromkeys((phrase, other)):
        yield each
        if plural and len(each[-1]) > 2 and each[-1].isalpha() and not each[-1].endswith("s"):
            yield (*each[:-1], _plural(each[-1]))
        elif plural and each[-1] in _IRREGULAR:
            yield (*each[:-1], _IRREGULAR[each[-1]])


def add(trie: Trie, words: tuple[str, ...], role: tuple[str, Any] | None) -> None:
    """Add a role to a phrase; None makes it a phrase without a role, which hides the words inside it."""
    for word in words:
        trie = trie.setdefault(word, {})
    roles = trie.get("", ())
    if role is None:
        trie[""] = roles
    elif role not in roles:
        trie[""] = tuple(sorted((*roles, role), key=lambda each: each[0]))


def claim(trie: Trie, words: tuple[str, ...], role: tuple[str, Any] | None) -> None:
    """Add a finding's phrase; it replaces an earlier finding with the same words."""
    for word in words:
        trie = trie.setdefault(word, {})
    others = tuple(each for each in trie.get("", ()) if each[0] != "F")
    trie[""] = others if role is None else (*others, role)


def roles_of(trie: Trie, words: tuple[str, ...]) -> Roles | None:
    """Return the roles of a phrase; None if the trie does not have it."""
    node: Trie | None = trie
    for word in words:
        node = node.get(word) if node is not None else None
    return node.get("") if node is not None else None
