"""A spaCy component with the parser's findings: `nlp.add_pipe("medground")` on any English pipeline.

spaCy finds it by the entry point `spacy_factories`. It imports this module whenever a pipeline is made, so
the lexicon is built only when the component is added.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans

from medground.record_json import to_json
from medground.records import Report
from medground.reports import lexicon as lexicons
from medground.reports.lexicon import DEVICES, Finding
from medground.reports.parse import STUDY
from medground.reports.parser import Options, Parser
from medground.reports.sections import Section, split_sections
from medground.reports.sentences import split_sentences

Chars = tuple[int, int]
KEY = "medground"  # in doc.user_data: the triplets by the characters of their finding
EXISTENCE_COLORS = {"present": "#f6b8b0", "absent": "#bfe3c0", "uncertain": "#f7dfa0"}
FINDING_COLORS = {
    "devices": "#d5d8dc",
    "pleura": "#aed6f1",
    "heart": "#e6b0e6",
    "lungs": "#a9cce3",
    "other": "#e5d3b3",
}
ORGANS = {
    "devices": {DEVICES},
    "pleura": {"Pleural Effusion", "Pleural Other", "Pneumothorax"},
    "heart": {"Cardiomegaly", "Enlarged Cardiomediastinum"},
}


@Language.factory(
    "medground",
    default_config={"lexicon": None, "likely_as": "uncertain", "all_sections": False, "any_language": False},
    assigns=["doc.ents", "token.ent_iob", "token.ent_type", "token.is_sent_start"],
)
def create(
    nlp: Language, name: str, lexicon: str | None, likely_as: Any, all_sections: bool, any_language: bool
) -> "Component":
    """Return the component; its settings are those of `medground parse-reports`."""
    return Component(Parser(lexicons.load(lexicon), Options(likely_as, all_sections, any_language)))


class Component:
    """Adds findings, regions, cues, sentences and sections of a report to a Doc.

    - doc.ents: the findings, labeled with their names. If two overlap, the longer one remains. Entities of
      other components remain if they do not overlap a finding.
    - ent._: existence, negex (True if absent), regions, severity, change, and triplets as in parse-reports.
    - doc.spans: "findings", the same spans labeled by "existence", "regions", "cues" labeled by their rule,
      "sentences" labeled by their section, and "sections".
    - doc.sents: the parser's sentences and the text between them, unless a dependency parser has set them.
    """

    def __init__(self, parser: Parser):
        self._parser = parser
        _set_extensions()

    def __call__(self, doc: Doc) -> Doc:
        """Return the Doc with the findings of its text."""
        sentences = self._parser.parse_report(Report(study_id=STUDY, text=doc.text))
        triplets = [each for sentence in sentences for each in sentence.triplets]
        sections = [each for each in split_sections(doc.text) if each.start < each.end]
        findings = _distinct(doc, ((each.finding_span, each.finding) for each in triplets))
        doc.user_data[KEY] = stored = defaultdict(list)
        for each in triplets:
            stored[_key(_span(doc, each.finding_span))].append(to_json(each))
        for span in findings:
            span._.negex = span._.existence == "absent"
        doc.spans["findings"] = findings
        doc.spans["existence"] = _distinct(doc, ((each.finding_span, each.existence) for each in triplets))
        doc.spans["regions"] = _distinct(doc, ((each.region_span, each.region) for each in triplets))
        doc.spans["cues"] = _distinct(doc, ((each.cue_span, each.rule) for each in triplets))
        doc.spans["sentences"] = [_span(doc, (each.start, each.end), each.section) for each in sentences]
        doc.spans["sections"] = [_span(doc, (each.start, each.end), each.name) for each in sections]
        doc.ents = [*filter_spans(findings), *_apart(doc.ents, findings)]
        if not doc.has_annotation("DEP"):
            _set_sentences(doc, sections)
        return doc


def _set_extensions() -> None:
    """Add the attributes of spans; `negex` is the one of negspacy, which may write to it."""
    if not Span.has_extension("negex"):
        Span.set_extension("negex", default=False)
    Span.set_extension("triplets", getter=_triplets, force=True)
    Span.set_extension("regions", getter=_regions, force=True)
    for key in ("existence", "severity", "change"):
        Span.set_extension(key, getter=partial(_first, key), force=True)


def _key(span: Span) -> str:
    return f"{span.start_char}:{span.end_char}"


def _triplets(span: Span) -> list[dict[str, Any]]:
    """Return the triplets of a span, as parse-reports writes them."""
    found = span.doc.user_data.get(KEY, {}).get(_key(span), ())
    return [each for each in found if span.label_ in ("", each["finding"], each["existence"])]


def _regions(span: Span) -> list[str]:
    return [each["region"] for each in _triplets(span) if each["region"]]


def _first(key: str, span: Span) -> str | None:
    return next((each[key] for each in _triplets(span) if key in each), None)


def _span(doc: Doc, at: Chars, label: str = "") -> Span:
    """Return the tokens of these characters; a token may be longer."""
    span = doc.char_span(*at, label=label, alignment_mode="expand")
    assert span is not None  # the characters are inside the text
    return span


def _distinct(doc: Doc, labeled: Iterable[tuple[Chars | None, str | None]]) -> list[Span]:
    """Return a span for each distinct pair of characters and label, in order."""
    pairs = dict.fromkeys((at, label) for at, label in labeled if at and label)
    spans = [_span(doc, at, label) for at, label in pairs if at and label]
    return list({(each.start, each.end, each.label): each for each in spans}.values())


def _apart(entities: Iterable[Span], findings: list[Span]) -> list[Span]:
    """Return the entities that overlap no finding."""
    taken = {n for each in findings for n in range(each.start, each.end)}
    return [each for each in entities if taken.isdisjoint(range(each.start, each.end))]


def _set_sentences(doc: Doc, sections: Iterable[Section]) -> None:
    """Mark the first token of each sentence."""
    starts = iter([*_starts(doc.text, sections), len(doc.text)])
    start = next(starts)
    for token in doc:
        token.is_sent_start = token.i == 0 or token.idx >= start
        while token.idx >= start:
            start = next(starts, len(doc.text))


def _starts(text: str, sections: Iterable[Section]) -> Iterator[int]:
    """Yield the starts of sentences and of headings; a number or bullet belongs to its sentence."""
    at = 0
    spans = [span for each in sections for span in split_sentences(text, each.start, each.end)]
    for start, end in [*spans, (len(text), len(text))]:
        before = text[at:start]
        yield at + len(before) - len(before.lstrip())
        if any(map(str.isalpha, before)):
            yield start
        at = end


def displacy_colors() -> dict[str, str]:
    """Return colors for displaCy: of findings by their organ, and of existences."""
    findings = lexicons.load().findings
    return EXISTENCE_COLORS | {name: FINDING_COLORS[_organ(each)] for name, each in findings.items()}


def _organ(finding: Finding) -> str:
    for organ, labels in ORGANS.items():
        if finding.chexpert in labels:
            return organ
    return "lungs" if finding.within == "lungs" else "other"
