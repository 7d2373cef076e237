"""Detectors of the transformers library: tiny ones, built from a config, behind our own interface."""

import json

import drawn_images
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_detectors import HEADS, SIZES, d_fine, rt_detr

from medground.anatomy import detector, detr
from medground.cli.main import cli
from medground.compat_transformers import hide_broken_torchvision
from medground.errors import MedgroundError

hide_broken_torchvision()
NAMES = ["Right Lung", "left_lung", "heart", "spine", "left shoe"]


@pytest.fixture(scope="module", params=[rt_detr, d_fine], ids=["RT-DETRv2", "D-FINE"])
def folder(tmp_path_factory, request):
    """What save_pretrained leaves, with a preprocessor that asks for squares of 64."""
    path = tmp_path_factory.mktemp("detr")
    torch.manual_seed(0)
    request.param(id2label=dict(enumerate(NAMES)), **SIZES, **HEADS).save_pretrained(path)
    size = {"size": {"height": 64, "width": 64}, "do_normalize": False}
    (path / "preprocessor_config.json").write_text(json.dumps(size))
    return path


@pytest.mark.slow
def test_a_folder_is_a_detector_with_one_box_a_region(folder):
    found = detector.load(folder, "cpu")
    assert found.size == 64 and len(found.model) == 12
    for regions in found.find(np.random.default_rng(0).random((3, 64, 64), np.float32)):
        assert sorted(each.name for each in regions) == [
            "cardiac silhouette",
            "left lung",
            "right lung",
            "spine",
        ]
        assert all(0 <= each.score <= 1 and len(each.box) == 4 for each in regions)


@pytest.mark.slow
def test_the_best_query_of_each_class_is_taken(folder):
    found = detr.TransformersDetector(folder, "cpu")
    squares = np.random.default_rng(1).random((2, 64, 64), np.float32)
    with torch.inference_mode():
        answer = found.network(pixel_values=torch.from_numpy(squares)[:, None].expand(-1, 3, -1, -1))
    for n, regions in enumerate(found.find(squares)):
        for each in regions:
            column = found.names.index(each.name)
            scores = [float(query[column].sigmoid()) for query in answer.logits[n]]
            best = max(range(len(scores)), key=scores.__getitem__)
            cx, cy, w, h = (64 * float(value) for value in answer.pred_boxes[n, best])
            assert each.score == pytest.approx(scores[best], abs=1e-5)
            assert each.box == pytest.approx((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), abs=1e-3)


def test_a_class_for_no_object_takes_its_share():
    logits = torch.tensor([[[0.0, 0.0, 0.0]]])
    assert detr._scores(logits, 2)[0, 0].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert detr._scores(logits, 3)[0, 0].tolist() == [0.5] * 3


@pytest.mark.slow
def test_the_command_runs_it_like_any_other(folder, tmp_path):
    lines = drawn_images.write_images(tmp_path / "images", 3)
    command = ["detect-anatomy", str(tmp_path / "images"), "--model", str(folder), "--device", "cpu"]
    result = CliRunner().invoke(cli, [*command, "--detector", "transformers", "--min-score", "0"])
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["image_id"] for each in found] == [each["image_id"] for each in lines]
    assert {each["model"] for each in found} == {detr.hash_of(folder)}


@pytest.mark.slow
def test_mean_and_spread_are_those_of_the_preprocessor(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    said = {"size": 96, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    found = detr.TransformersDetector(tmp_path, "cpu")
    assert found.size == 96 and found.mean.flatten().tolist() == [0.5] * 3
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    with pytest.raises(MedgroundError, match="not a preprocessor config"):
        detr.TransformersDetector(tmp_path, "cpu")


@pytest.mark.slow
def test_a_size_that_the_network_does_not_take_is_said(folder, tmp_path):
    copied(folder, tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": 50}')
    with pytest.raises(MedgroundError, match="cannot process squares of 50"):
        detr.TransformersDetector(tmp_path, "cpu")


def copied(folder, target):
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target / "config.json", target / "model.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["no config", "no weights", "other names", "damaged", "other layers", "bert"])
def test_what_is_no_detector_of_regions_is_one_line(folder, tmp_path, how):
    config, weights = copied(folder, tmp_path)
    said = {
        "no config": "no config.json",
        "no weights": "no [*].safetensors",
        "other names": "no label of its id2label",
        "damaged": "not a detector that transformers can load",
        "other layers": "weights of another architecture",
        "bert": "not a detector that transformers can load",
    }[how]
    if how == "no config":
        config.unlink()
    elif how == "no weights":
        weights.rename(tmp_path / "pytorch_model.bin")
    elif how == "damaged":
        weights.write_bytes(weights.read_bytes()[:999])
    elif how == "bert":
        config.write_text('{"model_type": "bert"}')
    else:
        changed = json.loads(config.read_text())
        other = {"id2label": {"0": "cat", "1": "dog", "2": "a", "3": "b", "4": "c"}}
        config.write_text(json.dumps(changed | (other if how == "other names" else {"decoder_layers": 3})))
    with pytest.raises(MedgroundError, match=said) as caught:
        detector.load(tmp_path, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_folder_is_no_yolo(folder):
    with pytest.raises(MedgroundError, match="a folder; a yolo detector is one file"):
        detector.load(folder, "cpu", "yolo")
