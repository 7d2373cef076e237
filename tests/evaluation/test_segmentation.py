"""The protocol `segmentation` against loops over pixels, with both conventions for empty masks."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import medground
from medground import run_lengths
from medground.cli.main import cli
from medground.errors import BadRecord, MedgroundError
from medground.records import Mask

SHAPE = (9, 7)


def record(image, pixels, category="Pneumothorax", **more):
    height, width = pixels.shape
    counts = run_lengths.packed(pixels)
    own = {"image_id": image, "path": f"{image}.png", "category": category, "subject_id": f"p{image}"}
    return Mask(**own, width=width, height=height, counts=counts, **more)


def made(seed, count=24, positive=0.5):
    rng = np.random.default_rng(seed)
    return [rng.random(SHAPE) < (0.3 if rng.random() < positive else 0.0) for _ in range(count)]


def masks(pixels, **more):
    return [record(f"i{n}", each, ("a", "b")[n % 2], **more) for n, each in enumerate(pixels)]


def evaluate(found, truth, **more):
    scores = medground.evaluate(found, truth, ["segmentation"], draws=100, **more)
    return {(each.metric, each.group): each for each in scores}


def slow_dice(found, true):
    both = total = 0
    for one, other in zip(found.ravel(), true.ravel(), strict=True):
        both += one and other
        total += int(one) + int(other)
    return 2 * both / total if total else 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_are_those_of_loops_over_pixels(seed):
    true, found = made(seed), made(seed + 50)
    scores = evaluate(masks(found), masks(true, split_by="images 0:0:100, seed 0"))
    each = [slow_dice(a, b) for a, b in zip(found, true, strict=True)]
    there = [bool(b.any()) for b in true]
    assert scores["dice", "all"].value == pytest.approx(np.mean(each))
    positive = [value for value, some in zip(each, there, strict=True) if some]
    assert scores["dice_positive", "all"].value == pytest.approx(np.mean(positive))
    empty = [not a.any() for a, some in zip(found, there, strict=True) if not some]
    assert scores["empty", "all"].value == pytest.approx(np.mean(empty))
    whole = [np.concatenate([each.ravel() for each in part]) for part in (found, true)]
    pooled = [slow_dice(*whole), slow_dice(*(~part for part in whole))]
    assert scores["mdice", "all"].value == pytest.approx(np.mean(pooled))
    assert scores["dice", "class:a"].value == pytest.approx(np.mean(each[::2]))
    assert scores["dice", "all"].extra["split_by"] == "images 0:0:100, seed 0"


def test_an_empty_true_mask_counts_1_or_0_and_a_missed_one_0():
    nothing, some = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    for found, true, dice in ((nothing, nothing, 1), (some, nothing, 0), (nothing, some, 0), (some, some, 1)):
        assert evaluate([record("i", found)], [record("i", true)])["dice", "all"].value == dice


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:dice_score metric currently defaults")
def test_dice_of_positives_is_that_of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.functional.segmentation")
    import torch

    true, found = ([np.pad(each, 1, constant_values=True) for each in made(n, 6, 1)] for n in (3, 4))
    both = (torch.tensor(np.stack(each)[:, None].astype(int)) for each in (found, true))
    expected = metrics.dice_score(*both, num_classes=1, average="micro", input_format="one-hot").mean()
    scores = evaluate(masks(found), masks(true))
    assert scores["dice_positive", "all"].value == pytest.approx(expected.item(), abs=1e-6)


def test_two_models_are_compared_on_the_same_draws():
    true, one, two = made(0), made(1), made(2)
    scores = evaluate(masks(one, extra={"model": "m"}), masks(true), compare=masks(two))
    apart = scores["difference_dice", "all"]
    assert apart.value == pytest.approx(scores["dice", "all"].value - scores["other_dice", "all"].value)
    assert apart.low <= apart.value <= apart.high and scores["dice", "all"].extra["model"] == "m"


def test_the_figures_of_a_share_are_means_over_its_seeds():
    true = made(0)
    keyed = {(share, seed): made(10 + seed) for share, seeds in ((1.0, 2), (0.1, 3)) for seed in range(seeds)}
    runs = [
        each
        for (share, seed), found in keyed.items()
        for each in masks(found, extra={"share": share, "seed": seed})
    ]
    scores = evaluate(runs, masks(true))
    names = ("dice", "dice_positive", "empty", "mdice")
    assert {metric for metric, _ in scores} == {*names, *(f"{name}@10%" for name in names)}
    for name in names:
        alone = [evaluate(masks(made(10 + seed)), masks(true))[name, "all"].value for seed in range(3)]
        assert scores[name, "all"].value == pytest.approx(np.mean(alone[:2]))
        assert scores[f"{name}@10%", "all"].value == pytest.approx(np.mean(alone))
    less = [each for each in runs if each.extra["share"] == 1]
    assert {metric for metric, _ in evaluate(runs, masks(true), compare=less)} == {
        f"{prefix}{name}" for name in names for prefix in ("", "other_", "difference_")
    }
    with pytest.raises(MedgroundError, match="no prediction for 1 of 24 scored masks"):
        evaluate(runs[:-1], masks(true))
    marked = evaluate(masks(made(1), extra={"leakage": True}), masks(true))
    assert marked["dice", "all"].extra["leakage"] is True


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda f: f[:-1], "no prediction for 1 of 24 scored masks"),
        (lambda f: [*f, f[0]], "category: the second mask of this class"),
        (lambda f: [record("z", np.ones(SHAPE, bool))], "category: the truth has no mask of this class"),
        (
            lambda f: [record("i0", np.ones((3, 3), bool), "a")],
            "width: the truth has this mask in another size",
        ),
    ],
)
def test_predictions_that_do_not_fit_are_refused(change, problem):
    with pytest.raises(MedgroundError, match=problem):
        evaluate(change(masks(made(1))), masks(made(0)))


def test_run_lengths_that_do_not_fill_the_mask_are_a_bad_line():
    mask = record("i0", np.ones(SHAPE, bool), "a")
    broken = Mask(image_id="i0", path="x", width=8, height=9, category="a", counts=mask.counts)
    with pytest.raises(BadRecord, match="counts: expected COCO's run lengths"):
        evaluate([mask], [broken])


def test_a_patient_in_two_splits_is_refused():
    truth = masks(made(0)[:4], split="test")
    mixed = [*truth, record("other", np.ones(SHAPE, bool), split="train")]
    mixed[-1] = Mask(**{**{n: getattr(mixed[-1], n) for n in Mask.__slots__}, "subject_id": "pi0"})
    with pytest.raises(MedgroundError, match="1 subject is in both the scored records and another split"):
        evaluate(masks(made(1)[:4]) + mixed[-1:], mixed, split="test")


def test_the_command_scores_converted_masks(tmp_path):
    (tmp_path / "siim.csv").write_text("ImageId, EncodedPixels\na, 100 50\nb, -1\n")
    for name in ("truth", "found"):
        words = ["convert", "siim-masks", f"{tmp_path}/siim.csv", "--split-shares", "0", "0", "1"]
        assert CliRunner().invoke(cli, [*words, "-o", f"{tmp_path}/{name}.jsonl"]).exit_code == 0
    words = ["evaluate", f"{tmp_path}/found.jsonl", "--truth", f"{tmp_path}/truth.jsonl", "--split", "test"]
    result = CliRunner().invoke(cli, [*words, "--protocol", "segmentation", "--bootstrap-samples", "100"])
    assert result.exit_code == 0, result.stderr
    first = json.loads(result.stdout.splitlines()[0])
    assert (first["metric"], first["value"], first["split_by"]) == ("dice", 1.0, "images 0:0:100, seed 0")
