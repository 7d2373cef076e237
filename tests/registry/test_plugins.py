"""Entries of other packages: found by entry points, run by the commands, and harmless when broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_runs
import warm

MEDGROUND = (sys.executable, "-m", "medground")
PLUGIN = Path(__file__).resolve().parents[1] / "support" / "plugin_package"


def run(*call: object, paths: tuple[Path, ...] = (PLUGIN,)) -> subprocess.CompletedProcess:
    """Run a program with other packages on PYTHONPATH."""
    path = os.pathsep.join(map(str, [*paths, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, call)), capture_output=True, text=True, env=env, timeout=240)


def done(*args: object) -> str:
    """Run medground, and return its output."""
    result = run(*warm.python(), "-m", "medground", *args)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def phrases(toy_cohort, tmp_path_factory) -> Path:
    """The toy phrases, converted by the data set of the plugin."""
    folder = tmp_path_factory.mktemp("plugin")
    keys = ("image_id", "subject_id", "path", "width", "height", "text")
    rows = [
        [*(each[key] for key in keys), *each["boxes"][0], each["split"]]
        for each in toy_runs.lines(toy_cohort.phrases)
    ]
    (folder / "phrases.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    done("convert", "toy-tsv", folder / "phrases.tsv", "-o", folder / "phrases.jsonl")
    return folder / "phrases.jsonl"


@pytest.mark.slow
def test_an_architecture_and_an_objective_are_trained_run_and_scored(toy_cohort, phrases, tmp_path):
    assert len(toy_runs.lines(phrases)) == 12
    same = ["--images", toy_cohort.folder, "--device", "cpu"]
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
def test_an_adapter_runs_a_model_of_its_own_kind(toy_cohort, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "whole-image", "share": 0.5}')
    use = ["ground", "--model", tmp_path, "--device", "cpu", "--any-view"]
    record = json.loads(done(*use, toy_cohort.folder / "image0.png", "spot"))
    assert record["boxes"] == [{"box": [0.0, 0.0, 120.0, 50.0], "score": 0.75}]


@pytest.mark.slow
def test_a_detector_is_trained_and_run_and_masks_are_read(toy_cohort, tmp_path):
    same = ["--images", toy_cohort.folder]
    train = ["train-detector", toy_cohort.anatomy, *same, "--detector", "mean-boxes", "-o", tmp_path / "run"]
    done(*train, "--device", "cpu")
    use = ["--model", tmp_path / "run/model.safetensors", "--any-view"]
    found = done("detect-anatomy", toy_cohort.anatomy, *same, *use)
    boxes = [{each["name"] for each in json.loads(line)["regions"]} for line in found.splitlines()]
    assert boxes == [{"right lung", "left lung"}] * 9
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(12):
        text = "right lung\t10\t20\t50\t80\nleft lung\t60\t20\t110\t80\n"
        (masks / f"image{number}.rect").write_text(text)
    read = done("detect-anatomy", toy_cohort.anatomy, *same, "--masks", masks, "--mask-format", "rectangles")
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


HELPS = """
import json, sys
from click.testing import CliRunner
from medground.cli.main import cli
helps = [CliRunner().invoke(cli, [*words, "--help"]).stdout for words in json.loads(sys.argv[1])]
print(json.dumps([helps, "example_plugin" in sys.modules, sorted({"torch", "numpy"} & set(sys.modules))]))
"""


@pytest.mark.slow
def test_help_lists_the_entries_of_other_packages_and_imports_nothing_heavy():
    result = run(sys.executable, "-c", HELPS, json.dumps([command for command, _ in HELP]))
    assert (result.returncode, result.stderr) == (0, "")
    helps, loaded, heavy = json.loads(result.stdout)
    for (command, names), text in zip(HELP, helps, strict=True):
        assert [name for name in names if name not in " ".join(text.split()).lower()] == [], command
    assert (loaded, heavy) == (True, [])


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
    ("missing", "import no_such_thing\n", "cannot be loaded: ModuleNotFoundError"),
    ("syntax", "def f(:\n", "cannot be loaded: SyntaxError"),
    ("raising", "raise RuntimeError('boom')\n", "cannot be loaded: RuntimeError: boom"),
    ("nameless", "THINGS = 1\n", "cannot be loaded: AttributeError"),
    ("absent", "THING = 'no_such_thing:X'\n", "cannot be loaded: MedgroundError"),
    ("number", "THING = 1\n", "expected a medground.registry.Architecture"),
    ("transvg", GOOD, "the name is already taken"),
]


@pytest.mark.slow
def test_a_broken_package_is_one_warning_that_names_it(tmp_path):
    folders = []
    for number, (name, code, _) in enumerate(BAD):
        points = f"[medground.architectures]\n{name} = brokenplugin{number}:THING\n"
        folders.append(package(tmp_path, f"brokenplugin{number}", points, code))
    result = run(*MEDGROUND, "finetune", "--help", paths=tuple(folders))
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.splitlines()) == len(BAD), result.stderr
    for number, (*_, message) in enumerate(BAD):
        (line,) = [each for each in result.stderr.splitlines() if f"brokenplugin{number}: " in each]
        assert f"package brokenplugin{number}: medground.architectures" in line and message in line
    assert "transvg" in result.stdout


@pytest.mark.slow
def test_of_two_packages_with_one_name_the_second_is_refused(tmp_path):
    points = "[medground.architectures]\nmine = {}:THING\n"
    folders = [package(tmp_path, each, points.format(each), GOOD) for each in ("first", "second")]
    result = run(*MEDGROUND, "finetune", "--help", paths=tuple(folders))
    (line,) = result.stderr.splitlines()
    assert "package second" in line and "already taken" in line and "mine" in result.stdout
