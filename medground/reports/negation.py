"""Negated forms of a phrase: "left pleural effusion" -> "no left pleural effusion", ...

`negated_forms` fills templates and keeps only the forms that the parser finds negated. `negate` and
`negate_held_out` return one form without a parser; that of the latter is held out from training.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from medground.reports import held_out

if TYPE_CHECKING:
    from medground.reports.parser import Parser

# "There is a small effusion" -> "a small effusion"
_OPENING: Final = re.compile(
    r"(?:there (?:is|are)(?: also| now| again)?|(?:redemonstration|evidence|presence) of)\s+", re.IGNORECASE
)
_ARTICLE: Final = re.compile(r"(?:an?|the|some)\s+", re.IGNORECASE)
_COPULA: Final = re.compile(r"\b(?:is|are)\b", re.IGNORECASE)
_VERB: Final = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|appears?|remains?|demonstrates?)\b", re.IGNORECASE
)
_PLURAL: Final = re.compile(r"(?<![sui])s$")
_NO_NOUN: Final = {
    "in",
    "at",
    "on",
    "of",
    "over",
    "along",
    "with",
    "within",
    "throughout",
    "near",
    "overlying",
    ",",
}


_ALREADY_NEGATED: Final = re.compile(
    r"\b(no|not|non|without|absent|absence|resolved|clear|free|never|negative|normal|unremarkable)\b", re.I
)
_ANY_VERB: Final = re.compile(r"\b(is|are|was|were|has|have)\b", re.I)
_OPENING_AND_ARTICLE: Final = re.compile(r"^\s*(there (?:is|are)\s+)?(?:(?:an?|the|some)\s+)?", re.I)


def negate(text: str) -> str | None:
    """Return the negated phrase: "small effusion" becomes "no small effusion"; None if already negated."""
    split = _opening_and_rest(text)
    return None if split is None else f"{split[0]}no {split[1]}"


def negate_held_out(text: str) -> str | None:
    """Return the phrase negated in words that training never uses; None also for a sentence with a verb."""
    split = _opening_and_rest(text)
    return None if split is None or _ANY_VERB.search(split[1]) else f"{held_out.NEGATION} {split[1]}"


def _opening_and_rest(text: str) -> tuple[str, str] | None:
    """Return ("There is " or "", the rest without its article, in lower case first); None if negated."""
    if _ALREADY_NEGATED.search(text) or not text.strip():
        return None
    opening = _OPENING_AND_ARTICLE.match(text)
    assert opening is not None  # every part of the pattern is optional
    rest = text[opening.end() :]
    if rest[1:2].islower():  # a word, not an abbreviation
        rest = rest[:1].lower() + rest[1:]
    return opening[1] or "", rest


def negated_forms(phrase: str, parser: "Parser") -> tuple[str, ...]:
    """Return the negated forms that the parser understands, each once, in the order of the templates.

    A form is kept if the parser finds the phrase's findings in it, and all of them absent. A phrase without
    findings, or with an absent or uncertain one, has no forms.
    """
    stated = parser.read(phrase, 0, len(phrase), [])[0]
    if not stated or any(each.existence != "present" for each in stated):
        return ()
    wanted = {each.finding for each in stated}
    return tuple(form for form in dict.fromkeys(_forms(phrase)) if _absent_in(form, parser) == wanted)


def _absent_in(form: str, parser: "Parser") -> set[str]:
    """Return the findings that are absent in a form; empty if any finding is not absent."""
    triplets = parser.read(form, 0, len(form), [])[0]
    all_absent = all(each.existence == "absent" for each in triplets)
    return {each.finding for each in triplets} if all_absent else set()


def _forms(phrase: str) -> Iterator[str]:
    words = " ".join(phrase.split()).rstrip(" .;,")
    bare = _OPENING.sub("", words, count=1) if _OPENING.match(words) else words
    verbs = _VERB.findall(bare)
    if verbs:  # a whole sentence: only its verb can be negated
        if len(verbs) == 1 and (copula := _COPULA.search(bare)):
            yield f"{bare[: copula.end()]} not{bare[copula.end() :]}"
        return
    noun = _low(_ARTICLE.sub("", bare, count=1) if _ARTICLE.match(bare) else bare)
    be = "are" if _is_plural(noun) else "is"
    listed = re.sub(r"\band\b", "or", noun)
    yield f"no {listed}"
    yield f"without {listed}"
    yield f"there {be} no {listed}"
    yield f"no evidence of {listed}"
    if listed == noun:
        yield f"{noun} {be} not seen"
        yield f"{noun} {be} absent"


def _low(words: str) -> str:
    """Return the words with a lower-case first letter, except for abbreviations."""
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


def _is_plural(noun: str) -> bool:
    """Return whether the head, the word before the first preposition, is a plural."""
    words = noun.split()
    end = next((n for n, word in enumerate(words) if word in _NO_NOUN), len(words))
    return bool(_PLURAL.search(words[max(0, end - 1)]))
