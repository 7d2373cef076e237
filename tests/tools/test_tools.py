import contextlib
import io
import subprocess
import sys

import pytest
from commands import COMMANDS
from paths import ROOT
from tool_runs import tool

from medground import record_json, records

GEN_DOCS = tool("gen_docs")


def gen_docs(*args: object) -> tuple[int, str]:
    """Return the exit status and the messages of tools/gen_docs."""
    messages = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(messages):
        patch.setattr(sys, "argv", ["gen_docs", *map(str, args)])
        return GEN_DOCS.main(), messages.getvalue()


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """Return a folder with the generated documents."""
    folder = tmp_path_factory.mktemp("docs")
    assert gen_docs("--into", folder) == (0, "")
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
    assert gen_docs("--into", docs, "--check") == (0, "")
    (docs / "cli.md").write_text("old")
    assert gen_docs("--into", docs, "--check") == (1, "cli.md is stale: run tools/gen_docs\n")
    assert (docs / "cli.md").read_text() == "old"


@pytest.mark.slow
def test_the_docs_of_this_checkout_are_not_stale():
    call = [sys.executable, str(ROOT / "tools/gen_docs"), "--check"]
    result = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_bench_startup_times_a_command_and_keeps_a_limit():
    call = [sys.executable, str(ROOT / "tools/bench_startup"), "align", "--runs", "1", "--limit", "0.001"]
    result = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert {tuple(row[2:]) for row in rows} == {
        ("medground", "align", flag) for flag in ("--help", "--no-such-option")
    }
    assert all(float(row[0]) > 0 for row in rows)


def test_bench_startup_times_every_command_of_a_group(monkeypatch, capsys):
    module = tool("bench_startup")
    monkeypatch.setattr(module, "seconds", lambda command, runs: 0.5)
    monkeypatch.setattr(sys, "argv", ["bench_startup", "convert", "--limit", "1"])
    assert module.main() == 0
    timed = {line.split("medground ", 1)[1] for line in capsys.readouterr().out.splitlines()[1:]}
    wanted = [" ".join(path) for path in COMMANDS if path[0] == "convert"]
    assert timed == {f"{words} {flag}" for words in wanted for flag in ("--help", "--no-such-option")}


def test_bench_batches_compares_the_host_with_a_device(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_batches", "mild", "--side", "64", "--batches", "1"])
    tool("bench_batches").main()
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["images/s", "host", "device", "ratio"]
    kind, host, device, _ = row.split()
    assert kind == "mild" and float(host) > 0 and float(device) > 0
