"""Training as its user meets it: it learns, it goes on after any stop, and it refuses what it cannot use."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import signals
import torch
import toy
from click.testing import CliRunner
from safetensors.torch import load_file

from medground import checkpoints
from medground.cli.main import cli
from medground.models import grounder
from medground.objectives import agp, saved_heads
from medground.training.stepper import Stepper


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"))


def run(*args: object):
    return CliRunner().invoke(cli, [str(each) for each in args])


def pretrain(cohort: toy.Toy, folder: Path, *flags: object, steps: int = 6):
    return run(
        "pretrain", cohort.pairs, "--anatomy", cohort.anatomy, "--images", cohort.folder, "-o", folder,
        "--steps", steps, "--batch-size", 2, "--image-size", 64, "--save-every", 2, "--device", "cpu", *flags,
    )  # fmt: skip


def finetune(cohort: toy.Toy, folder: Path, *flags: object):
    return run(
        "finetune", cohort.phrases, "--images", cohort.folder, "-o", folder,
        "--steps", 4, "--batch-size", 2, "--image-size", 64, "--save-every", 2, "--device", "cpu", *flags,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(cohort, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "agp"
    result = pretrain(cohort, folder)
    assert result.exit_code == 0, result.output
    return folder


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_loss_falls_by_half(cohort, tmp_path):
    small = ("--batch-size", 4, "--augment", "none")
    result = pretrain(cohort, tmp_path / "run", *small, "--lr", "1e-3", "--save-every", 80, steps=80)
    assert result.exit_code == 0, result.output
    lines = [line["loss"] for line in metrics(tmp_path / "run")]
    pretrain(cohort, tmp_path / "one", *small, steps=1)
    assert lines[-1] < metrics(tmp_path / "one")[0]["loss"] / 2


@pytest.mark.slow
def test_a_run_folder_holds_what_the_documents_say(pretrained):
    names = {"config.toml", "metrics.jsonl", "model.safetensors", "config.json", "resume.safetensors"}
    assert names | {"tokenizer.json"} <= {path.name for path in pretrained.iterdir()}
    assert not list(pretrained.glob("*.partial"))


@pytest.mark.slow
def test_stopped_and_started_again_ends_with_the_same_weights(cohort, pretrained, tmp_path, monkeypatch):
    real_step, calls = Stepper.step, []

    def step_and_ask(*args):
        calls.append(1)
        if len(calls) == 3:
            signals.deliver(signal.SIGUSR1)
        return real_step(*args)

    monkeypatch.setattr(Stepper, "step", step_and_ask)
    stopped = pretrain(cohort, tmp_path / "run")
    assert stopped.exit_code == 75
    assert len(calls) == 3
    went_on = pretrain(cohort, tmp_path / "run")
    assert went_on.exit_code == 0
    assert len(calls) == 6
    for name in ("model.safetensors", "resume.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (pretrained / name).read_bytes(), name


@pytest.mark.slow
def test_a_finished_run_is_not_done_again(cohort, pretrained, monkeypatch):
    monkeypatch.setattr(Stepper, "step", None)
    before = (pretrained / "model.safetensors").stat().st_mtime_ns
    assert pretrain(cohort, pretrained).exit_code == 0
    assert (pretrained / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_run_with_other_settings_is_refused_by_name(cohort, pretrained):
    result = pretrain(cohort, pretrained, "--lr", "0.1")
    assert result.exit_code == 1
    assert "another 'lr'" in result.stderr


@pytest.mark.slow
def test_a_run_with_other_settings_starts_again_on_request(cohort, pretrained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(pretrained, folder)
    assert pretrain(cohort, folder, "--overwrite").exit_code == 0  # the same settings: nothing to do
    assert (folder / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()
    assert pretrain(cohort, folder, "--lr", "0.1", "--overwrite").exit_code == 0
    assert metrics(folder)[-1]["step"] == 6
    assert (folder / "model.safetensors").read_bytes() != (pretrained / "model.safetensors").read_bytes()


@pytest.fixture
def both(cohort, tmp_path) -> Path:
    """The folder of a run with two objectives."""
    result = pretrain(cohort, tmp_path / "both", "--objective", "agp", "--objective", "asg", steps=1)
    assert result.exit_code == 0, result.output
    return tmp_path / "both"


@pytest.mark.slow
def test_a_run_with_another_objective_is_refused_and_its_config_stands(cohort, both):
    before = (both / "config.toml").read_bytes()
    result = pretrain(cohort, both, "--objective", "agp", "--objective", "gk-mvlp", steps=1)
    assert result.exit_code == 1
    assert "another 'objective' (['agp', 'asg'], not ['agp', 'gk-mvlp'])" in result.stderr
    assert (both / "config.toml").read_bytes() == before


@pytest.mark.slow
def test_a_run_keeps_the_heads_of_its_objectives(both):
    assert saved_heads.names_of(both) == ["agp", "asg"]
    assert set(saved_heads.load(both, grounder.load(both))) == {"agp", "asg"}


@pytest.mark.slow
def test_anew_forgets_a_run_whatever_it_held(cohort, both):
    again = ("--objective", "agp", "--objective", "gk-mvlp", "--overwrite")
    assert pretrain(cohort, both, *again, steps=1).exit_code == 0
    assert {"itc", "lm"} < metrics(both)[-1].keys() and len(metrics(both)) == 1
    (both / "resume.safetensors").write_bytes(b"damaged")
    refused = pretrain(cohort, both, *again[:-1], steps=1)
    assert (refused.exit_code, "damaged" in refused.stderr, "--overwrite" in refused.stderr) == (
        1,
        True,
        True,
    )
    assert pretrain(cohort, both, *again, steps=1).exit_code == 0
    (both / "config.toml").unlink()
    assert "without its config.toml" in pretrain(cohort, both, *again[:-1], steps=1).stderr
    assert pretrain(cohort, both, *again, steps=1).exit_code == 0


@pytest.mark.slow
def test_a_run_with_other_frozen_parts_is_refused_by_name(cohort, pretrained, tmp_path):
    frozen = ("--init-from", pretrained, "--freeze", "image-encoder")
    assert finetune(cohort, tmp_path / "ft", *frozen).exit_code == 0
    result = finetune(cohort, tmp_path / "ft", *frozen, "--freeze", "text-encoder")
    assert result.exit_code == 1 and "another 'freeze'" in result.stderr


@pytest.mark.slow
def test_moments_of_other_parameters_are_refused_in_one_line(cohort, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "run")
    path = tmp_path / "run" / "resume.safetensors"
    tensors, config = checkpoints.load(path)
    tensors["optimizer.0.exp_avg"] = torch.zeros(3)
    checkpoints.save(path, tensors, config)
    (tmp_path / "run" / "config.toml").write_text((pretrained / "config.toml").read_text() + "\n")
    before = (tmp_path / "run" / "config.toml").read_bytes()
    result = pretrain(cohort, tmp_path / "run")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "resume.safetensors: the optimizer state does not fit this model (moment 0)" in result.stderr
    assert (tmp_path / "run" / "config.toml").read_bytes() == before


@pytest.mark.slow
def test_a_damaged_line_of_metrics_is_named(cohort, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 6, "lo\n')
    number = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    result = pretrain(cohort, tmp_path / "run")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert f"metrics.jsonl:{number}: no JSON object with a step; delete the line" in result.stderr


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(cohort, tmp_path, monkeypatch):
    real_losses, calls = agp.losses, []

    def losses(*args):
        calls.append(1)
        parts = real_losses(*args)
        return parts | {"l1": parts["l1"] * float("nan")} if len(calls) == 4 else parts

    monkeypatch.setattr(agp, "losses", losses)
    result = pretrain(cohort, tmp_path / "run")
    assert result.exit_code == 1
    assert "step 4: the loss became nan" in result.stderr
    assert grounder.load(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("full", "kept"), [(4, "this file was not saved"), (7, "the previous file was kept")]
)
def test_a_disk_that_fills_while_saving_loses_nothing(cohort, pretrained, tmp_path, monkeypatch, full, kept):
    real_fsync, calls = os.fsync, []

    def fsync(number):
        calls.append(1)
        if len(calls) == full:  # the first or the second resume.safetensors
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(number)

    monkeypatch.setattr(os, "fsync", fsync)
    result = pretrain(cohort, tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.endswith(f"resume.safetensors: No space left on device; {kept}\n")
    assert not list((tmp_path / "run").glob("*.partial"))
    assert grounder.load(tmp_path / "run")
    assert pretrain(cohort, tmp_path / "run").exit_code == 0
    after, undisturbed = (each / "model.safetensors" for each in (tmp_path / "run", pretrained))
    assert after.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_finetune_keeps_the_best_model_by_validation(cohort, pretrained, tmp_path):
    result = finetune(cohort, tmp_path / "ft", "--init-from", pretrained)
    assert result.exit_code == 0, result.output
    checked = {line["step"]: line["validation"] for line in metrics(tmp_path / "ft") if "validation" in line}
    assert set(checked) == {2, 4}
    best = max(checked, key=lambda step: checked[step])
    assert checkpoints.read_config(tmp_path / "ft" / "model.safetensors")["record"]["step"] == best


@pytest.mark.slow
def test_finetune_from_nothing_builds_its_own_vocabulary(cohort, tmp_path):
    assert finetune(cohort, tmp_path / "ft", "--num-phrases", 4).exit_code == 0
    _, mask = grounder.load(tmp_path / "ft").tokenize(["pleural effusion"])
    assert mask.sum() == 4  # [CLS] pleural effusion [SEP]: words of the lexicon are whole


@pytest.mark.slow
def test_frozen_norms_keep_the_statistics_of_pretraining(cohort, pretrained, tmp_path):
    finetune(cohort, tmp_path / "ft", "--init-from", pretrained)
    before, after = (load_file(each / "model.safetensors") for each in (pretrained, tmp_path / "ft"))
    running = [name for name in before if "running_mean" in name]
    assert running
    assert all(torch.equal(before[name], after[name]) for name in running)


@pytest.mark.slow
def test_a_missing_image_is_one_line(cohort, tmp_path):
    phrase = json.loads(Path(cohort.phrases).read_text().splitlines()[0]) | {"path": "gone.png"}
    source = tmp_path / "phrases.jsonl"
    source.write_text(json.dumps(phrase) + "\n")
    result = run("finetune", source, "--images", cohort.folder, "-o", tmp_path / "ft", "--device", "cpu")
    assert result.exit_code == 1
    assert "gone.png" in result.stderr and "Traceback" not in result.stderr


def test_a_subject_in_two_splits_is_refused(cohort, tmp_path):
    lines = [
        json.loads(line) | {"subject_id": "p1"} for line in Path(cohort.phrases).read_text().splitlines()
    ]
    source = tmp_path / "phrases.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run("finetune", source, "--images", cohort.folder, "-o", tmp_path / "ft")
    assert result.exit_code == 1
    assert "both training and validation" in result.stderr


def test_nothing_to_train_on_is_said(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    result = run("pretrain", tmp_path / "empty.jsonl", "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert "nothing to train on" in result.stderr
