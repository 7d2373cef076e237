"""What fine-tuning shows a model beside drawn phrases, so that it keeps what pre-training taught it.

Drawn phrases always have something to show: a model that sees them alone soon answers everything with
"present", and forgets sides and negations. So pairs of pre-training are asked again beside them, and phrases
are also asked in forms for which there is nothing to show.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from medground.records import Anatomy, Pair
from medground.reports.denial import denials
from medground.reports.paraphrase import paraphrases
from medground.reports.parser import Parser
from medground.subjects import Imaged
from medground.training import audit
from medground.training.examples import Example, Query, from_anatomy, from_pairs


def rehearse(
    pairs: Iterable[Pair], anatomies: Iterable[Anatomy] | None, held_out: Iterable[Imaged]
) -> list[Example]:
    """The images of pairs and anatomies, without those of patients who are held out.

    Region names come from the anatomies or, where there are none, from the pairs. What an image's report
    denies, and nowhere affirms, is asked beside its sentences as if it were there.
    """
    found: dict[str, Example] = {}
    from_pairs(pairs, found, terms=anatomies is None, reads=True)
    if anatomies is not None:
        from_anatomy(anatomies, found)
    learned = audit.without(found.values(), held_out)
    for example in learned:
        absent = denied(example)
        example.sentences = [
            replace(each, denials=absent) if each.boxes else each for each in example.sentences
        ]
    return learned


def denied(example: Example) -> tuple[str, ...]:
    """The findings that the image's report says are absent, sorted."""
    return tuple(sorted(name for name, said in example.findings.items() if said == "absent"))


def reword(examples: Iterable[Example], most: int, parser: Parser) -> None:
    """Give each phrase at most so many other wordings; half of the draws are the phrase itself."""
    forms_of = lru_cache(maxsize=65_536)(lambda text: paraphrases(text, parser, most))  # reports repeat texts
    for example in examples:
        example.sentences = [_in_other_words(query, forms_of) for query in example.sentences]


def _in_other_words(query: Query, forms_of: Callable[[str], tuple[str, ...]]) -> Query:
    forms = tuple(form for text in query.texts for form in forms_of(text))
    return replace(query, texts=query.texts * max(1, len(forms)) + forms)


def deny(examples: Iterable[Example], rehearsal: Sequence[Example], parser: Parser | None = None) -> None:
    """Give the phrases of `examples` their negated forms and what the reports of their images deny.

    Reports are those of `rehearsal`; what a phrase of the image names is not denied, whatever they say.
    """
    parser = parser or Parser()
    reported = {each.image_id: denied(each) for each in rehearsal}
    for example in examples:
        texts = {text for query in example.sentences for text in query.texts}
        named = {name for text in texts for name in _findings(text, parser)}
        absent = tuple(name for name in reported.get(example.image_id, ()) if name not in named)
        example.sentences = [_with_denials(query, absent, parser) for query in example.sentences]


def _with_denials(query: Query, absent: tuple[str, ...], parser: Parser) -> Query:
    forms = tuple(form for text in dict.fromkeys(query.texts) for form in denials(text, parser))
    return replace(query, denials=forms + absent) if query.boxes else query


def _findings(text: str, parser: Parser) -> set[str]:
    return {each.finding for each in parser.read(text, 0, len(text), [])[0]}
