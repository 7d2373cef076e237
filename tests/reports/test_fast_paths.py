"""Shortcuts of the parser for usual text, next to the patterns that they replace, and its sentence cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground.reports import sentence_parser, sentences
from medground.reports.parser import Parser
from medground.reports.tokens import TOKEN, tokenise

LETTERS = "abNT .,;:?!()-–'’1\n\té[&_²"
SENTENCES = ["Small left effusion.", "No edema.", "Opacity at the right base.", "The heart is enlarged."]


@given(st.text(LETTERS, max_size=60).filter(lambda text: "'t" not in text and "’t" not in text))
def test_words_between_spaces_are_those_of_the_pattern(text):
    spans = [each.span() for each in TOKEN.finditer(text.lower())]
    assert list(zip(*tokenise(text)[1:], strict=True)) == spans


@pytest.mark.parametrize(
    ("text", "words", "starts"),
    [
        ("effusion is n't seen", ["effusion", "is", "not", "seen"], [0, 9, 12, 16]),
        ("edema isn't seen", ["edema", "is", "not", "seen"], [0, 6, 8, 12]),
        ("edema can't be seen", ["edema", "can", "not", "be", "seen"], [0, 6, 9, 12, 15]),
        ("N’t", ["not"], [0]),
    ],
)
def test_contractions_are_two_words_unless_they_are_written_so(text, words, starts):
    assert tokenise(text)[:2] == (words, starts)


def test_a_contraction_after_a_space_denies():
    triplets, _ = Parser().read("Pleural effusion is n't seen.", 0, 29, [])
    assert [(each.finding, each.existence) for each in triplets] == [("pleural effusion", "absent")]


@given(st.text(LETTERS, max_size=60), st.integers(0, 9))
def test_plain_stops_end_the_sentences_that_patterns_end(text, start):
    start = min(start, len(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "_is_plain_stop", lambda *_: False)
        slow = sentences.split_sentences(text, start, len(text))
    assert sentences.split_sentences(text, start, len(text)) == slow


@pytest.mark.parametrize("word", ["vs", "Dr", "mm", "No"])
def test_no_short_form_is_a_plain_stop(word):
    text = f"Nodule {word}. 2 in the left base."
    assert sentences.split_sentences(text, 0, len(text)) == [(0, len(text))]


def test_a_full_cache_gives_the_same_findings_and_stays_small(monkeypatch):
    parser = Parser()
    expected = {text: parser.find(text, []) for text in SENTENCES}
    monkeypatch.setattr(sentence_parser, "MOST_KNOWN", 2)
    small = Parser()
    for text in SENTENCES * 2 + SENTENCES[::-1]:
        assert small.find(text, []) == expected[text]
        assert len(small._known) <= 2
        assert len(small._known_before) <= 2
    kept = small.find(SENTENCES[0], [])
    assert small.find(SENTENCES[0], []) is kept
