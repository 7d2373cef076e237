"""Parser of reports: sentences with triplets.

Every span counts code points of the original text: of `text`, or of the section's own cell if a report has
named sections.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from medground.records import Report, Sentence
from medground.reports.languages import added_words, is_foreign
from medground.reports.lexicon import Lexicon
from medground.reports.sections import CELLS, COUNTED, Section, split_sections
from medground.reports.sentence_parser import Options, SentenceParser
from medground.reports.sentences import split_sentences
from medground.reports.triplets import Draft, line_of, moved

__all__ = ["Options", "Parser"]
# A sentence's number, the section's name, its text, the sentence's [start, end), and drafts of its triplets.
Parsed = tuple[int, str, str, int, int, list[Draft]]


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
        for number, section, text, start, end, drafts in self._found(report):
            yield Sentence(
                study_id=report.study_id,
                sentence_id=f"{report.study_id}|{number}",
                section=section,
                start=start,
                end=end,
                text=text[start:end],
                triplets=[moved(each, start) for each in drafts],
                subject_id=report.subject_id,
                extra=report.extra,
            )

    def lines(self, report: Report) -> list[dict[str, Any]]:
        """Return the sentences of one report as JSON objects, without making records: a third of the time."""
        study, subject, extra = report.study_id, report.subject_id, report.extra
        found: list[dict[str, Any]] = []
        for number, section, text, start, end, drafts in self._found(report):
            line: dict[str, Any] = {
                "study_id": study,
                "sentence_id": f"{study}|{number}",
                "section": section,
                "start": start,
                "end": end,
                "text": text[start:end],
                "triplets": [line_of(each, start) for each in drafts],
            }
            if subject is not None:
                line["subject_id"] = subject
            for key, value in extra.items():
                line.setdefault(key, value)
            found.append(line)
        return found

    def _found(self, report: Report) -> list[Parsed]:
        """Return each sentence's number and place, and drafts of its triplets."""
        found: list[Parsed] = []
        self.skipped = False
        if self.is_foreign(report):
            return found
        for name, text in self._texts(report):
            regions: list[str] = []
            for section in [Section(name, 0, len(text))] if report.text is None else split_sections(text):
                self.skipped = self.skipped or section.skipped
                if section.name not in COUNTED and not self.options.all_sections:
                    continue
                for start, end in split_sentences(text, section.start, section.end):
                    drafts, regions = self.find(text[start:end], regions)
                    found.append((len(found) + 1, section.name, text, start, end, drafts))
        return found

    def is_foreign(self, report: Report) -> bool:
        """Return whether a report is not parsed because it is not English."""
        return not self.options.any_language and is_foreign(report, self._added)

    def unparsed(self, report: Report, any_sentence: bool) -> str | None:
        """Return why text of the last report gave no sentence: foreign, silent, skipped; None if all did."""
        if any_sentence:
            return "skipped" if self.skipped else None
        return "foreign" if self.is_foreign(report) else "silent"

    def _texts(self, report: Report) -> list[tuple[str, str]]:
        """Return (section, text) of each cell that is parsed; one for a report that is a whole text."""
        if report.text is not None:
            return [("text", report.text)]
        cells = [(name, getattr(report, name)) for name in CELLS]
        if not any(text and text.strip() for _, text in cells):
            cells = [("last_paragraph", report.last_paragraph)]
        if self.options.all_sections:
            cells += [("history", report.indication), ("comparison", report.comparison)]
        return [(name, text) for name, text in cells if text]
