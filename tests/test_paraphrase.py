"""Phrases in other words: the same finding, the same place, and half of the draws the phrase itself."""

import pytest

from medground.reports.paraphrase import paraphrases
from medground.reports.parser import Parser
from medground.training import rehearsal
from medground.training.examples import Example, Query

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
    rehearsal.reword([example], 3, PARSER)
    (query,) = example.sentences
    assert query.texts.count("mild cardiomegaly") == 3
    assert len(query.texts) == 6
    assert query.boxes == ((0, 0, 5, 5),)
