"""Parser of reports: sentences with triplets.

Every span counts code points of the original text: of `text`, or of the section's own cell if a report has
named sections.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from medground.records import Report, Sentence, Triplet
from medground.reports.languages import added_words, is_foreign
from medground.reports.lexicon import Lexicon
from medground.reports.sections import CELLS, COUNTED, Section, split_sections
from medground.reports.sentence_parser import Options, SentenceParser
from medground.reports.sentences import split_sentences
from medground.reports.triplets import line_of, moved

__all__ = ["Options", "Parser"]
Place = tuple[str, str, int, int]  # the section's name, its text, and [start, end) of a sentence


class Parser(SentenceParser):
    """A parser of reports with one lexicon. The first takes a second to build, later ones a tenth."""

    def __init__(self, lexicon: Lexicon | None = None, options: Options | None = None):
        super().__init__(lexicon, options)
        self.skipped = (
            False  # the last report has text about another part of the body, which gave no sentence
        )
        self._added = added_words(self.lexicon.trie)

    def parse(self, reports: Iterable[Report]) -> Iterator[Sentence]:
        """Yield the sentences of the reports' findings and impressions, in order."""
        for report in reports:
            yield from self.sentences(report)

    def parse_report(self, report: Report) -> list[Sentence]:
        """Return the sentences of one report; [] if it has no counted section."""
        return list(self.sentences(report))

    def sentences(self, report: Report) -> Iterator[Sentence]:
        """Yield the sentences of one report; none if it is not English or has no counted section."""
        for number, (section, text, start, end), triplets in self._found(report):
            yield Sentence(
                study_id=report.study_id,
                sentence_id=f"{report.study_id}|{number}",
                section=section,
                start=start,
                end=end,
                text=text[start:end],
                triplets=[moved(each, start) for each in triplets],
                subject_id=report.subject_id,
                extra=report.extra,
            )

    def lines(self, report: Report) -> Iterator[dict[str, Any]]:
        """Yield the sentences of one report as JSON objects, without making records: a third of the time."""
        study, subject = report.study_id, report.subject_id
        for number, (section, text, start, end), triplets in self._found(report):
            line = {
                "study_id": study,
                "sentence_id": f"{study}|{number}",
                "section": section,
                "start": start,
                "end": end,
                "text": text[start:end],
                "triplets": [line_of(each, start) for each in triplets],
            }
            if subject is not None:
                line["subject_id"] = subject
            for key, value in report.extra.items():
                line.setdefault(key, value)
            yield line

    def _found(self, report: Report) -> Iterator[tuple[int, Place, list[Triplet]]]:
        """Yield each sentence's number, its place, and its triplets, with spans from its start."""
        self.skipped = False
        if self.is_foreign(report):
            return
        number = 0
        for default, text in self._texts(report):
            regions: list[str] = []
            for section, start, end in self._spans(text, default if report.text is None else None):
                triplets, regions = self.find(text[start:end], regions)
                number += 1
                yield number, (section, text, start, end), triplets

    def _spans(self, text: str, name: str | None) -> Iterator[tuple[str, int, int]]:
        """Yield (section, start, end) of the sentences that are parsed; `name` is a cell's section."""
        for section in (Section(name, 0, len(text)),) if name else split_sections(text):
            self.skipped = self.skipped or section.skipped
            if section.name in COUNTED or self.options.all_sections:
                for start, end in split_sentences(text, section.start, section.end):
                    yield section.name, start, end

    def is_foreign(self, report: Report) -> bool:
        """Return whether a report is not parsed because it is not English."""
        return not self.options.any_language and is_foreign(report, self._added)

    def unparsed(self, report: Report, any_sentence: bool) -> str | None:
        """Return why text of the last report gave no sentence: foreign, silent, skipped; None if all did."""
        if any_sentence:
            return "skipped" if self.skipped else None
        return "foreign" if self.is_foreign(report) else "silent"

    def _texts(self, report: Report) -> Iterator[tuple[str, str]]:
        if report.text is not None:
            yield "text", report.text
            return
        cells = [(name, getattr(report, name)) for name in CELLS]
        if not any(text and text.strip() for _, text in cells):
            cells = [("last_paragraph", report.last_paragraph)]
        if self.options.all_sections:
            cells += [("history", report.indication), ("comparison", report.comparison)]
        yield from ((name, text) for name, text in cells if text)
