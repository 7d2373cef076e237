"""The form in which answers are compared."""

import pytest

from medground.answers.normal import normal


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("Yes.", "yes"),
        ("  The Left lung ", "left lung"),
        ("an X-ray", "x ray"),
        ("Two", "2"),
        ("3.0", "3"),
        ("2.5 cm", "2.5 cm"),
        ("1,000", "1000"),
        ("left, right", "left right"),
        ("Crohn's disease", "crohns disease"),
        ("PA/AP", "pa ap"),
        ("None", "0"),
        ("A", "a"),
        ("?", "?"),
        ("ﬁbrosis", "fibrosis"),
    ],
)
def test_case_articles_punctuation_and_number_words_do_not_count(answer, expected):
    assert normal(answer) == expected
    assert normal(normal(answer)) == expected
