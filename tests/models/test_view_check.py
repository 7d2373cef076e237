"""The view check: frontal images pass, laterals, sections, figures of panels and rotated images do not."""

import json
import sys

import numpy as np
import pytest
import view_images
from click.testing import CliRunner
from PIL import Image

import medground
from medground import images, jsonl
from medground.cli.main import cli
from medground.models import view_check
from medground.phantom.cohort import render
from medground.record_json import to_json
from medground.records import Phrase

START = view_check.start  # other tests get a check that accepts all images


@pytest.fixture(scope="module")
def check():
    return START()()


@pytest.fixture(scope="module")
def frontal():
    return render(3, 0, 192).image.astype(np.float32) / 255


@pytest.fixture(scope="module")
def lateral():
    return view_images.lateral(np.random.default_rng(0), 192)


@pytest.fixture
def folder(tmp_path, frontal, lateral):
    """A folder with a frontal and a lateral image."""
    for name, image in (("frontal", frontal), ("lateral", lateral)):
        Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.slow
def test_an_upright_frontal_image_passes(check, frontal):
    assert check.is_frontal(frontal)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rotated_image_does_not(check, frontal, turns):
    assert not check.is_frontal(np.rot90(frontal, turns).copy())


def test_a_lateral_and_a_section_do_not(check, lateral):
    assert not check.is_frontal(lateral)
    assert not check.is_frontal(view_images.coronal(np.random.default_rng(1), 192))


@pytest.mark.parametrize("axis", [0, 1])
def test_two_frontal_images_in_one_figure_do_not(check, frontal, axis):
    assert not check.is_frontal(np.concatenate([frontal, frontal], axis=axis))


def test_an_image_twice_as_wide_as_high_does_not(check, frontal):
    assert check.is_frontal(np.pad(frontal, ((0, 0), (20, 20))))
    assert not check.is_frontal(np.pad(frontal, ((0, 0), (120, 120))))


def test_a_batch_has_the_verdicts_of_its_images(check, frontal, lateral):
    squares = [check.square(each) for each in (frontal, lateral, frontal)]
    assert check.are_frontal(squares) == [True, False, True]


def test_without_openvino_views_are_not_checked(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert START()() is None
    assert "the views of images are not checked" in caplog.text


def run(*args):
    result = CliRunner().invoke(cli, [str(each) for each in args])
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("real_view_check")
def test_detect_anatomy_refuses_a_lateral_unless_any_view_is_allowed(folder):
    (frontal, lateral), stderr = run("detect-anatomy", folder)
    assert frontal["regions"] and "view" not in frontal
    assert (lateral["view"], lateral["regions"]) == ("other", [])
    assert stderr.count("lateral.png: probably not a single upright frontal") == 1
    (first, second), stderr = run("detect-anatomy", folder, "--any-view", "--min-score", 0)
    assert len(second["regions"]) == len(first["regions"]) and "view" not in second
    assert "probably" not in stderr
    assert [each.view for each in medground.detect(folder)] == [None, "other"]
    assert all(each.regions for each in medground.detect(folder, any_view=True, min_score=0))


@pytest.fixture
def phrases(folder):
    """Three phrases: of the frontal image, of the lateral one, and of one that is lateral by its record."""
    lines = [
        {"image_id": name, "phrase_id": f"{name}{n}", "path": f"{name}.png", "text": "left lung", **more}
        for n, (name, more) in enumerate(
            [
                ("frontal", {}),
                ("lateral", {}),
                ("frontal", {"view": "LL"}),
                ("lateral", {"existence": "absent"}),
            ]
        )
    ]
    path = folder / "phrases.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("real_view_check")
def test_ground_marks_what_is_no_frontal_image_and_keeps_its_boxes(folder, phrases):
    found, stderr = run("ground", "--phrases", phrases, "--images", folder)
    assert [each.get("view") for each in found] == [None, "other", "LL", "other"]
    assert [len(each["boxes"]) for each in found] == [1, 1, 1, 0]
    assert stderr.count("lateral.png: probably not") == 1 and "2 images: probably not" in stderr
    loaded = medground.load()
    with phrases.open("rb") as stream:
        records = list(jsonl.read(stream, Phrase, jsonl.BadLines()))
    same = [to_json(each) for each in loaded.predict(records, folder=folder)]
    assert [json.loads(json.dumps(each)) for each in same] == found


@pytest.mark.slow
@pytest.mark.usefixtures("real_view_check")
def test_ground_does_not_look_with_any_view(folder, phrases):
    found, stderr = run("ground", "--phrases", phrases, "--images", folder, "--any-view")
    assert [each.get("view") for each in found] == [None, None, "LL", None]
    assert "probably" not in stderr
    assert medground.load(any_view=True).view_check is None


def test_masks_have_no_view_check(tmp_path):
    how = ["--masks", str(tmp_path), "--mask-format", "cxas", "--any-view"]
    result = CliRunner().invoke(cli, ["detect-anatomy", *how])
    assert result.exit_code == 2 and "--any-view is for --model" in result.stderr


@pytest.mark.slow
def test_real_laterals_are_flagged_and_real_frontal_images_are_not(check, shared):
    def passed(folder):
        paths = sorted((shared / "data" / folder / "images").iterdir())
        return [check.is_frontal(images.load(path)) for path in paths]

    laterals, frontals = passed("laterals"), passed("real_cxr")
    assert sum(laterals) <= 1
    assert all(frontals)
