"""The example models: they answer without any training, and say what they are."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medground import checkpoints, leakage, shipped, site_key
from medground.cli.main import cli
from medground.grounding import calibration
from medground.models import grounder
from medground.records import Phrase


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An image of a phantom."""
    folder = tmp_path_factory.mktemp("phantom")
    result = CliRunner().invoke(
        cli, ["phantom", str(folder), "--patients", "1", "--image-size", "256", "--seed", "5"]
    )
    assert result.exit_code == 0, result.output
    return next(iter(sorted((folder / "mimic-cxr-jpg").rglob("*.jpg"))))


PHRASES = (
    "left lung",
    "no left pleural effusion",
    "bilateral pleural effusions",
    "enlarged heart",
    "patchy opacity in the right mid lung, which is new since the earlier examination " * 4,
)
# Importing a module of this list costs up to four seconds.
SLOW = (
    *("torch", "transformers", "spacy", "scipy", "openvino_telemetry", "openvino.tools.ovc", "absl"),
    "medground.reports.parser",
)
START = """
import sys
from click.testing import CliRunner
from medground.cli.main import cli
result = CliRunner().invoke(cli, ["ground", sys.argv[1], "left lung", "--device", "cpu"])
assert result.exit_code == 0, result.output
print(*(name for name in sys.argv[2:] if sys.modules.get(name)))
"""


def run(*args):
    result = CliRunner().invoke(cli, [str(each) for each in args])
    assert result.exit_code == 0, result.output
    assert shipped.NOTICE in result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_a_phrase_is_answered_on_the_side_that_it_names(image):
    right, left = run("ground", image, "right lung", "left lung")
    middles = [np.mean(each["boxes"][0]["box"][::2]) for each in (right, left)]
    with Image.open(image) as picture:
        assert middles[0] < picture.width / 2 < middles[1]  # the patient's right is the picture's left
    assert all(each["calibrated"] for each in (right, left))


@pytest.mark.slow
def test_what_is_denied_is_not_present(image):
    there, denied = run("ground", image, "left lung", "no left pleural effusion")
    assert denied["present"] < 0.5 < there["present"]


def test_regions_are_found_where_they_belong(image):
    (anatomy,) = run("detect-anatomy", image)
    at = {each["name"]: each["box"] for each in anatomy["regions"]}
    assert len(at) >= 25
    assert at["right lung"][2] < at["left lung"][2]
    assert at["trachea"][1] < at["carina"][1] + 1


def test_they_are_small_and_record_published_data_only():
    files = [each for each in shipped.FOLDER.rglob("*") if each.is_file()]
    assert sum(each.stat().st_size for each in files) < 30e6
    record = checkpoints.read_config(shipped.GROUNDER / "model.safetensors")["record"]
    assert record["key"] == site_key.PUBLIC
    trained = leakage.Patients.trained(record)
    nih, other = (
        Phrase(image_id=f"{patient}_002", phrase_id="1", subject_id=patient, path="", text="x")
        for patient in ("00000261", "p10000032")
    )
    assert nih in trained and other not in trained


def test_the_calibration_is_that_of_the_weights():
    assert calibration.load(shipped.GROUNDER, grounder.name_of(shipped.GROUNDER))


@pytest.mark.slow
def test_the_export_predicts_as_torch_does_in_every_field(image):
    exported, torched = (
        CliRunner().invoke(cli, ["ground", str(image), *PHRASES, "--min-score", "0", "--backend", backend])
        for backend in ("auto", "torch")
    )
    assert exported.stderr == torched.stderr
    assert "longer than the text length" in exported.stderr
    pairs = [[json.loads(line) for line in each.stdout.splitlines()] for each in (exported, torched)]
    for one, other in zip(*pairs, strict=True):
        boxes, true_boxes = one.pop("boxes"), other.pop("boxes")
        present, true_present = one.pop("present"), other.pop("present")
        assert one.pop("distance") == pytest.approx(other.pop("distance"), abs=0.02)
        assert one == other
        assert present == pytest.approx(true_present, abs=2e-4)
        for box, true_box in zip(boxes, true_boxes, strict=True):
            assert box["box"] == pytest.approx(true_box["box"], abs=0.11)
            assert box["score"] == pytest.approx(true_box["score"], abs=2e-4)


@pytest.mark.slow
def test_a_prediction_starts_without_the_libraries_that_take_seconds(image):
    code = [sys.executable, "-c", START, str(image), *SLOW]
    assert subprocess.run(code, capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["openvino", "image.bin", "phrases.xml"])
def test_without_a_working_export_torch_predicts_with_one_warning(image, tmp_path, monkeypatch, damage):
    folder = shutil.copytree(shipped.GROUNDER, tmp_path / "model")
    if damage == "openvino":
        monkeypatch.setitem(sys.modules, "openvino", None)
    else:
        (folder / damage).write_bytes((folder / damage).read_bytes()[:-9])
    result = CliRunner().invoke(cli, ["ground", str(image), "left lung", "--model", str(folder)])
    assert (result.exit_code, result.stderr.count("predicting with torch")) == (0, 1), result.stderr
    assert result.stderr.count("unlike those of the calibration") == 1
    assert len(result.stderr.splitlines()) == 2
    expected = run("ground", image, "left lung", "--backend", "torch")
    assert [json.loads(line) for line in result.stdout.splitlines()] == expected
    result = CliRunner().invoke(
        cli, ["ground", str(image), "x", "--model", str(folder), "--backend", "exported"]
    )
    assert result.exit_code == 1
