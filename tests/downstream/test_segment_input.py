"""Bad input of `medground segment`: each is one line, and with --rejects the rest is used."""

import json

import discs
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import save_file

from medground import site_key
from medground.cli.main import cli
from medground.models import grounder

QUICK = [
    "--width",
    "8",
    "--width",
    "8",
    "--width",
    "8",
    "--width",
    "8",
    "--epochs",
    "1",
    "--image-size",
    "32",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("segment-input")
    discs.write(here, count=20)
    torch.manual_seed(0)
    grounder.save(here / "model", grounder.build("small", ["bright spot"], image_size=64))
    return here


@pytest.fixture
def lines(folder):
    return [json.loads(line) for line in (folder / "masks.jsonl").read_text().splitlines()]


@pytest.fixture
def run(folder, tmp_path):
    """Write the lines as masks.jsonl and run the command on it, with one quick epoch."""

    def call(lines, *args, encoder="model", quick=True):
        path = tmp_path / "masks.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in lines))
        words = ["segment", str(path), "--encoder", f"{folder}/{encoder}", "--images", f"{folder}"]
        return CliRunner().invoke(cli, [*words, *(QUICK if quick else []), *args])

    return call


def refused(result, *parts):
    """Check that a run ended with one line that has these parts."""
    assert result.exit_code == 1 and result.stdout == ""
    message = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(message) == 1 and result.stderr.splitlines()[-1] == message[0]
    for part in parts:
        assert part in message[0]


BAD = {  # change of line 3, and the message
    "two masks": ({"image_id": "image0", "path": "image0.png"}, "masks.jsonl:3: category: the second mask"),
    "run lengths": ({"counts": "11"}, "masks.jsonl:3: counts: expected COCO's run lengths"),
    "no width": ({"width": None}, "masks.jsonl:3: width: "),
    "another size": ({"width": 48, "height": 60}, "image2.png: is 60 x 48 pixels, its mask says 48 x 60"),
    "no image": ({"path": "none.png"}, "none.png: No such file"),
    "no picture": ({"path": "masks.jsonl"}, "masks.jsonl: not an image"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change, message", BAD.values(), ids=BAD)
def test_a_bad_mask_is_one_line_and_can_be_rejected(run, lines, tmp_path, change, message):
    whole = lines[2]
    lines[2] = whole | change
    refused(run(lines), message)
    result = run(lines, "--rejects", f"{tmp_path}/bad.jsonl", "-o", f"{tmp_path}/out.jsonl")
    assert result.exit_code == 0 and result.stderr.count("rejected ") == 1
    assert json.loads((tmp_path / "bad.jsonl").read_text()) == lines[2]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 8


def test_masks_of_one_image_that_contradict_each_other_are_bad_lines(run, lines):
    both = [each | {"category": name} for each in lines for name in ("Disc", "Ring")]
    for key, other in (("split", "val"), ("path", "image7.png"), ("subject_id", "x"), ("height", 49)):
        changed = [*both[:3], both[3] | {key: other}, *both[4:]]
        if key == "height":
            changed[3]["counts"] = ""
            refused(run(changed), "masks.jsonl:4: counts")
        else:
            refused(run(changed), f"{key}: ", "another mask of this image differs")


@pytest.mark.slow
def test_an_image_without_a_mask_of_each_class_is_refused_or_left_out(run, lines, tmp_path):
    both = [each | {"category": name} for each in lines for name in ("Disc", "Ring")]
    del both[-1]
    refused(run(both), "image19.png: has no mask of the class Ring; an absent one is an empty mask")
    result = run(both, "--rejects", f"{tmp_path}/bad.jsonl")
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert "image19" not in {each["image_id"] for each in found}
    assert [each["category"] for each in found[:4]] == ["Disc", "Ring"] * 2


@pytest.mark.slow
def test_a_patient_in_two_splits_is_refused_or_marked(run, lines):
    lines[-1]["subject_id"] = "p0"
    refused(run(lines), "1 subject is in both training and test", "--allow-leakage")
    result = run(lines, "--allow-leakage")
    assert result.exit_code == 0 and all(
        json.loads(line)["leakage"] is True for line in result.stdout.splitlines()
    )


@pytest.mark.parametrize("missing", ["train", "val", "test"])
def test_every_split_is_needed(run, lines, missing):
    refused(run([each for each in lines if each["split"] != missing]), f"no image is of {missing}")


def test_a_share_without_a_mask_is_refused_before_any_run(run, lines):
    for each in lines:
        if each["split"] == "train" and each["subject_id"] != "p0":
            each["counts"] = "Pj2"
    shares = ("--share", "1", "--share", "0.01", "--seeds", "3")
    refused(run(lines, *shares), "--share 0.01, seed", "no training mask has a pixel; give a larger share")


@pytest.mark.slow
def test_images_that_the_encoder_was_trained_on_are_refused(run, lines, folder):
    key = site_key.find_or_create()
    record = {"subjects": sorted({key.digest("p4")}), "key": key.name}
    grounder.save(folder / "trained", grounder.load(folder / "model"), record)
    refused(run(lines, encoder="trained"), "1 subject is in both test and the training data of")
    result = run(lines, "--allow-leakage", encoder="trained")
    assert json.loads(result.stdout.splitlines()[0])["leakage"] is True


@pytest.mark.slow
def test_a_scaled_copy_of_an_image_takes_the_masks_of_the_original(run, lines, folder):
    with Image.open(folder / "image8.png") as image:
        image.resize((30, 24)).save(folder / "copy.png")
    lines[8]["path"] = "copy.png"
    result = run(lines)
    found = next(each for each in map(json.loads, result.stdout.splitlines()) if each["path"] == "copy.png")
    assert (found["width"], found["height"]) == (60, 48)


# Options and heads


@pytest.mark.parametrize(
    "args, message",
    [
        (["--resume"], "--resume requires -o FILE"),
        (["--encoder-lr", "1e-3"], "--encoder-lr needs --unfreeze"),
        (["--save-head", "h.safetensors", "--seeds", "2"], "give one --share and --seeds 1"),
        (
            ["--save-head", "h.safetensors", "--share", "1", "--share", "0.5"],
            "give one --share and --seeds 1",
        ),
        (["--head", "HEAD", "--unfreeze"], "--unfreeze: not with --head"),
        (["--head", "HEAD", "--width", "8"], "--width: not with --head"),
        (["--head", "HEAD", "--lr", "1e-3"], "--lr: not with --head"),
        (["--head", "HEAD", "--share", "1"], "--share: not with --head"),
        (["--threshold", "0"], "--threshold"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(run, lines, tmp_path, args, message):
    (tmp_path / "head.safetensors").touch()
    args = [str(tmp_path / "head.safetensors") if each == "HEAD" else each for each in args]
    result = run(lines, *args, quick=False)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_widths_and_decoders_that_do_not_fit_the_encoder_are_refused(run, lines):
    refused(run(lines, "--width", "8"), "--width: expected 4 numbers")


@pytest.mark.slow
def test_a_head_is_applied_only_to_other_images_and_over_its_own_encoder(run, lines, folder, tmp_path):
    head = f"{tmp_path}/head.safetensors"
    assert run(lines, "--save-head", head, "-o", f"{tmp_path}/out.jsonl").exit_code == 0
    refused(
        run(lines, "--head", head, quick=False), "8 subjects are in both the images and", "--allow-leakage"
    )
    result = run(lines[:1], "--head", head, "--allow-leakage", quick=False)
    assert json.loads(result.stdout)["leakage"] is True
    torch.manual_seed(1)
    grounder.save(folder / "other", grounder.build("small", ["bright spot"], image_size=64))
    test = [each for each in lines if each["split"] == "test"]
    refused(run(test, "--head", head, encoder="other", quick=False), "was trained over another encoder")
    test[0]["path"] = "none.png"
    refused(run(test, "--head", head, quick=False), "none.png: No such file")
    result = run(test, "--head", head, "--rejects", f"{tmp_path}/bad.jsonl", quick=False)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == len(test) - 1


@pytest.mark.parametrize("config", [None, {"kind": "other"}, {"kind": "segmentation", "shape": {"name": 3}}])
def test_another_file_is_no_head(run, lines, tmp_path, config):
    header = {} if config is None else {"medground": json.dumps({"config": config})}
    save_file({"a": np.zeros(1, np.float32)}, f"{tmp_path}/h.safetensors", header)
    result = run(lines, "--head", f"{tmp_path}/h.safetensors", quick=False)
    refused(result, "not a medground checkpoint" if config is None else "not a head of medground segment")
