"""Tries of words: a dict from word to node, with the roles of a phrase under "" of its last node."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, product
from typing import Any

from medground.reports.tokens import words_of
from medground.reports.wordlists import words as word_tables

Trie = dict[str, Any]
Roles = tuple[tuple[str, Any], ...]
_GROUP = re.compile(r"\(([^()]*\|[^()]*)\)")
_GLUED = re.compile(r"[^\s(|]\([^()]*\||\|[^()]*\)[^\s|)]")  # an alternative that is a part of a word
_BRITISH = {each: tuple(other.split()) for each, other in word_tables()["spelling"]["british"].items()}
_IRREGULAR: dict[str, str] = word_tables()["spelling"]["plurals"]


def spellings(pattern: str) -> Iterator[tuple[str, ...]]:
    """Yield every phrase that a pattern generates, as words: "(a|b) c" gives a c and b c."""
    seen = dict.fromkeys(tuple(chain(*choice)) for choice in product(*_choices(pattern)))
    yield from (each for each in seen if each)


def _choices(pattern: str) -> list[list[tuple[str, ...]]]:
    """Return the alternatives of each part of a pattern, as words."""
    parts = [part.split("|") if n % 2 else [part] for n, part in enumerate(_GROUP.split(pattern))]
    if _GLUED.search(pattern):
        parts = [["".join(choice) for choice in product(*parts)]]
    return [[words_of(each) for each in part] for part in parts]


def _plural(word: str) -> str | None:
    """Return the plural of the last word of a phrase; None if the word has none."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 2 and word.isalpha() and not word.endswith("s"):
        return word + ("es" if word.endswith(("x", "ch", "sh")) else "s")
    return None


def _british(phrase: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for word in phrase for part in _BRITISH.get(word, (word,)))


def variants(phrase: tuple[str, ...], plural: bool) -> Iterator[tuple[str, ...]]:
    """Yield the phrase in both spellings and, with `plural`, with its last word in the plural."""
    for each in dict.fromkeys((phrase, _british(phrase))):
        yield each
        if plural and (many := _plural(each[-1])):
            yield (*each[:-1], many)


def ends(trie: Trie, pattern: str, british: bool = False, plural: bool = False) -> list[Trie]:
    """Add a pattern's phrases to the trie, also their variants; return the nodes at their ends, each once."""
    choices = _choices(pattern)
    spelled = [choices]
    if british and not _BRITISH.keys().isdisjoint(word for part in choices for each in part for word in each):
        spelled.append([[_british(each) for each in part] for part in choices])
    found: dict[int, Trie] = {}
    for parts in spelled:
        paths: dict[int, tuple[Trie, Trie, str]] = {id(trie): (trie, trie, "")}
        for part in parts:
            paths = {id(path[0]): path for path in _longer(paths, part)}
        for node, parent, word in paths.values():
            if word:
                found[id(node)] = node
            if plural and word and (many := _plural(word)):
                node = parent.setdefault(many, {})
                found[id(node)] = node
    return list(found.values())


def _longer(paths: dict[int, tuple[Trie, Trie, str]], part: list[tuple[str, ...]]) -> Iterator[Any]:
    """Yield each (node, its parent, last word) with each of the alternatives added."""
    for node, parent, word in paths.values():
        for words in part:
            last = node, parent, word
            for each in words:
                last = last[0].setdefault(each, {}), last[0], each
            yield last


def add(node: Trie, role: tuple[str, Any] | None) -> None:
    """Add a role to the end of a phrase; None: the phrase has no role, and hides the words inside it."""
    roles = node.get("", ())
    if not roles or role is None:
        node[""] = roles if role is None else (role,)
    elif role not in roles:
        node[""] = tuple(sorted((*roles, role), key=lambda each: each[0]))


def claim(node: Trie, role: tuple[str, Any] | None) -> None:
    """Make the end of a phrase one of a finding; it replaces an earlier finding with the same words."""
    if roles := node.get(""):
        roles = tuple(each for each in roles if each[0] != "F")
    node[""] = (roles or ()) if role is None else (*(roles or ()), role)


def end(trie: Trie, words: Iterable[str]) -> Trie:
    """Add a phrase to the trie, and return the node at its end."""
    for word in words:
        trie = trie.setdefault(word, {})
    return trie


def vocabulary(trie: Trie) -> set[str]:
    """Return every word of a trie."""
    found: set[str] = set()
    nodes = [trie]
    while nodes:
        node = nodes.pop()
        found.update(node)
        nodes += [below for word, below in node.items() if word and (len(below) > 1 or "" not in below)]
    found.discard("")
    return found
