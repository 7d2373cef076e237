"""Phrases in other words: the same finding, the same place, and half of the draws the phrase itself."""

import pytest

from medground.data import paraphrasing
from medground.data.examples import Example, Query
from medground.reports.paraphrase import paraphrases, vocabulary
from medground.reports.parser import Parser
from medground.reports.tokens import words_of

PARSER = Parser()


def said(text):
    return {(t.region, t.finding, t.existence) for t in PARSER.read(text, 0, len(text), [])[0]}


@pytest.mark.parametrize(
    "phrase",
    ["left pleural effusion", "atelectasis in the left lower lobe", "mild cardiomegaly", "no pneumothorax"],
)
def test_other_words_say_the_same(phrase):
    forms = paraphrases(phrase, PARSER, 8)
    assert len(set(forms)) == 8
    assert phrase not in forms
    assert all(said(form) == said(phrase) for form in forms)


def test_a_phrase_without_a_finding_has_none():
    assert paraphrases("left lung", PARSER, 8) == ()


def test_only_the_finding_is_exchanged():
    assert all(form.startswith("small left ") for form in paraphrases("small left pneumothorax", PARSER, 4))


def test_half_of_the_draws_are_the_phrase_itself():
    example = Example("i", "i.png", 9, 9, None, sentences=[Query(("mild cardiomegaly",), ((0, 0, 5, 5),))])
    paraphrasing.reword([example], 3, PARSER)
    (query,) = example.sentences
    assert query.texts.count("mild cardiomegaly") == 3
    assert len(query.texts) == 6
    assert query.boxes == ((0, 0, 5, 5),)


def test_findings_in_the_plural_have_forms_in_the_plural():
    forms = paraphrases("opacities in both lungs", PARSER, 8)
    assert len(forms) == 8
    assert all(form.split(" in both")[0].endswith("s") for form in forms)


def test_what_images_show_alike_is_said_alike_and_nothing_else():
    forms = paraphrases("opacity in the left lung", PARSER, 1_000)
    found = {finding for form in forms for _, finding, _ in said(form)}
    assert {"lung opacity", "airspace opacity", "infiltration", "lung density"} == found
    assert {region for form in forms for region, _, _ in said(form)} == {"left lung"}


def test_phrases_meet_different_words():
    phrases = [f"{size} opacity in the left lung" for size in ("small", "large", "subtle", "faint")]
    ends = [{form.split(" ", 1)[1] for form in paraphrases(phrase, PARSER, 8)} for phrase in phrases]
    assert len(set.union(*ends)) > 20


@pytest.mark.slow
def test_the_vocabulary_has_each_word_of_each_paraphrase():
    words = vocabulary(PARSER)
    for phrase in ("bilateral opacities", "left pleural effusion", "cardiomegaly", "right basal atelectasis"):
        assert {word for form in paraphrases(phrase, PARSER, 1_000) for word in words_of(form)} <= words
