"""Frames against the code that makes them."""

import pytest

from medground.answers import frames
from medground.errors import BadRecord

WIDTH, HEIGHT = 2544, 3056
BOX = (300.0, 1500.0, 1100.0, 2300.0)


@pytest.mark.parametrize(
    ("width", "height", "least", "most", "expected"),
    [
        (2544, 3056, *frames.PIXELS, (2548, 3052)),
        (2544, 3056, 3136, 1003520, (896, 1092)),
        (20, 30, *frames.PIXELS, (56, 84)),
        (5, 700, *frames.PIXELS, (28, 700)),
    ],
)
def test_the_size_is_that_of_smart_resize_in_transformers(width, height, least, most, expected):
    assert frames.smart_resize(width, height, least, most) == expected


def test_a_box_of_the_resized_image_is_led_back():
    wide, high = 896, 1092
    box = (BOX[0] * wide / WIDTH, BOX[1] * high / HEIGHT, BOX[2] * wide / WIDTH, BOX[3] * high / HEIGHT)
    assert frames.to_original("smart-resize:3136-1003520", box, WIDTH, HEIGHT) == pytest.approx(BOX)


@pytest.mark.parametrize(("frame", "units"), [("padded:1", 1), ("letterbox:1", 1), ("padded:1000", 1000)])
def test_fractions_of_the_padded_square(frame, units):
    left = (HEIGHT - WIDTH) / 2
    x1, y1, x2, y2 = BOX
    there = tuple(each * units / HEIGHT for each in (x1 + left, y1, x2 + left, y2))
    assert frames.to_original(frame, there, WIDTH, HEIGHT) == pytest.approx(BOX)


def test_x_and_y_are_changed():
    there = tuple(each / side for each, side in zip(BOX, (WIDTH, HEIGHT) * 2, strict=True))
    turned = there[1], there[0], there[3], there[2]
    assert frames.to_original("yx:normalised", turned, WIDTH, HEIGHT) == pytest.approx(BOX)


def test_a_box_beyond_its_frame_names_the_frame_that_it_looks_like():
    for box, like in [
        ((1, 2, 50, 60), "100x100"),
        ((1, 2, 500, 600), "1000x1000"),
        ((1, 2, 9, 2000), "original"),
    ]:
        with pytest.raises(BadRecord, match=f"beyond the frame normalised: is it --coordinates .*{like}"):
            frames.to_original("normalised", box, WIDTH, HEIGHT)
