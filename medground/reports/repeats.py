"""Reports of one study that come twice: a table with a row for each image repeats the report of its study."""

import logging
from collections.abc import Callable, Iterable, Iterator

from medground.errors import BadRecord
from medground.leakage import bare
from medground.records import Report

log = logging.getLogger(__name__)


def counted(reports: Iterable[Report], take: Callable[[Report, BadRecord], None]) -> Iterator[Report]:
    """Yield the reports; warn of the number whose study had an earlier report.

    A report of another patient than the earlier one goes to `take` instead. A hash of each study is held.
    """
    patients: dict[int, int | None] = {}
    first = count = 0
    for number, report in enumerate(reports, start=1):
        study = hash(report.study_id)
        patient = hash(bare(report.subject_id)) if report.subject_id else None
        if study in patients:
            if None not in (patient, patients[study]) and patient != patients[study]:
                bad = BadRecord("another patient than in an earlier report of this study", "subject_id")
                bad.place = f"report {number}: "
                take(report, bad)
                continue
            first, count = first or number, count + 1
        patients[study] = patients.get(study) or patient
        yield report
    if count:
        log.warning(
            "report %d: a second one of its study; %d such in all. Their sentences have the same sentence_id",
            *(first, count),
        )
