"""medground convert weights: checks of the command; `models/test_conversion.py` compares outputs."""

import published_networks as published
import pytest
import torch
import toy
import toy_runs

from medground.models import grounder


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "detr.pth"
    torch.save({"model": published.DETR().state_dict()}, path)
    return path


def test_a_pickle_needs_the_flag(checkpoint, tmp_path):
    done = toy_runs.run("convert", "weights", "--from", "detr", checkpoint, "-o", tmp_path / "a")
    assert done.exit_code == 2
    assert "--trust-pickle" in done.output
    assert not (tmp_path / "a").exists()


def test_a_model_needs_its_text_encoder(checkpoint, tmp_path):
    done = toy_runs.run("convert", "weights", "--from", "transvg", checkpoint, "-o", tmp_path / "a")
    assert done.exit_code == 2
    assert "--text-encoder" in done.output


def test_a_checkpoint_of_another_kind_is_one_line(checkpoint, tmp_path):
    folder = tmp_path / "bert"
    grounder.save(folder, grounder.build("small", ["left lung"]))
    given = ("--from", "mdetr", "--text-encoder", folder, "--trust-pickle", "-o", tmp_path / "a")
    done = toy_runs.run("convert", "weights", checkpoint, *given)
    assert done.exit_code == 1
    assert "have no place in a MDETR" in done.output


@pytest.mark.slow
def test_a_detr_is_converted(checkpoint, tmp_path):
    flags = ("--from", "detr", "--heads", published.HEADS, "--trust-pickle", "-o", tmp_path / "detr")
    done = toy_runs.run("convert", "weights", checkpoint, *flags)
    assert done.exit_code == 0, done.output
    assert "tensors converted" in done.output


@pytest.mark.slow
def test_published_layers_are_trained_and_saved(tmp_path):
    cohort = toy.make(tmp_path, 4)
    run = toy_runs.pretrain(
        cohort, tmp_path / "run", "--norm", "post", "--padding", "mean", "--image-size", 64,
        "--max-grad-norm", 0, "--decay-all", "--lr", 1e-4, "--freeze", "batch-norm", "--freeze", "stem",
    )  # fmt: skip
    (line,) = toy_runs.lines(run / "metrics.jsonl")
    assert line["grad_norm"] > 0
    assert grounder.load(run).config.norm == "post"
    again = toy_runs.finetune(cohort, tmp_path / "again", "--init-from", run, "--norm", "pre")
    assert again.exit_code == 2
    assert "--norm pre" in again.output


@pytest.mark.slow
def test_mdetr_with_its_losses_is_trained_in_micro_batches(tmp_path):
    cohort = toy.make(tmp_path, 4)
    run = toy_runs.pretrain(
        cohort, tmp_path / "run", "--architecture", "mdetr", "--objective", "mdetr", "--norm", "post",
        "--num-queries", 2, "--image-size", 64, "--micro-batches", 2, "--lr", 1e-4,
    )  # fmt: skip
    (line,) = toy_runs.lines(run / "metrics.jsonl")
    assert {"soft-token", "align", "aux-l1", "aux-align"} < line.keys()
    assert line["aux-giou"] > 0
