"""Boxes: there and back again, and overlap as one would count it on squared paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground import boxes
from medground.boxes import Letterbox

side = st.integers(1, 5000)
letterboxes = st.builds(Letterbox, side, side, st.integers(8, 1024))
whole = st.tuples(*[st.integers(0, 12)] * 4)
low, more = st.integers(0, 8), st.integers(1, 4)
filled = st.builds(lambda x, y, wide, high: (x, y, x + wide, y + high), low, low, more, more)
share = st.floats(-0.2, 1.2, allow_nan=False)


def pixels(letterbox: Letterbox, shares: tuple[float, ...]) -> np.ndarray:
    """(1, 4) a box of the letterbox's image, from shares of its width and height."""
    x1, x2 = sorted(each * letterbox.width for each in shares[:2])
    y1, y2 = sorted(each * letterbox.height for each in shares[2:])
    return np.array([[x1, y1, x2, y2]])


def cells(box: tuple[int, ...]) -> set[tuple[int, int]]:
    """The unit squares that a box of whole numbers covers."""
    return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}


@pytest.mark.slow
@given(letterboxes, st.tuples(share, share, share, share))
def test_to_the_square_and_back(letterbox, shares):
    box = pixels(letterbox, shares)
    there = letterbox.to_square(box)
    assert letterbox.to_original(there) == pytest.approx(box, abs=1e-6)
    assert letterbox.restore(letterbox.normalise(box)) == pytest.approx(box, abs=1e-6)


@given(letterboxes)
def test_the_whole_image_fills_its_part_of_the_square(letterbox):
    image = np.array([[0, 0, letterbox.width, letterbox.height]], float)
    x1, y1, x2, y2 = letterbox.to_square(image)[0]
    assert (x1, y1) == pytest.approx(letterbox.offset)
    assert (x2 - x1, y2 - y1) == pytest.approx(letterbox.inner)
    assert min(x1, y1) >= 0 and max(x2, y2) <= letterbox.size + 1e-9
    assert max(letterbox.inner) == letterbox.size and min(letterbox.inner) >= 1


@given(letterboxes)
def test_the_image_lies_in_the_middle(letterbox):
    for before, inner in zip(letterbox.offset, letterbox.inner, strict=True):
        assert before - (letterbox.size - before - inner) in (0, -1)


@pytest.mark.slow
@given(letterboxes, st.tuples(share, share, share, share))
def test_normalised_boxes_are_centre_and_size(letterbox, shares):
    x1, y1, x2, y2 = letterbox.to_square(pixels(letterbox, shares))[0] / letterbox.size
    expected = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    assert letterbox.normalise(pixels(letterbox, shares))[0] == pytest.approx(expected)


@given(whole, whole)
def test_overlap_is_what_counting_squares_gives(a, b):
    both, either = cells(a) & cells(b), cells(a) | cells(b)
    expected = len(both) / len(either) if either else 0.0
    rows = np.array([a], float), np.array([b], float)
    assert boxes.iou(*rows)[0, 0] == pytest.approx(expected)
    assert boxes.paired_iou(*rows)[0] == pytest.approx(expected)


@pytest.mark.slow
@given(st.lists(whole, min_size=1, max_size=4), st.lists(whole, min_size=1, max_size=4))
def test_overlap_of_many_is_each_with_each(a, b):
    table = boxes.iou(np.array(a, float), np.array(b, float))
    for n, one in enumerate(a):
        for m, other in enumerate(b):
            alone = boxes.iou(np.array([one], float), np.array([other], float))
            assert table[n, m] == alone[0, 0]


@given(whole, st.integers(1, 10), st.integers(1, 10))
def test_clipping_keeps_the_squares_inside(box, width, height):
    inside = {(x, y) for x, y in cells(box) if x < width and y < height}
    clipped = boxes.clip(box, width, height)
    assert (cells(tuple(map(int, clipped))) if clipped else set()) == inside


@pytest.mark.slow
@given(st.lists(filled, min_size=1, max_size=4))
def test_the_union_holds_all_and_no_more(many):
    found = boxes.union(many)
    rows = np.array(many)
    assert found == (*rows[:, :2].min(axis=0), *rows[:, 2:].max(axis=0))


@given(st.tuples(*[st.floats(0, 4000)] * 2), st.tuples(*[st.floats(1e-6, 900)] * 2))
def test_rounding_moves_no_edge_far_and_leaves_an_area(corner, size):
    box = (corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])
    found = boxes.rounded(box)
    assert found[2] > found[0] and found[3] > found[1]
    assert found == pytest.approx(box, abs=0.1501)
    assert all(round(each, 1) == each for each in found)
