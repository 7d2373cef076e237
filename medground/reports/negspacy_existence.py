"""A parser whose existences are those of negspacy's own component, as a baseline for our rules.

Findings, regions and sentences are those of our parser. A finding is absent if negspacy negates it, and
present otherwise: negspacy has no doubt. States that deny a finding ("lungs are clear") remain absent,
because they do not name it.
"""

from dataclasses import replace
from typing import Any, Final

from medground.records import Span
from medground.reports.lexicon import Lexicon
from medground.reports.parser import Options, Parser
from medground.reports.sentence_parser import Found
from medground.reports.triplets import Draft, without_doubles

FINDINGS: Final = "findings"  # the group of spans that negspacy reads; unlike doc.ents, they may overlap
RULE: Final = "negspacy"


class NegspacyParser(Parser):
    """Our parser with negspacy's component, which has its `en_clinical` terms."""

    def __init__(self, lexicon: Lexicon | None = None, options: Options | None = None):
        super().__init__(lexicon, options)
        import negspacy.negation  # noqa: F401  (registers the component)
        import spacy

        self._nlp = spacy.blank("en")
        self._negex: Any = self._nlp.add_pipe("negex", config={"span_keys": [FINDINGS]})

    def find(self, sentence: str, before: list[str]) -> Found:
        """Return (drafts of triplets with negspacy's existences, regions) of a sentence."""
        drafts, regions = super().find(sentence, before)
        named = {each.finding_span for each in drafts if each.rule != "normality"}
        if named:
            negated = self._negated(sentence, named)
            drafts = [
                _with_existence(each, each.finding_span in negated) if each.finding_span in named else each
                for each in drafts
            ]
        return without_doubles(drafts), regions

    def _negated(self, sentence: str, spans: set[Span]) -> set[Span]:
        """Return the spans of a sentence that negspacy negates."""
        doc = self._nlp.make_doc(sentence)
        for token in doc:
            token.is_sent_start = token.i == 0
        found: dict[Span, Any] = {span: doc.char_span(*span, alignment_mode="expand") for span in spans}
        doc.spans[FINDINGS] = list(found.values())
        self._negex(doc)
        return {span for span, tokens in found.items() if tokens._.negex}


def _with_existence(draft: Draft, negated: bool) -> Draft:
    """Return the draft with negspacy's existence, which has no cue."""
    return replace(
        draft,
        existence="absent" if negated else "present",
        rule=RULE,
        cue=None,
        cue_span=None,
        severity=None if negated else draft.severity,
        change=None if negated else draft.change,
    )
