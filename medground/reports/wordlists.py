"""The small sets of words for the parser's rules, from lexicons/words.toml."""

import tomllib
from functools import lru_cache
from importlib import resources
from typing import Any


def read_table(name: str) -> dict[str, Any]:
    """Return one of the package's own lexicon files."""
    return tomllib.loads(read_text(name))


def read_text(name: str) -> str:
    """Return the text of one of the package's own lexicon files."""
    return resources.files("medground.reports").joinpath("lexicons", name).read_text("utf-8")


@lru_cache(maxsize=1)
def words() -> dict[str, Any]:
    """Return the tables of words.toml, by module."""
    return read_table("words.toml")


def word_set(room: str, name: str) -> frozenset[str]:
    """Return one list of words.toml."""
    return frozenset(words()[room][name])
