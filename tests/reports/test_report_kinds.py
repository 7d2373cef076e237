"""Sentences of each kind, with all findings that they have; see tests/reports/kinds."""

import functools

import pytest
from click.testing import CliRunner
from report_kinds import FOLDER, difference, read

from medground.cli.main import cli
from medground.records import Report
from medground.reports import lexicon
from medground.reports.parser import Parser
from medground.reports.spelling import distance

PARSER = Parser()
FILES = sorted(path.name for path in FOLDER.glob("*.txt"))


@functools.cache
def parsed(text):
    """Return all triplets of a text."""
    report = Report(study_id="s1", text=text)
    return [each for sentence in PARSER.parse_report(report) for each in sentence.triplets]


@pytest.mark.parametrize(
    "file", FILES
)  # one test for each file: one for each sentence takes a second a worker
def test_a_sentence_of_each_kind_has_its_findings(file):
    problems = [(kind, text, difference(parsed(text), wanted)) for kind, text, wanted in read(file)]
    assert [problem for problem in problems if problem[2]] == []


OWN = """
[[finding]]
name = "focal disease"
words = ["focal airspace disease", "acute disease", "free gas"]
[[finding]]
name = "consolidation"
words = ["focal lung change", "definite lung change", "evidence of old blood"]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Return a parser with terms that cues begin with."""
    path = tmp_path_factory.mktemp("lexicon") / "own.toml"
    path.write_text(OWN)
    return Parser(lexicon.load(str(path)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "finding", "existence"),
    [
        ("No focal airspace disease.", "focal disease", "absent"),
        ("No acute disease or effusion.", "focal disease", "absent"),
        ("There is focal airspace disease.", "focal disease", "present"),
        ("No focal lung change is seen.", "consolidation", "absent"),
        ("No definite lung change.", "consolidation", "absent"),
        ("Possible focal airspace disease.", "focal disease", "uncertain"),
    ],
)
def test_a_cue_may_share_words_with_a_users_term(own, text, finding, existence):
    triplets = [each for s in own.parse_report(Report(study_id="s1", text=text)) for each in s.triplets]
    assert {each.existence for each in triplets if each.finding == finding} == {existence}


def test_no_region_has_a_span_without_a_name():
    for text in {text for file in FILES for _, text, _ in read(file)}:
        assert all(each.region_span is None for each in parsed(text) if each.region is None), text


@pytest.mark.parametrize(
    "text",
    [
        "Not seen.",
        "An enema was given.",
        "Spondylolysis.",
        "No confusion.",
        "After the injection.",
        "Nomass.",
    ],
)
def test_words_that_are_no_misspelled_finding_are_left_alone(text):
    assert PARSER.parse_report(Report(study_id="s1", text=text))[0].triplets == []


@pytest.mark.parametrize(
    ("one", "other", "far"),
    [
        ("edma", "edema", 1),
        ("opactiy", "opacity", 1),
        ("edema", "edema", 0),
        ("effsuino", "effusion", 2),
        ("a", "xyz", 3),
    ],
)
def test_the_distance_counts_letters(one, other, far):
    assert distance(one, other, 2) == far


def test_text_about_another_part_of_the_body_is_counted():
    rows = "id,text\n1,No effusion.\n2,CHEST: Clear lungs. KNEE: Effusion.\n3,KNEE: Effusion.\n"
    result = CliRunner().invoke(cli, ["parse-reports"], input=rows)
    assert [each.partition(";")[0] for each in result.stderr.splitlines()] == [
        "WARNING: report 3: no findings or impression",
        "WARNING: report 2: text about another part of the body was not parsed",
    ]
