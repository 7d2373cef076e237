"""The words of reports that scores compare, and their findings.

Scores depend on the cleaning, so both kinds are given. "Cleaned" is R2Gen's cleaning (Chen et al., EMNLP
2020) without its vocabulary and its limit of the length: lower case, numbers of lists and most punctuation
removed, " . " between sentences. "Raw" is lower case, with each punctuation mark as a word.
"""

import re
from collections.abc import Sequence

from medground.records import Report
from medground.reports.sections import CELLS, COUNTED, split_sections

_NUMBER = re.compile(r"(?:(?<=\s)|^)\d+\.(?=\s)")  # of a list
_REMOVED = re.compile(r"[.,?;*!%^&_+():\[\]{}<>=@\\/'\"]")  # R2Gen keeps the hyphen
_SPACE = re.compile(r"\s+")
_RAW = re.compile(r"\d+(?:\.\d+)?|\w+|[^\w\s]")


def text_of(report: Report) -> str:
    """Return the findings and the impression of a report, as parse-reports takes them, on one line."""
    if report.text is None:
        cells = [getattr(report, name) for name in CELLS]
        parts = [each for each in cells if each and each.strip()] or [report.last_paragraph or ""]
    else:
        text = report.text
        parts = [text[each.start : each.end] for each in split_sections(text) if each.name in COUNTED]
    return _SPACE.sub(" ", " ".join(parts)).strip()


def cleaned(text: str) -> list[str]:
    """Return the words after R2Gen's cleaning; each sentence ends with "."."""
    whole = _SPACE.sub(" ", re.sub(r"\.{2,}", ".", _NUMBER.sub("", text.lower())))
    found: list[str] = []
    for sentence in re.split(r"\.(?: |$)", whole):
        if words := _REMOVED.sub("", sentence).split():
            found += [*words, "."]
    return found


def raw(text: str) -> list[str]:
    """Return the words, numbers and punctuation marks in lower case."""
    return _RAW.findall(text.lower())


class Findings:
    """The findings that a report states as present, by the rules of parse-reports."""

    def __init__(self) -> None:
        from medground.reports.parser import Options, Parser  # a tenth of the time of a short evaluation

        self._parser = Parser(options=Options(any_language=True))

    def __call__(self, reports: Sequence[Report]) -> list[frozenset[str]]:
        """Return the present findings of each report."""
        return [
            frozenset(
                triplet.finding
                for sentence in self._parser.sentences(report)
                for triplet in sentence.triplets
                if triplet.existence == "present"
            )
            for report in reports
        ]
