"""What a network sees of a film."""

import numpy as np
import pytest
from PIL import Image

from medground.models import film


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.3, 0.0), (0.5, 0.4)])
def test_exposure_does_not_change_what_the_network_sees(gain, offset):
    image = np.random.default_rng(0).random((300, 200), dtype=np.float32)
    assert np.allclose(film.windowed(image * gain + offset), film.windowed(image), atol=1e-4)


def test_an_even_film_is_black_not_nan():
    assert (film.windowed(np.full((20, 30), 0.7, np.float32)) == 0).all()


def test_the_padding_is_marked_and_black(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 80), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    picture = film.read(tmp_path / "a.png", 32).picture()
    assert picture[1].sum() == 32 * 16
    assert (picture[0][picture[1] == 0] == 0).all()
