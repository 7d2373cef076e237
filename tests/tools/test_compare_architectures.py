"""The tool that compares mdetr with transvg, on toy images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from tool_runs import run, tool

from medground.boxes import iou
from medground.data.examples import Example, Query
from medground.data.image_store import ImageStore
from medground.models import grounder
from medground.models.network import Predictions
from medground.training import validation


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Return the tool, its flags, its folder of runs and the test phrases; every other one has two boxes."""
    cohort = toy.make(tmp_path_factory.mktemp("toy"), count=12)
    phrases = [json.loads(line) for line in Path(cohort.phrases).read_text().splitlines()]
    for n, each in enumerate(phrases):
        (x1, y1, x2, y2), split = each["boxes"][0], "val" if n < 2 else ("test" if n > 6 else "train")
        each |= {"split": split, "boxes": [[x1, y1, x2, y2], [1, 1, 9, 9]] if n % 2 else [[x1, y1, x2, y2]]}
    pairs = [json.loads(line) for line in Path(cohort.pairs).read_text().splitlines()]
    seen = {each["image_id"] for each in phrases if each["split"] == "train"}
    parts = {
        "phrases": [each for each in phrases if each["split"] != "test"],
        "test": [each for each in phrases if each["split"] == "test"],
        "pairs": [each for each in pairs if each["image_id"] in seen],
    }
    flags: list[object] = ["--images", cohort.folder, "--runs", cohort.folder / "runs"]
    for name, lines in parts.items():
        path = cohort.folder / f"{name}-of-it.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        flags += [f"--{name}", path]
    small = ["--steps", 1, "--tune-steps", 1, "--batch", 2, "--side", 32]
    return tool("compare_architectures"), [*flags, *small], cohort.folder / "runs", parts["test"]


@pytest.mark.slow
def test_architectures_are_compared_on_the_same_phrases_once(compared, monkeypatch, capsys):
    module, flags, runs, test_phrases = compared
    monkeypatch.setattr(module.config, "SIZES", dict(module.config.SIZES))
    table = run(monkeypatch, capsys, module, *flags)
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    assert [row[1:3] for row in rows] == [
        [name, measure] for name in list(module.VARIANTS)[1:] for measure in module.MEASURES
    ]
    for row in rows:
        assert float(row[5]) == pytest.approx(float(row[3]) - float(row[4]), abs=2e-3)
    assert float(rows[2][3]) == pytest.approx(
        mean_iou(runs / "mdetr-all-0" / "test.jsonl", test_phrases), abs=1e-3
    )
    monkeypatch.setattr(module, "_train", None)  # nothing is trained again
    assert run(monkeypatch, capsys, module, *flags) == table


def mean_iou(answers: Path, test_phrases: list[dict]) -> float:
    """Return the mean IoU of the best boxes in the file, over phrases with one annotated box."""
    found = {
        (each := json.loads(line))["phrase_id"]: each["boxes"] for line in answers.read_text().splitlines()
    }
    overlaps = [
        iou(np.array([found[each["phrase_id"]][0]["box"]]), np.array(each["boxes"], dtype=float))[0, 0]
        for each in test_phrases
        if len(each["boxes"]) == 1
    ]
    return float(np.mean(overlaps))


@pytest.mark.parametrize(("architecture", "expected"), [("transvg", 0.5), ("mdetr", 1.0)])
def test_validation_asks_of_several_boxes_for_any_one(architecture, expected, tmp_path):
    """Check a network that finds the left half: it finds one of two halves, or half of their hull."""
    cohort = toy.make(tmp_path, count=1)
    half = toy.WIDTH / 2
    halves = ((0.0, 0.0, half, float(toy.HEIGHT)), (half, 0.0, float(toy.WIDTH), float(toy.HEIGHT)))
    model = grounder.build("small", ["halves"], architecture=architecture)
    store = ImageStore(cohort.folder, model.config.image_size)
    left = torch.from_numpy(store.get("image0.png").letterbox.normalise(np.array(halves[:1])))

    class FindsLeft(type(model.network)):
        def forward(self, *inputs):
            return Predictions(left[None], torch.zeros(1, 1), torch.zeros(1))

    model.network.__class__ = FindsLeft
    example = Example("i", "image0.png", toy.WIDTH, toy.HEIGHT, "p", sentences=[Query(("halves",), halves)])
    assert validation.over_phrases([example], store, model)(model.network) == pytest.approx(expected)
