"""`medground segment`: it learns, its output is scored, runs are resumed, and heads are kept."""

import json

import discs
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from medground import jsonl, mask_records
from medground.cli.main import cli
from medground.downstream import image_encoders
from medground.downstream.segment import decoders, fit, images, stage
from medground.errors import MedgroundError
from medground.models import grounder
from medground.records import Mask

SIZE = 32
QUICK = [
    "--width",
    "16",
    "--width",
    "8",
    "--width",
    "8",
    "--width",
    "8",
    "--epochs",
    "2",
    "--image-size",
    "32",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("segment")
    discs.write(here)
    torch.manual_seed(0)
    grounder.save(here / "model", grounder.build("small", ["bright spot"], image_size=64))
    return here


def raising(record, error):
    raise error


def masks_of(folder):
    with (folder / "masks.jsonl").open("rb") as stream:
        return list(jsonl.read(stream, Mask, jsonl.BadLines(), mask_records.check()))


def data_of(folder, size=SIZE):
    return images.read(images.grouped(masks_of(folder), raising), folder, size, raising)[0]


@pytest.fixture(scope="module")
def data(folder):
    return data_of(folder)


def job_of(folder, data, **more):
    encoder = image_encoders.load(str(folder / "model"), SIZE)
    shape = decoders.shape_of(stage.maps_of(encoder), encoder.size, 1, widths=(16, 8, 8, 8))
    settings = fit.Settings(**({"epochs": 15, "lr": 1e-2, "batch_size": 4} | more.pop("settings", {})))
    return stage.Job(encoder=encoder, shape=shape, data=data, settings=settings, **more)


def dice_of_positives(found, truth):
    pixels = {mask_records.key_of(each): mask_records.pixels(each) for each in truth}
    both = [(mask_records.pixels(each), pixels[mask_records.key_of(each)]) for each in found]
    return np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in both if b.any()])


# Training


@pytest.mark.slow
def test_a_decoder_over_a_frozen_encoder_learns_to_find_discs(folder, data):
    job = job_of(folder, data)
    before = {name: each.clone() for name, each in job.encoder.network.state_dict().items()}
    segmenter, found = stage.run(job, 1.0, 0)
    assert dice_of_positives(found, masks_of(folder)) > 0.85
    assert {each.split for each in found} == {"val", "test"} and len(found) == 16
    after = job.encoder.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the encoder is frozen"
    assert fit.validate(segmenter, data, job.settings) < 1.5


@pytest.mark.slow
def test_an_encoder_that_is_not_frozen_is_trained_in_a_copy(folder, data):
    job = job_of(folder, data, settings={"epochs": 2, "unfreeze": True})
    before = {name: each.clone() for name, each in job.encoder.network.state_dict().items()}
    segmenter, _ = stage.run(job, 0.5, 0)
    after = segmenter.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not {name for name in changed if "running" in name}, "batch norms keep statistics"
    own = job.encoder.network.state_dict()
    assert all(torch.equal(before[name], own[name]) for name in before)


@pytest.mark.slow
def test_the_best_epoch_is_kept_and_patience_ends_a_run(folder, data, monkeypatch):
    figures = iter([3.0, 1.0, 2.0, 2.0, 2.0, 0.5])
    kept = []

    def validate(segmenter, data, settings):
        kept.append(segmenter.kept())
        return next(figures)

    monkeypatch.setattr(fit, "validate", validate)
    job = job_of(folder, data, settings={"patience": 3, "epochs": 9})
    segmenter = fit.build(job.encoder, job.shape, job.settings, 0, "cpu")
    assert fit.fit(segmenter, data, job.rows(0.2, 0), job.settings, 0) == 2
    assert len(kept) == 5
    assert all(torch.equal(each, kept[1][name]) for name, each in segmenter.kept().items())


def test_a_loss_that_is_not_finite_is_an_error(folder, data):
    job = job_of(folder, data, settings={"epochs": 1, "focal_weight": float("inf")})
    with pytest.raises(MedgroundError, match="not finite; use a lower --lr"):
        stage.run(job, 0.2, 0)


@pytest.mark.slow
def test_negatives_are_drawn_for_each_positive_and_a_share_is_one_of_patients(folder, data):
    positive = data.positive()
    assert positive.sum() == 30
    rows = job_of(folder, data, negatives=0.25).rows(1.0, 0)
    count = int(positive[rows].sum())
    assert count == positive[data.rows["train"]].sum() and len(rows) - count == round(count / 4)
    assert set(job_of(folder, data, negatives=0.25).rows(1.0, 1)) != set(rows)
    assert len(job_of(folder, data, negatives=0.0).rows(1.0, 0)) == count
    assert set(job_of(folder, data).rows(1.0, 0)) == set(data.rows["train"])
    half = job_of(folder, data).rows(0.5, 0)
    assert len({data.records[row][0].subject_id for row in half}) == 6 and len(half) == 12


