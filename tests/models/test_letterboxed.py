"""Images as network inputs."""

import numpy as np
import pytest
from PIL import Image

from medground.boxes import Letterbox
from medground.errors import MedgroundError
from medground.models import letterboxed


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.3, 0.0), (0.5, 0.4)])
def test_exposure_does_not_change_what_the_network_sees(gain, offset):
    image = np.random.default_rng(0).random((300, 200), dtype=np.float32)
    assert np.allclose(letterboxed.windowed(image * gain + offset), letterboxed.windowed(image), atol=1e-4)


def test_a_constant_image_is_black_not_nan():
    assert (letterboxed.windowed(np.full((20, 30), 0.7, np.float32)) == 0).all()


def test_the_padding_is_marked_and_black(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 80), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    picture = letterboxed.read(tmp_path / "a.png", 32).picture()
    assert picture[1].sum() == 32 * 16
    assert (picture[0][picture[1] == 0] == 0).all()


def test_boxes_on_a_scaled_copy_are_in_the_pixels_of_the_original():
    square = np.zeros((64, 64), np.uint8)
    copy = letterboxed.LetterboxedImage(
        square, Letterbox(427, 512, 64)
    )  # 2544 x 3056, the long side brought to 512: 426.2
    shown = copy.sized(2544, 3056, "a.png", "phrase p1")
    assert (shown.letterbox.width, shown.letterbox.height) == (2544, 3056)
    assert shown.letterbox.inner == copy.letterbox.inner  # what lies in the square is the copy
    whole = shown.letterbox.restore(copy.letterbox.normalise(np.array([[0.0, 0, 427, 512]])))
    assert np.allclose(whole, [[0, 0, 2544, 3056]])
    for width, height in ((None, None), (427, 512), (0, 0)):
        assert copy.sized(width, height, "a.png", "phrase p1").letterbox == copy.letterbox


@pytest.mark.parametrize("size", [(3056, 2544), (2544, 2544), (2000, 3056), (-5, -6)])
def test_another_picture_than_the_record_means_is_refused_with_both_sizes(size):
    copy = letterboxed.LetterboxedImage(np.zeros((64, 64), np.uint8), Letterbox(426, 512, 64))
    with pytest.raises(MedgroundError) as raised:
        copy.sized(*size, "a.png", "phrase p1")
    assert str(raised.value) == (
        f"a.png: is 426 x 512 pixels, phrase p1 says {size[0]} x {size[1]}, which is no scaled copy; "
        "give the annotated images with --images"
    )
