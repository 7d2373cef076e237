"""The example models: they answer without any training, and say what they are."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medground import checkpoints, shipped
from medground.cli.main import cli
from medground.grounding import calibration
from medground.models import grounder


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film of a phantom."""
    folder = tmp_path_factory.mktemp("phantom")
    result = CliRunner().invoke(
        cli, ["phantom", str(folder), "--patients", "1", "--image-size", "256", "--seed", "5"]
    )
    assert result.exit_code == 0, result.output
    return next(iter(sorted((folder / "mimic-cxr-jpg").rglob("*.jpg"))))


def run(*args):
    result = CliRunner().invoke(cli, [str(each) for each in args])
    assert result.exit_code == 0, result.output
    assert shipped.NOTICE in result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_phrase_is_answered_on_the_side_that_it_names(film):
    right, left = run("ground", film, "right lung", "left lung")
    middles = [np.mean(each["boxes"][0]["box"][::2]) for each in (right, left)]
    with Image.open(film) as picture:
        assert middles[0] < picture.width / 2 < middles[1]  # the patient's right is the picture's left
    assert all(each["calibrated"] for each in (right, left))


def test_what_is_denied_is_not_present(film):
    there, denied = run("ground", film, "left lung", "no left pleural effusion")
    assert denied["present"] < 0.5 < there["present"]


def test_regions_are_found_where_they_belong(film):
    (anatomy,) = run("detect-anatomy", film)
    at = {each["name"]: each["box"] for each in anatomy["regions"]}
    assert len(at) >= 25
    assert at["right lung"][2] < at["left lung"][2]
    assert at["trachea"][1] < at["carina"][1] + 1


def test_they_are_small_and_have_seen_nobody():
    files = [each for each in shipped.FOLDER.rglob("*") if each.is_file()]
    assert sum(each.stat().st_size for each in files) < 20e6
    assert checkpoints.read_config(shipped.GROUNDER / "model.safetensors")["record"]["subjects"] == []


def test_the_calibration_is_that_of_the_weights():
    assert calibration.load(shipped.GROUNDER, grounder.name_of(shipped.GROUNDER))
