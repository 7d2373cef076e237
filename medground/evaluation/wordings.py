"""Synonyms of a phrase's finding, for probes. Texts in, texts out; None if there is nothing to replace.

`synonym` uses names of most reports and of `--paraphrases`; those of `new_synonym` are held out from training
(`reports.held_out`).
"""

import re
import tomllib
from functools import lru_cache
from importlib.resources import files

from medground.reports import held_out


def synonym(text: str) -> str | None:
    """The phrase with its first finding under another name, from `synonyms.toml`; None for one not there."""
    return _exchanged(text, _synonyms())


def new_synonym(text: str) -> str | None:
    """The same, by a name that no paraphrase of fine-tuning holds."""
    return _exchanged(text, _new_synonyms())


Exchange = tuple[re.Pattern[str], dict[str, str]]


def _exchanged(text: str, exchange: Exchange) -> str | None:
    pattern, other_of = exchange
    match = pattern.search(text)
    return None if match is None else text[: match.start()] + other_of[_plain(match[0])] + text[match.end() :]


def _plain(words: str) -> str:
    return re.sub(r"\s+", " ", words.lower())


@lru_cache(maxsize=1)
def _synonyms() -> Exchange:
    return _exchange({name: other for names in table().values() for name, other in names.items()})


@lru_cache(maxsize=1)
def _new_synonyms() -> Exchange:
    return _exchange(held_out.names())


def _exchange(names: dict[str, str]) -> Exchange:
    """What finds any of the names, the longest first, and the name that stands for each."""
    longest = sorted(names, key=lambda name: (-len(name), name))
    words = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in longest)
    return re.compile(rf"\b(?:{words})\b", re.I), names


def table() -> dict[str, dict[str, str]]:
    """finding -> name -> another name that means the same and fits into the same place of a sentence."""
    return tomllib.loads(files("medground.evaluation").joinpath("synonyms.toml").read_text(encoding="utf-8"))
