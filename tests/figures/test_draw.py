"""Boxes over the image: what a person must be able to see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor

from medground.figures import draw
from medground.records import ScoredBox

GREY = np.full((400, 600), 0.5, dtype=np.float32)


def found(*box: float, score: float = 0.5) -> ScoredBox:
    return ScoredBox(box=box, score=score)


def holds(picture: Image.Image, colour: str) -> np.ndarray:
    """(H, W) which pixels of the picture have exactly this colour."""
    return (np.asarray(picture) == ImageColor.getrgb(colour)).all(axis=2)


def test_a_box_is_drawn_where_it_lies():
    rows, columns = np.nonzero(
        holds(draw.overlay(GREY, [found(200, 100, 500, 300)], "opacity"), draw.FOUND[0])
    )
    inside = rows >= 95  # the number's patch stands above the box
    inside &= rows < 400  # and the strip below the image
    assert abs(columns[inside].min() - 200) <= 2 and abs(columns[inside].max() - 500) <= 2
    assert abs(rows[inside].max() - 300) <= 2


def test_a_true_box_is_dashed_and_a_found_one_is_not():
    picture = draw.overlay(GREY, [found(50, 200, 250, 350)], "x", [(300, 200, 500, 350)])
    solid, dashed = holds(picture, draw.FOUND[0]), holds(picture, draw.TRUE)
    assert solid[220:330, 45:56].any(axis=1).all()
    seen = dashed[220:330, 295:306].any(axis=1)
    assert seen.any() and not seen.all()


def test_each_found_box_has_its_own_colour():
    picture = draw.overlay(GREY, [found(10, 60, 90, 200), found(300, 60, 390, 200)], "x")
    assert holds(picture, draw.FOUND[0]).any() and holds(picture, draw.FOUND[1]).any()


def test_words_stand_below_the_image_and_hide_nothing_of_it():
    picture = draw.overlay(GREY, [], "right lower lobe opacity")
    shown = np.asarray(picture)
    assert (shown[:400] == 128).all()
    assert holds(picture, draw.INK)[400:].any()


def test_no_box_is_said_in_words():
    def strip(label):
        return np.asarray(draw.overlay(GREY, [], label))[400:]

    font = draw._font(600)
    says = draw._strip(600, "no effusion", [(draw.NOTHING, draw.PALE, False)], font)
    assert (strip("no effusion") == np.asarray(says)).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (40, 30)])
def test_tiny_and_slim_images_become_readable(shape):
    picture = draw.overlay(
        np.ones(shape, dtype=np.float32), [found(0, 0, 1, 1)], "a long phrase " * 9, [(0, 0, 1, 1)]
    )
    assert picture.width >= draw.NARROWEST
    assert max(picture.size) >= draw.SHORTEST


@pytest.mark.slow
def test_a_huge_image_is_made_smaller():
    picture = draw.overlay(np.zeros((3000, 2400), dtype=np.float32), [found(0, 0, 2400, 3000)], "x")
    assert picture.width == round(2400 * draw.LONGEST / 3000)


def test_not_a_number_is_black_and_not_a_crash():
    assert np.asarray(draw.overlay(np.full((400, 400), np.nan, dtype=np.float32), [], "x"))[:400].max() == 0


@pytest.mark.slow
@given(
    st.tuples(*[st.floats(-50, 700) for _ in range(4)]).filter(lambda b: b[2] > b[0] and b[3] > b[1]),
)
def test_any_box_can_be_drawn_even_outside_the_image(box):
    picture = draw.overlay(GREY, [found(*box)], "x", [box])
    assert picture.size[0] == 600


@pytest.mark.slow
@given(st.text(max_size=80), st.integers(20, 300))
def test_wrapped_lines_fit_and_lose_no_letter(words, width):
    font = draw._font(600)
    lines = draw.wrapped(words, width, font)
    assert "".join("".join(lines).split()) == "".join(words.split())
    assert all(font.getlength(line) <= width or len(line) == 1 for line in lines)


def test_a_sheet_holds_every_picture_beside_the_others():
    pictures = [Image.new("RGB", (30, 20), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
    sheet = draw.sheet(pictures, columns=2, gap=5)
    assert sheet.size == (2 * 35 + 5, 2 * 25 + 5)
    assert all(holds(sheet, colour).sum() == 600 for colour in ("#ff0000", "#00ff00", "#0000ff"))
