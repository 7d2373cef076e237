"""Negative phrases of an image, and bare names of findings."""

import pytest

from medground.data import negatives, paraphrasing
from medground.data.examples import Example, Query
from medground.reports.parser import Parser

PARSER = Parser()
BOX = ((50, 10, 90, 90),)


def image(name: str, *phrases: str, report: tuple[str, ...] = (), **findings: str) -> Example:
    """An image with these phrases, and a report that says these findings are there or absent."""
    said = {each.replace("_", " "): existence for each, existence in findings.items()}
    sentences = [Query((text,), BOX) for text in phrases]
    return Example(name, name, 100, 100, None, [], sentences, report=list(report), findings=said)


def denied(learned: list[Example], reported: list[Example]) -> list[set[str]]:
    """Return the negatives of each phrase of the first image."""
    negatives.deny(learned, reported, negatives.accounts(learned, reported, PARSER), PARSER)
    return [set(query.denials) for query in learned[0].sentences]


def test_a_phrase_gets_its_negated_forms():
    (found,) = denied([image("i", "left lung opacity")], [])
    assert {"no left lung opacity", "left lung opacity is not seen"} <= found


def test_absent_findings_are_queried_in_the_words_of_other_patients():
    learned = [image("i", "left lung opacity"), image("j", "small right pneumothorax", "mild cardiomegaly")]
    (found,) = denied(learned, [image("i", report=("No pneumothorax.",), pneumothorax="absent")])
    assert "small right pneumothorax" in found and "mild cardiomegaly" not in found


def test_absent_findings_without_any_phrase_are_not_queried():
    learned, reported = [image("i", "left lung opacity")], [image("i", report=("x",), pneumothorax="absent")]
    assert not any("pneumothorax" in text for text in denied(learned, reported)[0])


def test_wordings_are_as_frequent_among_what_is_not_there_as_among_what_is():
    texts = ("small right pneumothorax",) * 3 + ("small right ptx", "small right pneumothoraces", "ptx")
    theirs = Example("j", "j", 9, 9, None, [], [Query(texts, BOX)])
    learned = [image("i", "cardiomegaly"), theirs]
    negatives.deny(
        learned, [image("i", pneumothorax="absent")], [negatives.Account({}, ("pneumothorax",))] * 2, PARSER
    )
    left = [text for text in learned[0].sentences[0].denials if "cardio" not in text]
    assert sorted(set(left)) == sorted(set(texts))
    assert left.count(texts[0]) == len(left) / 2


@pytest.mark.parametrize("elsewhere", ["Pneumothorax.", "Possible left pneumothorax."])
def test_what_a_report_affirms_or_doubts_anywhere_is_not_denied(elsewhere):
    learned = [image("i", "left lung opacity"), image("j", "small right pneumothorax")]
    report = ("No pneumothorax.", elsewhere)
    (found,) = denied(learned, [image("i", report=report, pneumothorax="absent")])
    assert not any("pneumothorax" in text for text in found)


def test_a_finding_of_a_phrase_is_never_a_negative():
    (found,) = denied([image("i", "left lung opacity")], [image("i", lung_opacity="absent")])
    assert "lung opacity" not in found


def test_a_finding_on_one_side_is_a_negative_on_the_other():
    (found,) = denied([image("i", "RLL atelectasis")], [image("i", report=("Right basilar atelectasis.",))])
    assert "LLL atelectasis" in found


@pytest.mark.parametrize(
    ("phrase", "report"),
    [
        ("right basal opacity", "Opacity in the left apex."),
        ("right basal opacity", "Opacity."),
        ("right basal opacity", "Possible left basal opacity."),
        ("right basal opacities", "Bilateral opacities."),
        ("mild cardiomegaly", ""),
        ("right lung", ""),
    ],
)
def test_no_swap_if_the_other_side_may_have_the_finding(phrase, report):
    (found,) = denied([image("i", phrase)], [image("i", report=(report,))])
    assert not any("left" in text for text in found)


def test_each_kind_of_denial_is_as_likely():
    learned = [image("i", "left lung opacity"), image("j", "small right pneumothorax")]
    reported = [image("i", report=("No pneumothorax.",), pneumothorax="absent")]
    negatives.deny(learned, reported, negatives.accounts(learned, reported, PARSER), PARSER)
    (query,) = learned[0].sentences
    foreign = [text for text in query.denials if "pneumothorax" in text]
    other = [text for text in query.denials if text == "right lung opacity"]
    assert len(foreign) == len(other) == len(query.denials) / 3


def test_rehearsed_sentences_are_denied_what_their_report_denies_but_not_negated():
    reported = [image("j", "Left lung opacity.", report=("No pneumothorax.",), pneumothorax="absent")]
    negatives.deny([image("i", "tiny right pneumothorax")], reported, [negatives.Account({})], PARSER)
    (query,) = reported[0].sentences
    assert set(query.denials) == {"tiny right pneumothorax", "Right lung opacity."}


def reworded(*phrases: str, report: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    learned = [image("i", *phrases)]
    accounts = negatives.accounts(learned, [image("i", report=report)], PARSER)
    paraphrasing.reword(learned, 2, PARSER, accounts)
    return [query.texts for query in learned[0].sentences]


def test_a_finding_with_one_location_is_also_queried_by_its_bare_name():
    (texts,) = reworded("small left pneumothorax", report=("Left pneumothorax.",))
    assert "pneumothorax" in texts
    assert texts.count("small left pneumothorax") == len(texts) / 2


@pytest.mark.parametrize("report", ["Pneumothorax on both sides.", "Right pneumothorax.", "Pneumothorax."])
def test_one_that_may_be_elsewhere_too_is_not(report):
    (texts,) = reworded("small left pneumothorax", report=(report,))
    assert "pneumothorax" not in texts


def test_one_that_two_phrases_speak_of_is_not():
    for texts in reworded("left apical pneumothorax", "left basal pneumothorax"):
        assert "pneumothorax" not in texts
