"""Negated forms of a phrase: "left pleural effusion" -> "no left pleural effusion", ...

The forms are templates around the phrase; the parser is their judge: a form stays only where it finds what
the phrase has, and finds all of it absent. Phrases that state nothing, deny or doubt have no forms.
"""

import re
from collections.abc import Iterator

from medground.reports.parser import Parser

# "There is a small effusion" -> "a small effusion"
_OPENING = re.compile(
    r"(?:there (?:is|are)(?: also| now| again)?|(?:redemonstration|evidence|presence) of)\s+", re.IGNORECASE
)
_ARTICLE = re.compile(r"(?:an?|the|some)\s+", re.IGNORECASE)
_COPULA = re.compile(r"\b(?:is|are)\b", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|appears?|remains?|demonstrates?)\b", re.IGNORECASE
)
_PLURAL = re.compile(r"(?<![sui])s$")
_NO_NOUN = {"in", "at", "on", "of", "over", "along", "with", "within", "throughout", "near", "overlying", ","}


def denials(phrase: str, parser: Parser) -> tuple[str, ...]:
    """The negated forms that the parser understands, each once, in the order of the templates."""
    stated = parser.read(phrase, 0, len(phrase), [])[0]
    if not stated or any(each.existence != "present" for each in stated):
        return ()
    wanted = {each.finding for each in stated}
    return tuple(form for form in dict.fromkeys(_forms(phrase)) if _denied(form, parser) == wanted)


def _denied(form: str, parser: Parser) -> set[str]:
    """The findings that a form denies; empty where it says anything else too."""
    said = parser.read(form, 0, len(form), [])[0]
    return {each.finding for each in said} if all(each.existence == "absent" for each in said) else set()


def _forms(phrase: str) -> Iterator[str]:
    words = " ".join(phrase.split()).rstrip(" .;,")
    bare = _OPENING.sub("", words, count=1) if _OPENING.match(words) else words
    verbs = _VERB.findall(bare)
    if verbs:  # a whole sentence: its verb is what can be denied
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
    """The words with a small letter first, but for abbreviations."""
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


def _is_plural(noun: str) -> bool:
    """Whether its head, the word before the first preposition, is a plural."""
    words = noun.split()
    end = next((n for n, word in enumerate(words) if word in _NO_NOUN), len(words))
    return bool(_PLURAL.search(words[max(0, end - 1)]))
