"""Function `medground.parse`: reports to sentences, with one parser that is built once."""

import logging
from collections.abc import Iterable
from functools import cache

from medground.records import Report, Sentence
from medground.reports.parser import Options, Parser

log = logging.getLogger(__name__)
STUDY = "report"  # the study_id of a report that is given as text


@cache
def _parser(options: Options) -> Parser:
    return Parser(options=options)


def parse(
    reports: str | Report | Iterable[str | Report],
    *,
    likely_as: str = "uncertain",
    all_sections: bool = False,
    any_language: bool = False,
) -> list[Sentence]:
    """Return the sentences of reports with their findings, as `medground parse-reports` writes them.

    reports: the text of a report, a `Report`, or several. Texts get the study_id "report", "report-2", ...
    likely_as: existence of "likely" findings, "present" or "uncertain".
    all_sections: also parse history, technique and comparison.
    any_language: also parse reports that are not English; otherwise they have no sentences.
    """
    several = [reports] if isinstance(reports, str | Report) else list(reports)
    parser = _parser(Options(likely_as, all_sections, any_language))  # type: ignore[arg-type]
    reports_of_text = list(_with_ids(several))
    if foreign := sum(map(parser.is_foreign, reports_of_text)):
        log.warning("%d of %d reports are not English and have no sentences", foreign, len(several))
    return [sentence for each in reports_of_text for sentence in parser.sentences(each)]


def _with_ids(reports: Iterable[str | Report]) -> Iterable[Report]:
    texts = 0
    for each in reports:
        if isinstance(each, str):
            texts += 1
            each = Report(study_id=STUDY if texts == 1 else f"{STUDY}-{texts}", text=each)
        yield each
