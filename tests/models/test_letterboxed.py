"""Images as network inputs."""

import numpy as np
import pytest
from PIL import Image

from medground import images
from medground.boxes import Letterbox
from medground.errors import MedgroundError
from medground.models import letterboxed


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.3, 0.0), (0.5, 0.4)])
def test_exposure_does_not_change_what_the_network_sees(gain, offset):
    image = np.random.default_rng(0).random((300, 200), dtype=np.float32)
    assert np.allclose(letterboxed.windowed(image * gain + offset), letterboxed.windowed(image), atol=1e-4)


def test_a_constant_image_is_black_not_nan():
    assert (letterboxed.windowed(np.full((20, 30), 0.7, np.float32)) == 0).all()


NOISE = np.random.default_rng(0)
BYTES = {
    "noise": NOISE.integers(0, 256, (301, 257), np.uint8),
    "few grey values": NOISE.integers(100, 112, (420, 300), np.uint8),
    "black and white": NOISE.integers(0, 2, (257, 530), np.uint8) * np.uint8(255),
    "a slope": (np.add.outer(np.arange(900), np.arange(700)) // 8).astype(np.uint8),
    "constant": np.full((300, 200), 77, np.uint8),
    "small": NOISE.integers(0, 256, (70, 60), np.uint8),
    "smaller than the square": NOISE.integers(0, 256, (30, 20), np.uint8),
}


@pytest.mark.parametrize("size", [48, 100])
@pytest.mark.parametrize("kind", BYTES)
def test_bytes_are_read_as_the_slow_way_with_floats_reads_them(kind, size, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(BYTES[kind]).save(path)
    found, slow = letterboxed.read(path, size), letterboxed.of(images.load(path), size)
    assert found.letterbox == slow.letterbox
    assert np.abs(found.square.astype(int) - slow.square).max() <= 1
    squares = (images.letterbox(load(path), size)[0] for load in (images.load_shown, images.load))
    one, other = (np.rint(each * 255) for each in squares)
    assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 3), (7, 4)])
def test_a_sample_is_every_nth_pixel(across, down):
    found = images.sampled(Image.fromarray(BYTES["noise"]), across, down)
    assert np.array_equal(np.asarray(found), BYTES["noise"][::down, ::across])


def test_colour_and_turned_pictures_are_read_as_bytes_too(tmp_path):
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[images.ORIENTATION] = 6
    Image.fromarray(np.stack([BYTES["noise"]] * 3, axis=2)).save(path, quality=95, exif=exif)
    assert images.load_shown(path).mode == "L"
    found, slow = letterboxed.read(path, 48), letterboxed.of(images.load(path), 48)
    assert found.letterbox == slow.letterbox == Letterbox(301, 257, 48)
    assert np.abs(found.square.astype(int) - slow.square).max() <= 1


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
