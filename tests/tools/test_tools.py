import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMANDS

from medground import record_json, records

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def run(name, *args):
    call = [sys.executable, str(TOOLS / name), *map(str, args)]
    return subprocess.run(call, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """Return a folder with the generated documents."""
    folder = tmp_path_factory.mktemp("docs")
    assert run("gen_docs", "--into", folder).returncode == 0
    return folder


@pytest.mark.slow
def test_docs_tell_of_every_command(docs):
    text = (docs / "cli.md").read_text()
    for path in COMMANDS:
        assert f"## medground {' '.join(path)}\n" in text


@pytest.mark.slow
def test_docs_tell_of_every_record_and_key(docs):
    text = (docs / "records.md").read_text()
    for kind in (records.Report, records.Sentence, records.Anatomy, records.Pair, records.Score):
        own = text.partition(f"## {kind.__name__}\n")[2].partition("\n## ")[0]
        for key in record_json.known_keys(kind):
            assert f"| `{key}` |" in own
    assert "| `box` | box | required |" in text
    assert "| `regions` | array of Region | required |" in text
    assert "`extra` |" not in text


@pytest.mark.slow
def test_stale_docs_are_found_and_nothing_is_written(docs):
    assert run("gen_docs", "--into", docs, "--check").returncode == 0
    (docs / "cli.md").write_text("old")
    result = run("gen_docs", "--into", docs, "--check")
    assert (result.returncode, result.stderr) == (1, "cli.md is stale: run tools/gen_docs\n")
    assert (docs / "cli.md").read_text() == "old"


@pytest.mark.slow
def test_the_docs_of_this_checkout_are_not_stale():
    result = run("gen_docs", "--check")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_bench_startup_times_every_command_and_keeps_a_limit():
    result = run("bench_startup", "convert", "--runs", 1, "--limit", 0.001)
    assert result.returncode == 1
    timed = {line.split("medground ", 1)[1] for line in result.stdout.splitlines()[1:]}
    wanted = [" ".join(path) for path in COMMANDS if path[0] == "convert"]
    assert timed == {f"{words} {flag}" for words in wanted for flag in ("--help", "--no-such-option")}
    assert all(float(line.split()[0]) > 0 for line in result.stdout.splitlines())
