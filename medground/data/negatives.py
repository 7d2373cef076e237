"""Negative phrases for fine-tuning: negated phrases, and phrases about findings absent from the image.

Positives and negatives must be phrased alike, so that a model cannot separate them by the text. So a
finding that the report states as absent is queried with phrases of other patients. A phrase is also swapped
to the other side if the finding is absent there. (`paraphrasing` adds bare names of findings as positives.)

If a report mentions a finding on one side only, the other side is assumed to be free of it: radiologists
write so. A finding with any mention without a side is never swapped.
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

MOST_FOREIGN = 6  # phrases of other patients per absent finding
Phrases = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Account:
    """The findings of an image, from its phrases and report.

    sides: of each present or uncertain finding: "left", "right", or "" for elsewhere. absent: findings that
    the report states as absent and that no phrase mentions as present, sorted.
    """

    sides: Mapping[str, frozenset[str]]
    absent: tuple[str, ...] = ()

    def swapped(self, text: str, parser: Parser) -> str | None:
        """Return the text with the other side, if its findings are on its side only; else None."""
        triplets = _parse(text, parser)
        sides = {side_of_region(each.region) for each in triplets}
        one_sided = len(sides) == 1 and "" not in sides
        if not one_sided or any(self.sides.get(each.finding) != sides for each in triplets):
            return None
        return swap(text)


def findings(texts: Iterable[str], parser: Parser) -> set[str]:
    """Return the findings that these texts mention."""
    return {each.finding for text in texts for each in _parse(text, parser)}


def accounts(examples: Iterable[Example], rehearsal: Iterable[Example], parser: Parser) -> list[Account]:
    """Return the account of each example; its report is in the example of `rehearsal` with its image_id."""
    reports = {each.image_id: each for each in rehearsal}
    return [_account(each, reports.get(each.image_id), parser) for each in examples]


def _account(example: Example, reported: Example | None, parser: Parser) -> Account:
    queried = [text for query in example.sentences for text in query.texts]
    texts = [*queried, *(reported.report if reported else ())]
    sides: dict[str, set[str]] = defaultdict(set)
    for each in chain.from_iterable(_parse(text, parser) for text in texts):
        if each.existence != "absent":
            sides[each.finding].add(side_of_region(each.region))
    absent = denied(reported) if reported else ()
    return Account(
        {name: frozenset(each) for name, each in sides.items()},
        tuple(name for name in absent if name not in sides),
    )


def denied(example: Example) -> tuple[str, ...]:
    """Return the findings that the image's report states as absent, sorted."""
    return tuple(sorted(name for name, existence in example.findings.items() if existence == "absent"))


def deny(
    examples: Sequence[Example], rehearsal: Sequence[Example], known: Sequence[Account], parser: Parser
) -> None:
    """Add negatives to phrases with boxes, equally many of each kind.

    Phrases of `examples`, with accounts `known`, get their negated forms. Phrases of `examples` and
    `rehearsal` get findings absent from their image, in the words of the phrases of `examples`.
    """
    phrases = _phrases_of(examples, parser)
    theirs = accounts(rehearsal, rehearsal, parser)
    for group, group_accounts, negated in ((examples, known, True), (rehearsal, theirs, False)):
        for example, account in zip(group, group_accounts, strict=True):
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
    """Return the texts of the groups; smaller groups are repeated to the size of the largest."""
    most = max(map(len, groups))
    return tuple(group[n % len(group)] for group in groups if group for n in range(most))


def _phrases_of(examples: Iterable[Example], parser: Parser) -> Phrases:
    """Return the texts of phrases with boxes about a single finding, by finding.

    Texts are repeated as often as they are queried, so that positives and negatives have the same
    frequencies.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for query in chain.from_iterable(each.sentences for each in examples):
        for text in query.texts if query.boxes else ():
            if len(names := findings([text], parser)) == 1:
                found[names.pop()].append(text)
    return found


def _foreign(account: Account, phrases: Phrases, image_id: str) -> list[str]:
    """Return phrases of other patients about findings absent from this image; the same for the same image.

    Findings without any phrase are left out, as they would have no positives.
    """
    found = []
    for name in account.absent:
        theirs = phrases.get(name, ())
        found += Random(f"{image_id} {name}").sample(theirs, min(MOST_FOREIGN, len(theirs)))
    return found


@lru_cache(maxsize=65_536)  # reports repeat sentences
def _parse(text: str, parser: Parser) -> tuple[Triplet, ...]:
    return tuple(parser.read(text, 0, len(text), [])[0])
