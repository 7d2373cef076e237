"""medground train-detector: it learns, it stops, it goes on, and it ends in one file."""

import json
import signal
import subprocess
import time

import drawn_images
import numpy as np
import pytest
import signals
import torch
import warm
from click.testing import CliRunner
from PIL import Image

import medground
from medground import checkpoints, leakage
from medground.anatomy import detector, regions
from medground.anatomy.augment import Ranges
from medground.anatomy.region_query import Config
from medground.cli.main import cli
from medground.training.detectors import region_query
from medground.training.detectors.region_query import Options
from medground.training.stepper import Stepper
from medground.training.stop import StopRequest

TINY = Config(names=tuple(regions.NAMES), size=48, channels=(8, 16, 24, 32), width=32, heads=2)
CALM = Ranges(light=0.3, shadow=0.2, noise=0.1, bend=0.1, turn=2, zoom=0.1, shift=0.03, spoilt=0.02)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A folder with 12 images and their anatomy.jsonl, and 8 others in val.jsonl."""
    folder = tmp_path_factory.mktemp("cohort")
    records = drawn_images.write_images(folder, 20)
    drawn_images.write_jsonl(folder / "anatomy.jsonl", records[:12])
    drawn_images.write_jsonl(folder / "val.jsonl", records[12:])
    return folder


def run(cohort, folder, *flags: str, source: str = "anatomy.jsonl"):
    """`medground train-detector` on the cohort, small and short."""
    small = ["--image-size", "32", "--batch-size", "4", "--device", "cpu"]
    return CliRunner().invoke(
        cli,
        ["train-detector", str(cohort / source), "--images", str(cohort), "-o", str(folder), *small, *flags],
    )


def options(**changed):
    return Options(**{"steps": 12, "batch_size": 4, "lr": 3e-3, "save_every": 4, "ranges": CALM} | changed)


@pytest.mark.slow
def test_it_learns_where_things_are(tmp_path):
    learned, unseen = drawn_images.image_set(48, 48), drawn_images.image_set(16, 48, seed=1)
    assert region_query.train(
        learned, unseen, TINY, tmp_path, options(steps=160, batch_size=8, save_every=160)
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] / 1.5
    found = lines[-1]["validation"]
    median = np.median(learned.boxes, axis=0)[None].repeat(len(unseen), axis=0)
    assert found > mean_overlap(median, unseen) + 0.05


def mean_overlap(boxes, drawn) -> float:
    """The slow way: one box after the other."""
    overlaps = []
    for row, column in zip(*np.nonzero(drawn.present == 1), strict=True):
        a, b = boxes[row, column], drawn.boxes[row, column]
        wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        both = max(wide, 0) * max(high, 0)
        overlaps.append(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))
    return float(np.mean(overlaps))


@pytest.mark.slow
def test_stopped_and_gone_on_is_the_same_as_not_stopped(tmp_path, monkeypatch):
    drawn = drawn_images.image_set(6, 48)
    assert region_query.train(drawn, drawn, TINY, tmp_path / "whole", options())
    real, steps = Stepper.step, []

    def step(*given):
        steps.append(given)
        if len(steps) == 5:
            signals.deliver(signal.SIGUSR1)
        return real(*given)

    monkeypatch.setattr(Stepper, "step", step)
    assert not region_query.train(drawn, drawn, TINY, tmp_path / "parts", options())
    assert len(steps) == 5 and not (tmp_path / "parts" / "model.safetensors").exists()
    assert region_query.train(drawn, drawn, TINY, tmp_path / "parts", options())
    assert len(steps) == 12
    for name in ("model.safetensors", "metrics.jsonl", "validation.png", "config.toml"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_signal_between_two_looks_is_saved_before_the_run_ends(tmp_path, monkeypatch):
    drawn, answers = drawn_images.image_set(4, 48), iter([False, False, True, True, True])
    monkeypatch.setattr(StopRequest, "__bool__", lambda _: next(answers))
    assert not region_query.train(drawn, None, TINY, tmp_path, options())
    assert checkpoints.read_config(tmp_path / "resume.safetensors")["step"] == 2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_file_and_another_does_not(tmp_path):
    drawn = drawn_images.image_set(6, 48)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        region_query.train(drawn, None, TINY, tmp_path / name, options(steps=2, seed=seed))
    hashes = [checkpoints.hash_of(tmp_path / name / "model.safetensors") for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    drawn = drawn_images.image_set(6, 48)
    region_query.train(drawn, None, TINY, tmp_path, options(steps=2))
    before = (tmp_path / "model.safetensors").read_bytes()
    monkeypatch.setattr(Stepper, "step", None)
    assert region_query.train(drawn, None, TINY, tmp_path, options(steps=2))
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_the_command_leaves_a_run_folder(cohort, tmp_path):
    result = run(cohort, tmp_path / "run", "--steps", "3", "--val", str(cohort / "val.jsonl"))
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.toml", "metrics.jsonl", "model.safetensors", "resume.safetensors"} < names
    assert checkpoints.read_config(tmp_path / "run" / "model.safetensors")["names"] == regions.NAMES
    with Image.open(tmp_path / "run" / "validation.png") as picture:
        assert picture.size == (4 * 384, 2 * 384)


@pytest.mark.slow
def test_epochs_are_steps_through_all_images(cohort, tmp_path):
    assert run(cohort, tmp_path, "--epochs", "2").exit_code == 0
    assert "steps = 6\n" in (tmp_path / "config.toml").read_text()


@pytest.mark.slow
def test_a_run_with_other_settings_is_not_gone_on_with(cohort, tmp_path):
    assert run(cohort, tmp_path, "--steps", "2").exit_code == 0
    result = run(cohort, tmp_path, "--steps", "2", "--seed", "5")
    assert result.exit_code == 1 and "holds a run with another 'seed'" in result.stderr


@pytest.mark.slow
def test_an_image_that_cannot_be_read_ends_the_run_or_is_put_aside(cohort, tmp_path):
    lines = [json.loads(line) for line in (cohort / "anatomy.jsonl").read_text().splitlines()]
    lines[1]["path"] = "gone.png"
    drawn_images.write_jsonl(cohort / "broken.jsonl", lines)
    result = run(cohort, tmp_path / "a", "--steps", "1", source="broken.jsonl")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "gone.png: No such file or directory" in result.stderr
    rejects = tmp_path / "rejects.jsonl"
    result = run(cohort, tmp_path / "b", "--steps", "1", "--rejects", str(rejects), source="broken.jsonl")
    assert result.exit_code == 0
    assert [json.loads(line)["path"] for line in rejects.read_text().splitlines()] == ["gone.png"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--steps", "1", "--epochs", "1"], "not both"),
        (["--trust-pickle"], "requires --detector yolo"),
        (["--device", "abacus"], "torch cannot use this device"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(cohort, tmp_path, flags, said):
    result = run(cohort, tmp_path, *flags)
    assert result.exit_code == 2 and said in result.stderr


def test_an_odd_size_is_refused(cohort, tmp_path):
    result = run(cohort, tmp_path, "--image-size", "50")
    assert result.exit_code == 1 and "multiple of 16" in result.stderr


@pytest.mark.slow
def test_a_signal_ends_the_command_with_75(cohort, tmp_path):
    command = [*warm.python(), "-m", "medground", "train-detector", str(cohort / "anatomy.jsonl")]
    command += ["--images", str(cohort), "-o", str(tmp_path), "--image-size", "32", "--batch-size", "2"]
    with subprocess.Popen([*command, "--steps", "100000"], stderr=subprocess.PIPE, text=True) as child:
        while not (tmp_path / "metrics.jsonl").exists():
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 75
    assert "stopped on request: saved step" in said and (tmp_path / "resume.safetensors").exists()


@pytest.mark.slow
def test_a_detector_begins_with_anothers_weights(cohort, tmp_path):
    first, then = tmp_path / "first", tmp_path / "then"
    assert run(cohort, first, "--steps", "4").exit_code == 0
    start = first / "model.safetensors"
    result = run(cohort, then, "--steps", "1", "--lr", "1e-7", "--init-from", str(start))
    assert result.exit_code == 0, result.output
    before, after = (checkpoints.load(each / "model.safetensors")[0] for each in (first, then))
    learned = [name for name in before if name.endswith(("weight", "bias"))]
    assert all(np.allclose(before[name], after[name], atol=1e-5) for name in learned)
    refused = run(cohort, tmp_path / "other", "--steps", "1", "--image-size", "48", "--init-from", str(start))
    assert refused.exit_code == 1
    assert "another size" in refused.stderr


def test_a_patient_in_both_parts_is_refused(cohort, tmp_path):
    result = run(cohort, tmp_path / "run", "--val", str(cohort / "anatomy.jsonl"))
    assert result.exit_code == 1 and "in both training and validation" in result.stderr
    assert not (tmp_path / "run").exists()


def test_it_names_the_input_that_is_empty_and_takes_stdin_once(cohort, tmp_path):
    result = run(cohort, tmp_path / "run", "--val", "/dev/null")
    assert result.exit_code == 1 and "no images to measure on; is --val right?" in result.stderr
    words = ["train-detector", "-", "--val", "-", "--images", str(cohort), "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, words, input="")
    assert (result.exit_code, "only one input can be stdin" in result.stderr) == (2, True)


# --- from an image encoder ---


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a small grounding model."""
    from medground.models import grounder

    torch.manual_seed(3)
    model = grounder.build("small", ["one"], image_size=64)
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    grounder.save(folder, model)
    return folder, model.network.image_encoder.state_dict()


