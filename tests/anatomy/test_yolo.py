"""ultralytics' YOLO: trained and run in a process of its own, no pickle without consent, no network."""

import importlib.util
import json
import os
import sys
from contextlib import closing
from pathlib import Path

import drawn_images
import pytest
import warm
from click.testing import CliRunner

from medground import checkpoints
from medground.anatomy import detector, regions, yolo, yolo_process
from medground.cli.main import cli

if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("ultralytics is not installed", allow_module_level=True)
STAND_INS = Path(__file__).resolve().parents[1] / "support" / "stand_ins"


@pytest.fixture(scope="module")
def stand_in():
    """Put torchvision's stand-in before child processes alone, and start them with what ultralytics loads."""
    start, python = (
        yolo.subprocess.Popen,
        warm.python("cv2", "matplotlib.pyplot", "polars", "requests", "yaml"),
    )

    def popen(command, **how):
        return start([*python, *command[1:]] if command[0] == sys.executable else command, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(STAND_INS), os.environ.get("PYTHONPATH", "")]))
        patch.setattr(yolo.subprocess, "Popen", popen)
        yield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    drawn_images.write_jsonl(folder / "anatomy.jsonl", drawn_images.write_images(folder, 12))
    return folder


def train(cohort, folder, *flags: str):
    command = ["train-detector", str(cohort / "anatomy.jsonl"), "--images", str(cohort), "-o", str(folder)]
    small = ["--detector", "yolo", "--image-size", "64", "--batch-size", "6", "--device", "cpu"]
    return CliRunner().invoke(cli, [*command, *small, *flags])


def detect(cohort, model, *flags: str):
    command = ["detect-anatomy", str(cohort), "--images", str(cohort), "--model", str(model)]
    return CliRunner().invoke(cli, [*command, "--device", "cpu", *flags])


@pytest.fixture(scope="module")
def run(cohort, stand_in, tmp_path_factory):
    """A run folder of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    result = train(cohort, folder, "--epochs", "2")
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
def test_training_ends_in_one_safetensors_file(run):
    weights, config = checkpoints.load(run / "model.safetensors")
    assert config["kind"] == "yolo" and config["names"] == regions.NAMES and config["size"] == 64
    assert len(weights) > 100
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(line["train/box_loss"] > 0 for line in lines)


@pytest.mark.slow
def test_images_are_not_mirrored_nor_cut_up(run):
    said = (run / "yolo" / "run" / "args.yaml").read_text()
    assert "fliplr: 0.0\n" in said and "mosaic: 0.0\n" in said and "flipud: 0.0\n" in said


@pytest.mark.slow
def test_labels_are_the_boxes(run, cohort):
    line = json.loads((cohort / "anatomy.jsonl").read_text().splitlines()[0])
    found = {}
    for row in (run / "yolo" / "labels" / "train" / "0000000.txt").read_text().splitlines():
        number, cx, cy, wide, high = map(float, row.split())
        found[regions.NAMES[int(number)]] = (cx, cy, wide, high)
    for region in line["regions"]:
        x1, y1, x2, y2 = (each / 120 for each in region["box"])
        top = 10 / 120  # 120 x 100 in a square: ten rows of padding above
        expected = ((x1 + x2) / 2, (y1 + y2) / 2 + top, x2 - x1, y2 - y1)
        assert found[region["name"]] == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_the_model_answers_as_the_network_it_was_made_of(run, stand_in):
    squares = drawn_images.image_set(3, 64).squares.astype("float32") / 255
    answers = []
    for path in (run / "model.safetensors", run / "yolo" / "run" / "weights" / "best.pt"):
        with closing(detector.load(path, "cpu", "yolo", trust_pickle=True)) as found:
            answers.append(found.find(squares))
    assert answers[0] == answers[1]
    for one in answers[0]:
        assert sorted(each.name for each in one) == sorted(regions.NAMES)
        assert all(0 <= each.score <= 1 for each in one)


@pytest.mark.slow
def test_the_command_gives_a_line_an_image(run, cohort):
    result = detect(cohort, run / "model.safetensors", "--min-score", "0")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 12
    assert {line["model"] for line in lines} == {checkpoints.hash_of(run / "model.safetensors")}


@pytest.mark.slow
def test_a_pickle_is_refused_unread(run, cohort, tmp_path):
    pickled = run / "yolo" / "run" / "weights" / "best.pt"
    for result in (
        detect(cohort, pickled, "--detector", "yolo"),
        train(cohort, tmp_path, "--init-from", str(pickled)),
    ):
        assert result.exit_code == 1 and "a pickle" in result.stderr and result.stderr.count("\n") == 1


def test_without_ultralytics_the_message_names_extra_and_licence(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(yolo.importlib.util, "find_spec", lambda name: None)
    result = train(cohort, tmp_path)
    assert result.exit_code == 1
    assert "pip install medground[yolo]" in result.stderr and "AGPL-3.0" in result.stderr


def test_a_failure_inside_ultralytics_is_one_line(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "ultralytics.py").write_text("raise RuntimeError('no torchvision that fits')")
    result = train(cohort, tmp_path / "run", "--epochs", "1")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "ultralytics failed: RuntimeError: no torchvision that fits" in result.stderr


@pytest.mark.slow
def test_stopped_it_goes_on_after_the_last_whole_epoch(cohort, stand_in, tmp_path):
    drawn, lines = drawn_images.image_set(4, 32), []
    options = yolo.Options(epochs=2, batch=6, size=32)
    assert not yolo.train(drawn, None, tmp_path, options, lines.append, lambda: len(lines) >= 1)
    assert yolo.train(drawn, None, tmp_path, options, lines.append, bool)
    assert [line["epoch"] for line in lines][-1] == 2 and len(lines) <= 3
    assert (tmp_path / "model.safetensors").exists()


def test_only_the_child_imports_ultralytics():
    package = Path(yolo.__file__).parent.parent
    users = [path.name for path in package.rglob("*.py") if "import ultralytics" in path.read_text()]
    users += [path.name for path in package.rglob("*.py") if "from ultralytics" in path.read_text()]
    assert set(users) == {Path(yolo_process.__file__).name}


def test_the_child_process_is_kept_off_the_network(monkeypatch):
    seen = {}

    def popen(command, env, **how):
        seen.update(env, font=(Path(env["YOLO_CONFIG_DIR"]) / "Ultralytics" / "Arial.ttf").stat().st_size)
        raise OSError("that is all")

    monkeypatch.setattr(yolo.subprocess, "Popen", popen)
    with pytest.raises(OSError, match="that is all"):
        yolo.Process()
    assert seen["YOLO_OFFLINE"] == "1" and seen["YOLO_AUTOINSTALL"] == "0" and seen["font"] > 10_000
    assert seen["YOLO_CONFIG_DIR"] != os.environ.get("YOLO_CONFIG_DIR")
