"""A model that begins to load, and an image that is read meanwhile."""

import inspect
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import medground
from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.grounding import loading, views
from medground.models import view_check
from medground.record_json import to_json

IMAGE = Path(__file__).parents[2] / "docs" / "images" / "right-mid-lung-opacity.png"
DEFAULTS = {
    name: each.default
    for name, each in inspect.signature(loading.load).parameters.items()
    if each.kind is each.KEYWORD_ONLY
}


def start(model="example", **chosen):
    """Begin to load a model with the defaults of `load`."""
    return loading.start(model, **DEFAULTS | chosen)


@pytest.mark.slow
@pytest.mark.usefixtures("real_view_check")
def test_an_image_that_was_read_meanwhile_has_the_same_predictions(monkeypatch):
    expected = medground.load().predict(IMAGE, "left lung")
    ready = start()(IMAGE)
    assert ready.seen.path == IMAGE and ready.seen.is_frontal
    monkeypatch.setattr(views.images, "load_shown", None)
    monkeypatch.setattr(type(ready.view_check), "is_frontal", None)
    assert ready.predict(IMAGE, "left lung") == expected


@pytest.mark.slow
def test_ground_writes_what_the_model_predicts():
    result = CliRunner().invoke(cli, ["ground", str(IMAGE), "left lung"])
    (expected,) = medground.load().predict(IMAGE, "left lung")
    assert json.loads(result.stdout) == json.loads(json.dumps(to_json(expected)))


def test_another_image_is_read_when_it_is_predicted(tmp_path):
    seen = views.Seen.of(IMAGE, None)
    with pytest.raises(MedgroundError, match="No such file"):
        views.Views(None, seen).load_shown(tmp_path / "other.png")


def test_an_unreadable_image_is_no_error_until_it_is_predicted(tmp_path):
    (tmp_path / "image.png").write_bytes(b"none")
    assert views.Seen.of(tmp_path / "image.png", None) is None


def test_an_image_read_without_a_check_is_checked_later():
    class Check(view_check.ViewCheck):
        def is_frontal(self, image):
            return False

    seen = views.Seen.of(IMAGE, None)
    assert seen.is_frontal is None
    assert not views.Views(Check(None), seen)._is_frontal(Check(None), seen.image)


def test_a_prompt_for_a_model_of_medground_is_an_error():
    with pytest.raises(MedgroundError, match="leave it out"):
        start(prompt="{phrase}")


def test_a_missing_folder_is_an_error_before_anything_loads(tmp_path):
    with pytest.raises(MedgroundError, match="no such folder"):
        start(tmp_path / "none")
