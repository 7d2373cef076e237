"""The same phrase in other words: "left pleural effusion" -> "left pleural fluid".

The lexicon knows many words for a finding; each is put in the place of those that stand there, and the parser
is the judge: a form stays only where it says the same finding, of the same region, as the phrase does.
A form with one of the names of `held_out` is left out: those are for probes.
"""

from functools import lru_cache

from medground.reports import held_out
from medground.reports.lexicon import spellings
from medground.reports.parser import Parser
from medground.reports.tokens import words_of


def paraphrases(phrase: str, parser: Parser, most: int) -> tuple[str, ...]:
    """At most so many other forms, spread evenly over the lexicon's; none where the phrase states nothing."""
    stated = parser.read(phrase, 0, len(phrase), [])[0]
    meant = _said(phrase, parser)
    forms: dict[str, None] = {}
    for triplet in stated:
        first, last = triplet.finding_span
        if tuple(words_of(phrase[first:last])) not in _words(parser, triplet.finding):
            continue  # a state such as "heart is enlarged": there is nothing to exchange as a whole
        for words in _words(parser, triplet.finding):
            form = f"{phrase[:first]}{' '.join(words)}{phrase[last:]}"
            if held_out.has_held_out(words) or form.lower() == phrase.lower():
                continue
            if _said(form, parser) == meant:
                forms[form] = None
    found = list(forms)
    return tuple(found[n * len(found) // most] for n in range(most)) if len(found) > most else tuple(found)


def _said(text: str, parser: Parser) -> set[tuple[str | None, str, str]]:
    triplets = parser.read(text, 0, len(text), [])[0]
    return {(each.region, each.finding, each.existence) for each in triplets}


@lru_cache(maxsize=1024)
def _words(parser: Parser, finding: str) -> tuple[tuple[str, ...], ...]:
    """All phrases for a finding, as words, in the lexicon's order."""
    known = parser.lexicon.findings.get(finding)
    patterns = known.words if known else ()
    return tuple(dict.fromkeys(words for pattern in patterns for words in spellings(pattern)))
