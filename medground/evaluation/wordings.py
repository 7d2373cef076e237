"""A phrase said otherwise, for probes: its negation, a synonym. Texts in, texts out.

Each function gives None where the phrase has nothing to change, or where a change would make no sense.
`negated` and `synonym` use wordings of most reports, of `finetune --negative-prob` and of `--paraphrases`;
the wordings of `newly_negated` and `new_synonym` are held out from both (`reports.held_out`).
"""

import re
import tomllib
from functools import lru_cache
from importlib.resources import files

from medground.reports import held_out

_NEGATED = re.compile(
    r"\b(no|not|non|without|absent|absence|resolved|clear|free|never|negative|normal|unremarkable)\b", re.I
)
_VERB = re.compile(r"\b(is|are|was|were|has|have)\b", re.I)
_OPENING = re.compile(r"^\s*(there (?:is|are)\s+)?(?:(?:an?|the|some)\s+)?", re.I)


def negated(text: str) -> str | None:
    """The phrase denied: "small effusion" becomes "no small effusion"; None for one that denies already."""
    parts = _parts(text)
    return None if parts is None else f"{parts[0]}no {parts[1]}"


def newly_negated(text: str) -> str | None:
    """The phrase denied in words that fine-tuning does not use; None for a sentence with a verb, too."""
    parts = _parts(text)
    return None if parts is None or _VERB.search(parts[1]) else f"{held_out.NEGATION} {parts[1]}"


def _parts(text: str) -> tuple[str, str] | None:
    """("There is " or "", the rest without its article, small letter first); None where it denies already."""
    if _NEGATED.search(text) or not text.strip():
        return None
    opening = _OPENING.match(text)
    assert opening is not None  # every part of the pattern may be missing
    rest = text[opening.end() :]
    if rest[1:2].islower():  # a word, not an abbreviation
        rest = rest[:1].lower() + rest[1:]
    return opening[1] or "", rest


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
