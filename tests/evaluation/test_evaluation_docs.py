"""The examples of docs/evaluation.md, run in order: files are written, commands and Python are run."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from medground import registry
from medground.cli.main import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.M | re.S)


def run(command: str) -> list[dict]:
    """Return the scores of a `medground evaluate` command line."""
    name, *words = shlex.split(command)
    assert name == "medground"
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, f"{command}: {result.stderr}"
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_every_example_of_the_page_gives_the_scores_that_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown = 0
    for kind, file, content in BLOCK.findall(PAGE.read_text()):
        if file:
            Path(file).write_text(content)
        elif kind == "python":
            exec(content, names)
        elif kind == "console":
            scores: list[dict] = []
            for line in content.splitlines():
                if line.startswith("$ "):
                    scores = run(line[2:])
                else:
                    expected = json.loads(line)
                    assert any(expected.items() <= each.items() for each in scores), line
                    shown += 1
    assert shown > 40


def test_the_page_names_every_protocol_format_and_system():
    text = PAGE.read_text()
    for name in (*registry.PROTOCOLS, *registry.PREDICTION_FORMATS):
        assert f"`{name}`" in text or f"### {name}\n" in text, name
    for system in ("original", "normalised", "crop", "letterbox:N", "stretch:WxH"):
        assert f"| `{system}` |" in text, system
