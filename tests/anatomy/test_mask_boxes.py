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
    write_films,
)

from medground.anatomy import regions
from medground.cli.main import cli


@pytest.fixture
def films(tmp_path):
    return write_films(tmp_path)


@pytest.mark.slow
def test_a_line_keeps_what_it_carries_and_says_where_its_boxes_come_from(films):
    write_cxas(films / "masks", "npz", 0)
    write_cxas(films / "masks", "npz", 1)
    line = json.loads(detect(films, "cxas").stdout.splitlines()[0])
    assert (line["split"], line["width"], line["height"]) == ("test", WIDTH, HEIGHT)
    assert line["model"].startswith("cxas-") and {each["score"] for each in line["regions"]} == {1.0}


@pytest.mark.slow
def test_another_fit_moves_the_boxes(films):
    for number in range(2):
        np.save(films / "masks" / f"film{number}.npy", pspnet_array())
    assert (
        boxes(detect(films, "pspnet"))[RIGHT]
        != boxes(detect(films, "pspnet", "--mask-fit", "stretch"))[RIGHT]
    )


def test_the_viewers_left_is_the_patients_right(films):
    for number in range(2):
        swapped = {regions.swap_sides(name): mask for name, mask in chest().items()}
        np.savez(films / "masks" / f"film{number}.npz", **swapped)
    result = detect(films, "named")
    assert [json.loads(line)["view"] for line in result.stdout.splitlines()] == ["other"] * 2
    assert not boxes(result) and result.stderr.count("--mask-sides viewer") == 2
    found = boxes(detect(films, "named", "--mask-sides", "viewer"))
    assert found[RIGHT] == pytest.approx(slow_box(chest()["right lung"]), abs=0.1)


def test_what_does_not_go_together_is_a_usage_error(films):
    command = ["detect-anatomy", str(films / "list.jsonl"), "--masks", str(films / "masks")]
    for flags in ([], ["--model", str(films / "list.jsonl"), "--mask-format", "cxas"]):
        assert CliRunner().invoke(cli, [*command, *flags]).exit_code == 2


@pytest.mark.slow
def test_masks_taken_otherwise_are_not_mixed(films):
    for number in range(2):
        np.save(films / "masks" / f"film{number}.npy", pspnet_array())
    target = films / "out.jsonl"
    assert detect(films, "pspnet", "-o", target).exit_code == 0
    assert detect(films, "pspnet", "--resume", "-o", target).exit_code == 0
    result = detect(films, "pspnet", "--mask-fit", "stretch", "--resume", "-o", target)
    assert result.exit_code == 1 and "boxes of another model" in result.stderr
