"""Paraphrases of the training phrases: from the lexicon, and bare names of findings."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain

from medground.data.examples import Example, Query
from medground.data.negatives import Account, findings
from medground.reports.paraphrase import paraphrases
from medground.reports.parser import Parser

Forms = Callable[[str], tuple[str, ...]]


def reword(
    examples: Iterable[Example], most: int, parser: Parser, accounts: Sequence[Account] | None = None
) -> None:
    """Add up to `most` paraphrases to each phrase; the phrase itself is sampled half of the time.

    accounts: one per example. With them, a phrase about a finding with a single location on its image also
    gets up to as many bare names of the finding, without a location.
    """
    forms_of = lru_cache(maxsize=65_536)(lambda text: paraphrases(text, parser, most))  # reports repeat texts
    for number, example in enumerate(examples):
        bare = _only_finding(example, accounts[number], parser) if accounts else {}
        example.sentences = [_in_other_words(query, forms_of, bare.get(query)) for query in example.sentences]


def _in_other_words(query: Query, forms_of: Forms, finding: str | None) -> Query:
    forms = tuple(form for text in query.texts for form in forms_of(text))
    if finding is not None:
        forms += (finding, *forms_of(finding))
    return replace(query, texts=query.texts * max(1, len(forms)) + forms)


def _only_finding(example: Example, account: Account, parser: Parser) -> dict[Query, str]:
    """Return the finding of each phrase with a box about a single finding.

    The finding must have one location on the image, and no other phrase may mention it.
    """
    mentioned = {query: findings(query.texts, parser) for query in example.sentences}
    times = Counter(chain.from_iterable(mentioned.values()))
    return {
        query: next(iter(names))
        for query, names in mentioned.items()
        if query.boxes
        and len(names) == 1
        and all(times[n] == len(account.sides.get(n, ())) == 1 for n in names)
    }
