"""detect-anatomy --masks as its user meets it: what a line says, fits, sides, and what is not mixed."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from drawn_masks import (
    HEIGHT,
    RIGHT,
    WIDTH,
    boxes,
    chest,
    detect,
    pspnet_array,
    slow_box,
    write_cxas,
    write_images,
)

from medground.anatomy import regions
from medground.cli.main import cli


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path)


@pytest.mark.slow
def test_a_line_keeps_what_it_carries_and_says_where_its_boxes_come_from(folder):
    write_cxas(folder / "masks", "npz", 0)
    write_cxas(folder / "masks", "npz", 1)
    line = json.loads(detect(folder, "cxas").stdout.splitlines()[0])
    assert (line["split"], line["width"], line["height"]) == ("test", WIDTH, HEIGHT)
    assert line["model"].startswith("cxas-") and {each["score"] for each in line["regions"]} == {1.0}


@pytest.mark.slow
def test_another_fit_moves_the_boxes(folder):
    for number in range(2):
        np.save(folder / "masks" / f"image{number}.npy", pspnet_array())
    assert (
        boxes(detect(folder, "pspnet"))[RIGHT]
        != boxes(detect(folder, "pspnet", "--mask-fit", "stretch"))[RIGHT]
    )


def test_the_viewers_left_is_the_patients_right(folder):
    for number in range(2):
        swapped = {regions.swap_sides(name): mask for name, mask in chest().items()}
        np.savez(folder / "masks" / f"image{number}.npz", **swapped)
    result = detect(folder, "named")
    assert [json.loads(line)["view"] for line in result.stdout.splitlines()] == ["other"] * 2
    assert not boxes(result) and result.stderr.count("--mask-sides viewer") == 2
    found = boxes(detect(folder, "named", "--mask-sides", "viewer"))
    assert found[RIGHT] == pytest.approx(slow_box(chest()["right lung"]), abs=0.1)


def test_what_does_not_go_together_is_a_usage_error(folder):
    command = ["detect-anatomy", str(folder / "list.jsonl"), "--masks", str(folder / "masks")]
    for flags in ([], ["--model", str(folder / "list.jsonl"), "--mask-format", "cxas"]):
        assert CliRunner().invoke(cli, [*command, *flags]).exit_code == 2


def test_options_without_an_effect_are_usage_errors(folder):
    listed, masks = str(folder / "list.jsonl"), ["--masks", str(folder / "masks"), "--mask-format", "cxas"]
    for flags, problem in (
        (["--mask-names", listed], "--mask-names is for --masks"),
        (["--mask-fit", "crop"], "--mask-fit is for --masks"),
        (["--mask-sides", "patient"], "--mask-sides is for --masks"),
        ([*masks, "--detector", "yolo"], "--detector is for --model"),
        ([*masks, "--trust-pickle"], "--trust-pickle is for --model"),
        ([*masks, "--device", "cpu"], "--device is for --model"),
    ):
        result = CliRunner().invoke(cli, ["detect-anatomy", listed, *flags])
        assert result.exit_code == 2 and problem in result.stderr


@pytest.mark.slow
def test_masks_taken_otherwise_are_not_mixed(folder):
    for number in range(2):
        np.save(folder / "masks" / f"image{number}.npy", pspnet_array())
    target = folder / "out.jsonl"
    assert detect(folder, "pspnet", "-o", target).exit_code == 0
    assert detect(folder, "pspnet", "--resume", "-o", target).exit_code == 0
    result = detect(folder, "pspnet", "--mask-fit", "stretch", "--resume", "-o", target)
    assert result.exit_code == 1 and "boxes of another model" in result.stderr
