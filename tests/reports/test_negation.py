"""Negated forms of phrases: what the parser reads as denied, and nothing that is no denial."""

import pytest

from medground.reports.negation import negated_forms
from medground.reports.parser import Parser

PARSER = Parser()


@pytest.mark.parametrize(
    ("phrase", "wanted"),
    [
        ("left pleural effusion", ["no left pleural effusion", "left pleural effusion is not seen"]),
        ("Small right pleural effusion.", ["no small right pleural effusion"]),
        ("There is a moderate left pneumothorax", ["there is no moderate left pneumothorax"]),
        ("bilateral opacities", ["there are no bilateral opacities", "bilateral opacities are not seen"]),
        ("RLL pneumonia", ["without RLL pneumonia"]),
        ("The heart is enlarged.", ["The heart is not enlarged"]),
        ("effusion and atelectasis", ["no effusion or atelectasis"]),
    ],
)
def test_a_phrase_is_denied_as_a_radiologist_would(phrase, wanted):
    assert set(wanted) <= set(negated_forms(phrase, PARSER))


@pytest.mark.parametrize(
    "phrase", ["no effusion", "possible pneumonia", "right lung", "bright spot", "", "lungs are clear"]
)
def test_what_states_nothing_for_sure_has_no_denial(phrase):
    assert negated_forms(phrase, PARSER) == ()


@pytest.mark.parametrize(
    "phrase",
    ["patchy right basilar opacity", "mild cardiomegaly", "effusion and atelectasis", "heart is large"],
)
def test_every_form_denies_just_the_findings_of_the_phrase(phrase):
    stated = PARSER.read(phrase, 0, len(phrase), [])[0]
    for form in negated_forms(phrase, PARSER):
        said = PARSER.read(form, 0, len(form), [])[0]
        assert {each.existence for each in said} == {"absent"}, form
        assert {each.finding for each in said} == {each.finding for each in stated}, form


def test_a_list_is_not_said_to_be_unseen():
    assert not any("seen" in form for form in negated_forms("effusion and atelectasis", PARSER))