@pytest.mark.slow
def test_the_weights_of_an_image_encoder_arrive(cohort, tmp_path, pretrained):
    folder, weights = pretrained
    flags = ["--image-encoder", str(folder), "--steps", "1", "--lr", "1e-9"]
    result = run(cohort, tmp_path / "run", *flags)
    assert result.exit_code == 0, result.output
    path = tmp_path / "run" / "model.safetensors"
    held, header = checkpoints.load(path)
    mine = {name.removeprefix("backbone.encoder."): each for name, each in held.items()}
    learned = [name for name in weights if "running" not in name and "tracked" not in name]
    assert len(learned) > 20
    for name in learned:
        torch.testing.assert_close(mine[name], weights[name], atol=1e-6, rtol=0)
    assert header["encoder"]["model_type"] == "resnet" and header["equalized"] is True
    network = detector.load(path, "cpu").network
    images = torch.rand(2, 1, 32, 32)
    assert network(images)[0].shape == (2, len(regions.NAMES), 4)
    again = run(cohort, tmp_path / "again", "--init-from", str(path), "--steps", "1")
    assert again.exit_code == 0, again.output


@pytest.mark.slow
def test_validation_on_patients_of_the_encoders_training_is_refused(cohort, tmp_path, pretrained):
    from medground.models import grounder

    model = grounder.load(pretrained[0])
    seen = list(medground.read(cohort / "val.jsonl"))
    record = leakage.new_record(seen[:1], None, False)
    grounder.save(tmp_path / "encoder", model, record)
    flags = ["--image-encoder", str(tmp_path / "encoder"), "--steps", "1"]
    result = run(cohort, tmp_path / "run", *flags, "--val", str(cohort / "val.jsonl"))
    assert result.exit_code == 1
    assert "1 subject is in both validation and the training data of" in result.stderr
    assert run(cohort, tmp_path / "run", *flags).exit_code == 0


def test_the_encoder_gets_the_images_of_its_training(pretrained):
    from medground.downstream import image_encoders

    encoder = image_encoders.load(str(pretrained[0]), 64)
    config = Config(names=("a", "b"), size=64, **region_query.of_encoder(encoder))
    network = region_query.Learner(config, None, encoder.network).network.eval()
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = encoder.maps(images, torch.ones_like(images))
        *_, fine, last = expected
        found = network.backbone._maps(images)
    torch.testing.assert_close(found, [fine, last])
    assert fine.shape[-1] == 8


def test_an_encoder_where_it_has_no_use_is_a_usage_error(cohort, tmp_path, pretrained):
    start = ["--init-from", str(pretrained[0])]
    for flags, problem in [
        (["--image-encoder", str(pretrained[0]), "--detector", "transformers", *start], "region-query"),
        (["--encoder-lr", "1e-4"], "--encoder-lr requires --image-encoder"),
        (["--image-encoder", str(pretrained[0]), *start], "give it or --image-encoder"),
    ]:
        result = run(cohort, tmp_path / "run", *flags)
        assert (result.exit_code, problem in result.stderr) == (2, True), result.stderr