def test_the_batches_are_images_in_a_letterbox_with_their_masks(folder, data):
    planes, masks = data.batch([0, 5])
    assert planes.shape == (2, 2, SIZE, SIZE) and masks.shape == (2, 1, SIZE, SIZE)
    inside = planes[0, 1].bool()
    assert inside.any(dim=1).sum() == round(SIZE * discs.HEIGHT / discs.WIDTH)
    for plane, mask in zip(planes[:, 0], masks[:, 0].bool(), strict=True):
        assert plane[mask].mean() > plane[inside & ~mask].mean() + 0.2
    assert data.packed.nbytes == 40 * SIZE * SIZE // 8


# The command


def run(folder, *args, masks=None):
    words = ["segment", str(masks or folder / "masks.jsonl"), "--encoder", f"{folder}/model"]
    return CliRunner().invoke(cli, [*words, "--images", f"{folder}", *args])


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_the_command_writes_runs_that_evaluate_scores_and_continues_them(folder, tmp_path, monkeypatch):
    words = [*QUICK, "--share", "0.5", "--share", "1", "--seeds", "2", "-o", f"{tmp_path}/out.jsonl"]
    trained = []
    whole = stage.run

    def stopping(job, share, seed, progress):
        trained.append((share, seed))
        if len(trained) == 3:
            raise MedgroundError("stopped")
        return whole(job, share, seed, progress)

    monkeypatch.setattr(stage, "run", stopping)
    result = run(folder, *words)
    assert result.exit_code == 1 and not (tmp_path / "out.jsonl").exists()
    result = run(folder, *words, "--lr", "0.1", "--resume")
    assert result.exit_code == 1 and "lr" in result.stderr
    result = run(folder, *words, "--resume")
    assert result.exit_code == 0, result.stderr
    assert trained == [(0.5, 0), (0.5, 1), (1.0, 0), (1.0, 0), (1.0, 1)], (
        "finished runs are not trained again"
    )
    straight = run(folder, *words[:-2])
    assert straight.stdout == (tmp_path / "out.jsonl").read_text()
    lines = lines_of(tmp_path / "out.jsonl")
    assert len(lines) == 4 * 16 and {each["decoder"] for each in lines} == {"unet"}
    assert {each["model"] for each in lines} == {grounder.name_of(folder / "model")}
    words = ["evaluate", f"{tmp_path}/out.jsonl", "--truth", f"{folder}/masks.jsonl", "--split", "test"]
    scored = CliRunner().invoke(cli, [*words, "--protocol", "segmentation", "--bootstrap-samples", "100"])
    assert scored.exit_code == 0, scored.stderr
    metrics = {json.loads(line)["metric"] for line in scored.stdout.splitlines()}
    assert metrics == {
        f"{name}{end}" for name in ("dice", "dice_positive", "empty", "mdice") for end in ("", "@50%")
    }


@pytest.fixture(scope="module")
def head(folder):
    """A kept head, with the masks of its run."""
    result = run(folder, *QUICK, "--save-head", f"{folder}/head.safetensors", "-o", f"{folder}/seen.jsonl")
    assert result.exit_code == 0, result.stderr
    return folder / "head.safetensors"


@pytest.mark.slow
def test_a_kept_head_gives_the_same_masks_for_images_without_masks(folder, head, tmp_path):
    expected = [each for each in lines_of(folder / "seen.jsonl") if each["split"] == "test"]
    keys = ("image_id", "subject_id", "path")
    listed = [{key: each[key] for key in keys} for each in expected]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(each) + "\n" for each in listed))
    result = run(folder, "--head", str(head), masks=tmp_path / "list.jsonl")
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["counts"] for each in found] == [each["counts"] for each in expected]
    assert found[0]["category"] == "Disc" and (found[0]["width"], found[0]["height"]) == (60, 48)


@pytest.mark.slow
def test_a_head_of_a_trained_encoder_holds_its_weights(folder, tmp_path):
    words = [*QUICK, "--unfreeze", "--encoder-lr", "0.01", "--save-head", f"{tmp_path}/head.safetensors"]
    result = run(folder, *words, "-o", f"{tmp_path}/out.jsonl")
    assert result.exit_code == 0, result.stderr
    result = run(folder, "--head", f"{tmp_path}/head.safetensors", masks=tmp_path / "out.jsonl")
    assert "is in both the images and the training data" not in result.stderr, "only val and test"
    assert result.exit_code == 1 and "training data of --head" in result.stderr, "val chose the epoch"
    test = [each for each in lines_of(tmp_path / "out.jsonl") if each["split"] == "test"]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(each) + "\n" for each in test))
    result = run(folder, "--head", f"{tmp_path}/head.safetensors", masks=tmp_path / "test.jsonl")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["counts"] for each in found] == [each["counts"] for each in test]
