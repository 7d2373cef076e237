"""Phrasings held out from generated training texts, for `evaluate --probes`.

`lexicons/held_out.toml` has names of findings that `paraphrase` never generates. `NEGATION` opens a form that
`negated_forms` never generates. A user's own training texts may contain both; they are not changed.
"""

from collections.abc import Sequence
from functools import lru_cache

from medground.reports.tokens import words_of
from medground.reports.wordlists import read_table

NEGATION = "negative for"


@lru_cache(maxsize=1)
def names() -> dict[str, str]:
    """Return, for each name as phrases have it, the held-out name of the same finding that can replace it."""
    return {name: other for table in read_table("held_out.toml").values() for name, other in table.items()}


def has_held_out(words: Sequence[str]) -> bool:
    """Return whether these words contain a held-out name."""
    return any(
        tuple(words[n : n + len(each)]) == each
        for each in _as_words()
        for n in range(len(words) - len(each) + 1)
    )


@lru_cache(maxsize=1)
def _as_words() -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(words_of(name)) for name in names().values())
