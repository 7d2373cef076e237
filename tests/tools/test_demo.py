"""The demo: its first result, and the commands that `make demo` runs."""

import json
import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from commands import COMMANDS, command_of
from paths import ROOT
from tool_runs import tool

PROGRAM = ".venv/bin/medground"
TRUTH = {
    "image_id": "i1",
    "phrase_id": "i1|0",
    "path": "i1.png",
    "text": "opacity",
    "boxes": [[0, 0, 10, 10]],
}
MADE = {"image_id": "i1", "present": 0.9, "model": "m"}


def write(path, *records):
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return str(path)


def test_predictions_are_printed_with_their_overlap_and_pictures(tmp_path):
    found = MADE | {"phrase_id": "i1|0", "text": "opacity", "boxes": [{"box": [0, 0, 10, 5], "score": 0.7}]}
    none = MADE | {"phrase_id": "i1|1", "text": "no edema", "boxes": []}
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "i1_0.png").touch()
    flags = ["--truth", write(tmp_path / "truth.jsonl", TRUTH), "--pictures", str(tmp_path / "pictures")]
    done = CliRunner().invoke(
        tool("show_predictions").main, [write(tmp_path / "found.jsonl", found, none), *flags]
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"opacity +i1 +0, 0, 10, 5 +0\.70 +0\.50", done.output)
    assert re.search(r"no edema +i1 +none", done.output)
    assert f"1 pictures of predicted and annotated boxes: {tmp_path}/pictures/" in done.output


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> list[list[str]]:
    """The words of each command that `make demo` runs, in order."""
    folder = tmp_path_factory.mktemp("fresh")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "examples", folder / "examples")
    call = ["make", "--dry-run", "demo"]
    printed = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=True).stdout
    parts = re.split(r"\||\n", printed.replace("\\\n", " "))
    return [part.split(PROGRAM, 1)[1].split() for part in parts if PROGRAM in part]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_demo_predicts_before_it_trains(commands):
    names = [words[0] for words in commands]
    assert names.index("ground") < min(
        names.index(each) for each in ("train-detector", "pretrain", "finetune")
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_demo_names_options_that_commands_have(commands):
    for words in commands:
        path = max((path for path in COMMANDS if tuple(words[: len(path)]) == path), key=len)
        known = {
            name
            for each in command_of(path).params
            if not getattr(each, "hidden", False)
            for name in (*each.opts, *each.secondary_opts)
        }
        assert {word for word in words if word.startswith("--")} <= known, words
