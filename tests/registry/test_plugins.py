"""Entries of other packages: found by entry points, run by the commands, and harmless when broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_runs

PLUGIN = Path(__file__).resolve().parents[1] / "support" / "plugin_package"


def run(*args: object, paths: tuple[Path, ...] = (PLUGIN,)) -> subprocess.CompletedProcess:
    """Run medground with other packages on PYTHONPATH."""
    path = os.pathsep.join(map(str, [*paths, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
    call = [sys.executable, "-m", "medground", *map(str, args)]
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(call, capture_output=True, text=True, env=env, timeout=240)


def done(*args: object) -> str:
    result = run(*args)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def phrases(toy_films, tmp_path_factory) -> Path:
    """The toy phrases, converted by the data set of the plugin."""
    folder = tmp_path_factory.mktemp("plugin")
    keys = ("image_id", "subject_id", "path", "width", "height", "text")
    rows = [
        [*(each[key] for key in keys), *each["boxes"][0], each["split"]]
        for each in toy_runs.lines(toy_films.phrases)
    ]
    (folder / "phrases.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    done("convert", "toy-tsv", folder / "phrases.tsv", "-o", folder / "phrases.jsonl")
    return folder / "phrases.jsonl"


@pytest.mark.slow
def test_an_architecture_and_an_objective_are_trained_run_and_scored(toy_films, phrases, tmp_path):
    assert len(toy_runs.lines(phrases)) == 12
    same = ["--images", toy_films.folder, "--device", "cpu"]
    model = ["--architecture", "averaging", "--objective", "center", "--loss-weight", "center=3"]
    sizes = ["--steps", 2, "--batch-size", 2, "--save-every", 2, "-o", tmp_path / "run"]
    done("finetune", phrases, *same, *model, *sizes)
    logged = toy_runs.lines(tmp_path / "run" / "metrics.jsonl")
    assert logged[0]["center"] > 0 and "giou" not in logged[0]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["architecture"] == "averaging"
    found = tmp_path / "found.tsv"
    ground = ["ground", "--model", tmp_path / "run", *same, "--phrases", phrases]
    done(*ground, "--output-format", "tsv", "-o", found)
    assert len(found.read_text().splitlines()) == 12
    evaluate = ["evaluate", found, "--truth", phrases, "--input-format", "tsv"]
    scores = [json.loads(line) for line in done(*evaluate, "--protocol", "center-inside").splitlines()]
    assert {each["protocol"] for each in scores} == {"center-inside"}
    assert any(each["group"] == "all" and 0 <= each["value"] <= 1 for each in scores)


@pytest.mark.slow
def test_an_adapter_runs_a_model_of_its_own_kind(toy_films, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "whole-image", "share": 0.5}')
    use = ["ground", "--model", tmp_path, "--device", "cpu", "--any-view"]
    record = json.loads(done(*use, toy_films.folder / "film0.png", "spot"))
    assert record["boxes"] == [{"box": [0.0, 0.0, 120.0, 50.0], "score": 0.75}]


@pytest.mark.slow
def test_a_detector_is_trained_and_run_and_masks_are_read(toy_films, tmp_path):
    same = ["--images", toy_films.folder]
    train = ["train-detector", toy_films.anatomy, *same, "--detector", "mean-boxes", "-o", tmp_path / "run"]
    done(*train, "--device", "cpu")
    use = ["--model", tmp_path / "run/model.safetensors", "--any-view"]
    found = done("detect-anatomy", toy_films.anatomy, *same, *use)
    boxes = [{each["name"] for each in json.loads(line)["regions"]} for line in found.splitlines()]
    assert boxes == [{"right lung", "left lung"}] * 9
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(12):
        text = "right lung\t10\t20\t50\t80\nleft lung\t60\t20\t110\t80\n"
        (masks / f"film{number}.rect").write_text(text)
    read = done("detect-anatomy", toy_films.anatomy, *same, "--masks", masks, "--mask-format", "rectangles")
    regions = {each["name"]: each["box"] for each in json.loads(read.splitlines()[0])["regions"]}
    assert (regions["right lung"], regions["left lung"]) == ([10, 20, 50, 80], [60, 20, 110, 80])


HELP = [
    (["finetune"], ["averaging", "center"]),
    (["pretrain"], ["averaging", "center"]),
    (["train-detector"], ["mean-boxes"]),
    (["detect-anatomy"], ["mean-boxes", "rectangles"]),
    (["evaluate"], ["center-inside", "tsv"]),
    (["ground"], ["tsv"]),
    (["convert"], ["toy-tsv"]),
    (["convert", "toy-tsv"], ["tab-separated phrases", "phrases.tsv -o phrases.jsonl"]),
]


@pytest.mark.parametrize(("command", "names"), HELP, ids=lambda each: " ".join(each))
def test_help_lists_the_entries_of_other_packages(command, names):
    text = " ".join(done(*command, "--help").split()).lower()
    assert all(name in text for name in names)


def test_help_with_a_plugin_imports_nothing_heavy():
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom medground.cli.main import cli\n"
        "for name in ('pretrain', 'evaluate', 'convert'):\n    CliRunner().invoke(cli, [name, '--help'])\n"
        "print('example_plugin' in sys.modules, {'torch', 'numpy'} & set(sys.modules))"
    )
    path = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert result.stdout == "True set()\n"


def package(folder: Path, name: str, points: str, code: str) -> Path:
    """Write a package with entry points; return the folder for PYTHONPATH."""
    info = folder / name / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    (folder / name / f"{name}.py").write_text(code)
    return folder / name


GOOD = "from medground import registry\nTHING = registry.Architecture(target='x:Y', help='h')\n"
BAD = [
    ("other", "import no_such_thing\n", "cannot be loaded: ModuleNotFoundError"),
    ("other", "def f(:\n", "cannot be loaded: SyntaxError"),
    ("other", "raise RuntimeError('boom')\n", "cannot be loaded: RuntimeError: boom"),
    ("other", "THINGS = 1\n", "cannot be loaded: AttributeError"),
    ("other", "THING = 'no_such_thing:X'\n", "cannot be loaded: MedgroundError"),
    ("other", "THING = 1\n", "expected a medground.registry.Architecture"),
    ("transvg", GOOD, "the name is already taken"),
]


@pytest.mark.parametrize(("name", "code", "message"), BAD)
def test_a_broken_package_is_one_warning_that_names_it(tmp_path, name, code, message):
    points = f"[medground.architectures]\n{name} = brokenplugin:THING\n"
    folder = package(tmp_path, "brokenplugin", points, code)
    result = run("finetune", "--help", paths=(folder,))
    assert result.returncode == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert "package brokenplugin: medground.architectures" in line and message in line
    assert "transvg" in result.stdout


def test_of_two_packages_with_one_name_the_second_is_refused(tmp_path):
    points = "[medground.architectures]\nmine = {}:THING\n"
    folders = [package(tmp_path, each, points.format(each), GOOD) for each in ("first", "second")]
    result = run("finetune", "--help", paths=tuple(folders))
    (line,) = result.stderr.splitlines()
    assert "package second" in line and "already taken" in line and "mine" in result.stdout
