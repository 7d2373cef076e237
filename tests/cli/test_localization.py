"""RSNA's boxes through convert, ground and evaluate, with images that have no box."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medground.cli.main import cli


def run(*words):
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def rsna(tmp_path):
    """stage_2_train_labels.csv with two positive and three negative patients, and copies of their images."""
    table = "patientId,x,y,width,height,Target\na,100,200,300,400,1\na,600,200,300,400,1\nb,10,20,100,90,1\n"
    (tmp_path / "labels.csv").write_text(table + "".join(f"{name},,,,,0\n" for name in "cde"))
    rng = np.random.default_rng(0)
    for name in "abcde":
        Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / f"{name}.dcm", "PNG")
    return tmp_path


@pytest.mark.slow
def test_every_image_counts_also_those_without_a_box(rsna, pretrained, tmp_path):
    run("convert", "rsna", rsna / "labels.csv", "--absent", "-o", tmp_path / "truth.jsonl")
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert [len(each["boxes"]) for each in truth] == [2, 1, 0, 0, 0]
    words = ["--phrases", tmp_path / "truth.jsonl", "--images", rsna, "--model", pretrained]
    run("ground", *words, "-o", tmp_path / "found.jsonl")
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert all(each["boxes"] for each in found), "a negative image is searched like any other"
    words = ["--truth", tmp_path / "truth.jsonl", "--protocol", "rsna", "--protocol", "pointing"]
    scores = run("evaluate", tmp_path / "found.jsonl", *words, "--bootstrap-samples", "100")
    counted = {each["metric"]: each["n"] for each in scores if each["group"] == "all"}
    assert counted == {"ap@.4:.75": 5, "kaggle@.4:.75": 5, "pointing": 2}


def test_the_splits_of_phrases_are_those_of_masks(rsna):
    phrases = run("convert", "rsna", rsna / "labels.csv", "--absent")
    masks = run("convert", "rsna-masks", rsna / "labels.csv")
    keys = ("image_id", "split", "split_by")
    assert [[each[key] for key in keys] for each in phrases] == [
        [each[key] for key in keys] for each in masks
    ]
    assert phrases[0]["split_by"] == "patients 60:20:20, seed 0"
    shares = ("--split-shares", "0", "0", "1")
    assert {each["split"] for each in run("convert", "rsna", rsna / "labels.csv", *shares)} == {"test"}
