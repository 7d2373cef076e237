"""What ends a training early, and what never lets it begin."""

import itertools
import json
import subprocess
from pathlib import Path

import click
import pytest
import torch
import toy
import warm
from click.testing import CliRunner
from safetensors.torch import load_file

from medground import checkpoints
from medground.cli import training_options
from medground.cli.main import cli
from medground.training import engine
from medground.training.stepper import Stepper


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=6)


def arguments(cohort: toy.Toy, folder: Path, *flags: object, pairs: object = None) -> list[str]:
    args = [
        "pretrain", pairs or cohort.pairs, "--anatomy", cohort.anatomy, "--images", cohort.folder,
        "-o", folder, "--steps", 4, "--batch-size", 2, "--save-every", 2, "--log-every", 1,
        "--device", "cpu", *flags,
    ]  # fmt: skip
    return [str(each) for each in args]


def pretrain(cohort: toy.Toy, folder: Path, *flags: object, pairs: object = None):
    return CliRunner().invoke(cli, arguments(cohort, folder, *flags, pairs=pairs))


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_ends_the_run_before_it_spoils_the_weights(
    cohort, tmp_path, monkeypatch
):
    """The loss may still be finite: the square root of 0 has no gradient."""
    backward, steps = Stepper._gradients, itertools.count(1)

    def spoilt(stepper, *rest):
        losses = backward(stepper, *rest)
        if next(steps) == 3:
            moved = [each for each in stepper.network.parameters() if each.grad is not None]
            moved[0].grad.fill_(float("nan"))
        return losses

    monkeypatch.setattr(Stepper, "_gradients", spoilt)
    result = pretrain(cohort, tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.strip() == "Error: step 3: the gradient became nan; the last checkpoint was kept"
    assert checkpoints.read_config(tmp_path / "run" / "resume.safetensors")["step"] == 2
    assert all(each.isfinite().all() for each in load_file(tmp_path / "run" / "model.safetensors").values())


@pytest.mark.slow
def test_an_image_that_is_missing_is_named_before_the_first_step(cohort, tmp_path):
    lines = [json.loads(line) for line in Path(cohort.pairs).read_text().splitlines()]
    lines[1]["path"] = "gone.png"
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = pretrain(cohort, tmp_path / "run", "--anatomy", "/dev/null", pairs=tmp_path / "pairs.jsonl")
    assert result.exit_code == 1
    assert "gone.png: no such image (1 of 5 are missing); check --images" in result.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_pretraining_keeps_the_best_by_validation_and_does_not_train_on_it(cohort, tmp_path):
    lines = [json.loads(line) for line in Path(cohort.phrases).read_text().splitlines()][:2]
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = ("--val", tmp_path / "val.jsonl", "--save-every", 1, "--patience", 9)
    result = pretrain(cohort, tmp_path / "run", *flags)
    assert result.exit_code == 0, result.output
    record = checkpoints.read_config(tmp_path / "run" / "model.safetensors")["record"]
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    figures = {line["step"]: line["validation"] for line in lines if "validation" in line}
    assert figures[record["step"]] == max(figures.values())
    assert len(record["subjects"]) == 2 * 3, "of five patients two validate; each has an image"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--patience", 2], "--patience counts validations"),
        (["--val", "/dev/null", "--objective", "asg"], "which no objective trains"),
    ],
)
def test_options_that_could_not_work_are_refused_at_once(cohort, tmp_path, flags, message):
    result = pretrain(cohort, tmp_path / "run", *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("weight", ["l1=nan", "l1=-1", "l1=inf"])
def test_a_weight_is_a_number_from_0_up(weight):
    with pytest.raises(click.BadParameter, match="expected a finite number, 0 or greater"):
        training_options._weights(None, None, (weight,))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a GPU is here")
def test_without_a_gpu_the_engine_gets_the_cpu(tmp_path, monkeypatch):
    """Else two processes that torchrun starts without --device cpu would both write the run's folder."""
    devices = []
    monkeypatch.setattr(engine, "Accelerator", lambda **options: devices.append(options["cpu"]))
    engine.open_engine("auto", "no", None, tmp_path)
    assert devices == [True]


def test_a_validation_without_a_box_is_refused(cohort, tmp_path):
    lines = [json.loads(line) | {"boxes": []} for line in Path(cohort.phrases).read_text().splitlines()[:2]]
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = pretrain(cohort, tmp_path / "run", "--val", tmp_path / "val.jsonl")
    assert result.exit_code == 1
    assert "--val: no phrase has a box" in result.stderr and not (tmp_path / "run").exists()


# a medground that gets a signal when it calls a function for the first time
SIGNALLED = """
import importlib, os, signal, sys
module, name = sys.argv.pop(1), sys.argv.pop(1)
from medground.__main__ import main
where = importlib.import_module(module)
real = getattr(where, name)
def signalled(*args):
    os.kill(os.getpid(), signal.SIGUSR1)
    return real(*args)
setattr(where, name, signalled)
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", [("medground.data.packing", "add_pairs"), ("medground.training.train", "_batches")]
)
def test_a_signal_before_the_first_step_ends_with_75(cohort, tmp_path, moment):
    script = tmp_path / "signalled.py"
    script.write_text(SIGNALLED)
    call = [*warm.python(), script, *moment, *arguments(cohort, tmp_path / "run")]
    done = subprocess.run([str(each) for each in call], capture_output=True, text=True)
    assert done.returncode == 75, done.stderr
    assert "stopped on request before" in done.stderr
    assert not (tmp_path / "run" / "resume.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "GPU memory"),
        (MemoryError(), "memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), "memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            "memory",
        ),
    ],
)
def test_out_of_memory_is_one_line_that_names_an_option(cohort, tmp_path, monkeypatch, error, where):
    backward, steps = Stepper._gradients, itertools.count(1)

    def failing(*args):
        if next(steps) == 3:
            raise error
        return backward(*args)

    monkeypatch.setattr(Stepper, "_gradients", failing)
    result = pretrain(cohort, tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: step 3: out of {where}; give --micro-batches 2 (same gradient, less memory) or a smaller "
        "--batch-size (the last checkpoint was kept)\n"
    )
    assert checkpoints.read_config(tmp_path / "run" / "resume.safetensors")["step"] == 2


@pytest.mark.slow
def test_another_runtime_error_keeps_its_traceback(cohort, tmp_path, monkeypatch):
    def failing(*args):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Stepper, "_gradients", failing)
    assert isinstance(pretrain(cohort, tmp_path / "run").exception, RuntimeError)
