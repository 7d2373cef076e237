"""Long phrases keep their finding and its place."""

import pytest

from medground.reports.parser import Parser
from medground.reports.shorten import MOST, shortened

LONG = (
    "There is, as had been described on the outside radiograph obtained earlier today with an estimated "
    "width of about two centimetres at the level of the third rib, again an opacity which has not changed "
    "since then and which is thought by the team to lie in the {side} lower lobe"
)


@pytest.fixture(scope="module")
def parser() -> Parser:
    return Parser()


def words(most: int):
    return lambda text: len(text.split()) <= most


@pytest.mark.parametrize("most", [6, 12, 30])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_finding_and_the_place_at_the_end_are_kept(parser, side, most):
    short = shortened(LONG.format(side=side), parser, words(most))
    assert len(short.split()) <= most
    assert "radiograph" not in short
    assert "opacity" in short
    assert f"{side} lower lobe" in short


def test_a_short_text_is_unchanged(parser):
    assert shortened("small  left effusion", parser, words(3)) == "small  left effusion"


def test_present_findings_with_a_place_come_first(parser):
    text = "No pneumothorax. No edema. Atelectasis. There is a consolidation in the left upper lobe."
    short = shortened(text, parser, words(4))
    assert short == "consolidation left upper lobe."


def test_words_about_a_side_are_kept_without_a_finding(parser):
    assert "right" in shortened("xyzzy " * 30 + "right " + "plugh " * 30, parser, words(5)).split()


def test_only_the_beginning_of_an_endless_text_is_searched(parser):
    seen = []

    def fits(text):
        seen.append(len(text))
        return len(text.split()) <= 12

    short = shortened("xyzzy " * 300 + "small right lower lobe opacity. " * 100_000, parser, fits)
    assert "right lower lobe" in short
    assert max(seen[1:]) <= MOST and len(seen) < MOST
