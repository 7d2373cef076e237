"""Pictures get their names when they are complete: a run that is killed leaves no half of one."""

import numpy as np
import pytest
from PIL import Image

from medground.anatomy import region_query
from medground.anatomy.image_set import ImageSet
from medground.grounding import names, overlays
from medground.records import Grounding, Phrase, ScoredBox
from medground.training.detectors import region_query as training
from medground.training.run_dir import METRICS, PICTURE, RunFolder

EARLIER = b"of an earlier run"


class Killed(BaseException):
    """The end of a process in the middle of a file."""


@pytest.fixture
def half(monkeypatch):
    """Let only the first bytes of pictures be written."""

    def save(picture, stream, *args, **kwargs):
        stream.write(b"\x89PNG half")
        stream.flush()
        raise Killed

    monkeypatch.setattr(Image.Image, "save", save)


def overlay(folder):
    Image.new("L", (9, 9)).save(folder / "a.png")
    phrase = Phrase(image_id="a", phrase_id="p", path="a.png", text="mass", width=9, height=9)
    box = ScoredBox(box=(1, 2, 3, 4), score=0.5)
    found = Grounding(image_id="a", phrase_id="p", text="mass", boxes=[box], present=1, model="m")
    return folder / "out" / f"{names.of_phrase('a', 'p')}.png", lambda: list(
        overlays.draw_overlays([(phrase, found)], folder, folder / "out")
    )


def losses(folder):
    (folder / METRICS).write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5}\n')
    return folder / PICTURE, RunFolder(folder, {}).draw


def regions(folder):
    config = region_query.Config(names=("spine",), size=32, channels=(8, 8, 8, 8), width=8, heads=1, layers=1)
    network = region_query.RegionQuery(config)
    squares, boxes = np.zeros((1, 32, 32), np.uint8), np.zeros((1, 1, 4), np.float32)
    images = ImageSet(squares, boxes, np.ones((1, 1), np.int8))
    return folder / training.PICTURE, lambda: training._finish(network, images, folder)


@pytest.mark.parametrize("make", [overlay, losses, regions])
def test_half_a_picture_has_no_name(make, tmp_path, request):
    path, draw = make(tmp_path)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(EARLIER)
    draw()
    assert path.read_bytes() != EARLIER
    Image.open(path).load()
    path.write_bytes(EARLIER)
    request.getfixturevalue("half")
    with pytest.raises(Killed):
        draw()
    assert path.read_bytes() == EARLIER and not list(path.parent.glob("*.partial"))
