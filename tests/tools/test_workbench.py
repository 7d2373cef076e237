"""examples/workbench.mk: models of other makers through ground, evaluate, compare and render."""

import json
import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from paths import ROOT
from tool_runs import tool

from medground import registry
from medground.cli.main import cli
from medground.grounding.adapters import generators

PROGRAM = ".venv/bin/"


def commands(folder) -> list[list[str]]:
    """Return the words of each command of `make workbench` with two patients, in order."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "examples", folder / "examples")
    call = ["env", "-u", "MAKEFLAGS", "make", "--dry-run", "workbench", "WORKBENCH_PATIENTS=2"]
    printed = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=True).stdout
    lines = printed.replace("\\\n", " ").splitlines()
    return [
        line.removeprefix(PROGRAM).split()
        for line in lines
        if re.match(r"\.venv/bin/(medground|python tools)", line)
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # in transformers' processor of PaliGemma
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_six_models_are_grounded_scored_and_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generators, "MAX_TOKENS", 4)
    done = []
    for program, *words in commands(tmp_path):
        short = ["--bootstrap-samples", "100"] if words[0] in ("evaluate", "compare") else []
        called = cli if program == "medground" else tool(words.pop(0).removeprefix("tools/")).main
        result = CliRunner().invoke(called, [*words, *short])
        assert result.exit_code == 0, (words, result.output)
        done.append(words[0])
    assert {name: done.count(name) for name in ("ground", "evaluate", "compare", "render")} == {
        "ground": 6, "evaluate": 6, "compare": 1, "render": 1
    }  # fmt: skip
    rows = (tmp_path / "workbench" / "table.md").read_text().splitlines()
    names = ["grounding-dino", "owlv2", "florence-2", "paligemma", "qwen2.5-vl", "clip"]
    assert [name for name in names if any(name in row for row in rows)] == names
    phrases = (tmp_path / "workbench" / "phrases.jsonl").read_text().splitlines()
    for name in names:
        found = [
            json.loads(line) for line in (tmp_path / "workbench" / f"{name}.jsonl").read_text().splitlines()
        ]
        assert len(found) == len(phrases) > 0
        config = json.loads((tmp_path / "workbench" / "models" / name / "config.json").read_text())
        [entry] = [
            each for each in registry.MODEL_ADAPTERS.values() if config["model_type"] in each.model_types
        ]
        assert entry.none or all(each["boxes"] for each in found)
    assert "<article>" in (tmp_path / "workbench" / "page.html").read_text()
