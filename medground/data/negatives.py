"""What there is nothing to show for on an image: phrases denied, and findings that it does not have.

Words alone must not tell. Were phrases of what is there asked in full, and what is absent by bare names or
behind a "no" alone, a network would learn manners of asking and need not look. So what a report denies is
asked in the words of other patients' phrases, and a phrase is asked of the other side where that side is free
of it. (`rewording` asks for what is there by its bare name.)

What a report says of one side it leaves unsaid of the other where there is nothing: that is how radiologists
write, and an assumption here. A finding without a side anywhere in the report is never asked of another one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from random import Random

from medground.data.examples import Example, Query
from medground.records import Triplet
from medground.reports.laterality import side_of_region, swap
from medground.reports.negation import negated_forms
from medground.reports.parser import Parser

MOST_FOREIGN = 6  # phrases of other patients for each finding that an image does not have
Phrases = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Account:
    """What the phrases and the report of an image say of findings.

    sides: of each finding that is there, or may be, "left", "right" or "" for anywhere else; absent: those
    that the report denies, while nothing affirms them, sorted.
    """

    sides: Mapping[str, frozenset[str]]
    absent: tuple[str, ...] = ()

    def swapped(self, text: str, parser: Parser) -> str | None:
        """The text with the other side, where its side alone has what it names; else None."""
        said = _read(text, parser)
        sides = {side_of_region(each.region) for each in said}
        one_sided = len(sides) == 1 and "" not in sides
        if not one_sided or any(self.sides.get(each.finding) != sides for each in said):
            return None
        return swap(text)


def findings(texts: Iterable[str], parser: Parser) -> set[str]:
    """The findings that these texts name."""
    return {each.finding for text in texts for each in _read(text, parser)}


def accounts(examples: Iterable[Example], rehearsal: Iterable[Example], parser: Parser) -> list[Account]:
    """The account of each example's image; its report is that of the example of `rehearsal` with its id."""
    reports = {each.image_id: each for each in rehearsal}
    return [_account(each, reports.get(each.image_id), parser) for each in examples]


def _account(example: Example, reported: Example | None, parser: Parser) -> Account:
    asked = [text for query in example.sentences for text in query.texts]
    texts = [*asked, *(reported.report if reported else ())]
    sides: dict[str, set[str]] = defaultdict(set)
    for each in chain.from_iterable(_read(text, parser) for text in texts):
        if each.existence != "absent":
            sides[each.finding].add(side_of_region(each.region))
    absent = denied(reported) if reported else ()
    return Account(
        {name: frozenset(each) for name, each in sides.items()},
        tuple(name for name in absent if name not in sides),
    )


def denied(example: Example) -> tuple[str, ...]:
    """The findings that the image's report says are absent, sorted."""
    return tuple(sorted(name for name, said in example.findings.items() if said == "absent"))


def deny(
    examples: Sequence[Example], rehearsal: Sequence[Example], known: Sequence[Account], parser: Parser
) -> None:
    """Give phrases with boxes what there is nothing to show for on their image, each kind as often.

    Those of `examples`, whose accounts are `known`, get their negated forms. They and those of `rehearsal`
    get what their image does not have, in the words of the phrases of `examples`.
    """
    phrases = _phrases_of(examples, parser)
    theirs = accounts(rehearsal, rehearsal, parser)
    for group, told, negated in ((examples, known, True), (rehearsal, theirs, False)):
        for example, account in zip(group, told, strict=True):
            foreign = _foreign(account, phrases, example.image_id)
            example.sentences = [
                _with_denials(query, account, foreign, parser, negated) if query.boxes else query
                for query in example.sentences
            ]


def _with_denials(
    query: Query, account: Account, foreign: Sequence[str], parser: Parser, negated: bool
) -> Query:
    own = list(dict.fromkeys(query.texts))
    forms = [form for text in own for form in negated_forms(text, parser)] if negated else []
    other = [swapped for text in own if (swapped := account.swapped(text, parser)) is not None]
    return replace(query, denials=_as_often(forms, other, foreign))


def _as_often(*groups: Sequence[str]) -> tuple[str, ...]:
    """The texts of the groups, those of smaller groups again until all are as large."""
    most = max(map(len, groups))
    return tuple(group[n % len(group)] for group in groups if group for n in range(most))


def _phrases_of(examples: Iterable[Example], parser: Parser) -> Phrases:
    """finding -> the texts of phrases with boxes that speak of it alone, each as often as it would be asked:
    wordings that were rarer among what is there than among what is not would tell the two apart."""
    found: dict[str, list[str]] = defaultdict(list)
    for query in chain.from_iterable(each.sentences for each in examples):
        for text in query.texts if query.boxes else ():
            if len(names := findings([text], parser)) == 1:
                found[names.pop()].append(text)
    return found


def _foreign(account: Account, phrases: Phrases, image_id: str) -> list[str]:
    """What other patients have and this image does not, as their phrases say it; the same texts for the same
    image. What no phrase has anywhere is not asked: its words alone would tell."""
    found = []
    for name in account.absent:
        theirs = phrases.get(name, ())
        found += Random(f"{image_id} {name}").sample(theirs, min(MOST_FOREIGN, len(theirs)))
    return found


@lru_cache(maxsize=65_536)  # reports repeat sentences
def _read(text: str, parser: Parser) -> tuple[Triplet, ...]:
    return tuple(parser.read(text, 0, len(text), [])[0])
