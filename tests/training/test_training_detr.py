"""Fine-tuning of transformers' detectors: it learns, stops, goes on, and leaves a detector."""

import json
from dataclasses import fields, replace

import drawn_images
import numpy as np
import pytest
import torch
from tiny_detectors import HEADS, SIZES, rt_detr

from medground.anatomy import augment, detector, regions
from medground.errors import MedgroundError
from medground.training.detectors import common, detr
from medground.training.detectors.detr import Options
from medground.training.stop import StopRequest

CALM = augment.Ranges(light=0.1, shadow=0.1, noise=0.1, bend=0.1, turn=1, zoom=0.1, spoilt=0.0)
STILL = augment.Ranges(**{each.name: 0.0 for each in fields(augment.Ranges)})  # images as they are


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder whose two classes are none of ours."""
    path = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    rt_detr(id2label={0: "cat", 1: "dog"}, **SIZES, **HEADS).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The same without what slows the first steps: frozen norms of no training, and noisy queries."""
    path = tmp_path_factory.mktemp("quick")
    torch.manual_seed(0)
    more = {"freeze_backbone_batch_norms": False, "num_denoising": 0, "id2label": {0: "cat", 1: "dog"}}
    rt_detr(**more, **SIZES, **HEADS).save_pretrained(path)
    return path


@pytest.fixture
def options(start):
    return Options(start=str(start), size=64, steps=6, batch_size=2, lr=1e-3, save_every=3, ranges=CALM)


def losses(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_regions_are_class_numbers_with_centres_and_sizes():
    drawn = drawn_images.image_set(2, 64)
    views = common.as_views(drawn, [0, 1])
    for n, each in enumerate(detr.labels(views)):
        assert [regions.NAMES[i] for i in each["class_labels"]] == [
            name for name in regions.NAMES if drawn.present[n, regions.NAMES.index(name)] == 1
        ]
        for number, (x, y, w, h) in zip(each["class_labels"], each["boxes"].tolist(), strict=True):
            corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            assert corners == pytest.approx(drawn.boxes[n, number].tolist(), abs=1e-6)


@pytest.mark.slow
def test_the_loss_falls_and_the_folder_is_a_detector(options, quick, tmp_path):
    drawn = drawn_images.image_set(2, 64)
    how = replace(options, start=str(quick), steps=30, lr=3e-3, log_every=1, ranges=STILL)
    assert detr.train(drawn, drawn, tmp_path, how)
    lines = losses(tmp_path)
    logged = [line["loss"] for line in lines if "loss" in line]
    assert len(logged) == 30 and sum(logged[-5:]) / 5 < 0.85 * logged[0]
    assert 0 <= lines[-1]["validation"] <= 1
    found = detector.load(tmp_path / "model", "cpu")
    assert found.size == 64 and found.names == regions.NAMES
    assert {each.name for each in found.find(np.zeros((1, 64, 64), np.float32))[0]} == set(regions.NAMES)


@pytest.mark.slow
def test_stopped_and_started_again_it_ends_with_the_same_weights(options, tmp_path, monkeypatch):
    drawn = drawn_images.image_set(6, 64)
    assert detr.train(drawn, None, tmp_path / "whole", options)
    requests = iter([False, False, False, False, True])  # before the first step, and in each of four
    monkeypatch.setattr(StopRequest, "__bool__", lambda _: next(requests))
    assert not detr.train(drawn, None, tmp_path / "twice", options)
    assert not (tmp_path / "twice" / "model").exists()
    monkeypatch.undo()
    assert detr.train(drawn, None, tmp_path / "twice", options)
    whole, twice = ((tmp_path / name / "model" / "model.safetensors") for name in ("whole", "twice"))
    assert whole.read_bytes() == twice.read_bytes()


@pytest.mark.slow
def test_images_to_measure_on_belong_to_the_run(options, tmp_path):
    drawn = drawn_images.image_set(2, 64)
    how = replace(options, steps=1, save_every=1)
    assert detr.train(drawn, drawn, tmp_path, how)
    with pytest.raises(MedgroundError, match="another 'validation'"):
        detr.train(drawn, drawn_images.image_set(2, 64, seed=1), tmp_path, how)


@pytest.mark.slow
def test_another_start_is_another_run(options, tmp_path, start):
    drawn = drawn_images.image_set(4, 64)
    assert detr.train(drawn, None, tmp_path, options)
    with pytest.raises(MedgroundError, match="another 'lr'"):
        detr.train(drawn, None, tmp_path, replace(options, lr=1e-5))
    with pytest.raises(MedgroundError, match=r"no config\.json"):
        detr.train(drawn, None, tmp_path / "new", replace(options, start=str(tmp_path)))
