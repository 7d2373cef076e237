"""Sentences of each kind, with all findings that they have; see tests/reports/kinds."""

import pytest
from report_kinds import FOLDER, difference, read

from medground.records import Report
from medground.reports.parser import Parser

PARSER = Parser()
CASES = [case for path in sorted(FOLDER.glob("*.txt")) for case in read(path.name)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [case[1:] for case in CASES],
    ids=[f"{kind}: {text[:40]!r}" for kind, text, _ in CASES],
)
def test_a_sentence_of_each_kind_has_its_findings(text, wanted):
    report = Report(study_id="s1", text=text)
    triplets = [each for sentence in PARSER.parse_report(report) for each in sentence.triplets]
    assert difference(triplets, wanted) == []
