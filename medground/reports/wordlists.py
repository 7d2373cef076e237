"""The small sets of words that rules speak of, from lexicons/words.toml."""

import tomllib
from functools import lru_cache
from importlib import resources
from typing import Any


def read_table(name: str) -> dict[str, Any]:
    """One of the package's own lexicon files."""
    return tomllib.loads(resources.files("medground.reports").joinpath("lexicons", name).read_text("utf-8"))


@lru_cache(maxsize=1)
def words() -> dict[str, Any]:
    """The tables of words.toml, by room."""
    return read_table("words.toml")


def word_set(room: str, name: str) -> frozenset[str]:
    """One list of words.toml."""
    return frozenset(words()[room][name])
