"""After a command that loaded an export, the process ends without freeing it."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medground.cli import ending

IMAGE = Path(__file__).parents[2] / "docs" / "images" / "right-mid-lung-opacity.png"


@pytest.fixture
def exits(monkeypatch):
    """The exit codes with which a process would have ended; nothing is kept and torch is not loaded."""
    codes = []
    monkeypatch.setattr(ending.os, "_exit", codes.append)
    monkeypatch.setattr(ending, "_kept", [])
    monkeypatch.setattr(ending.threading, "active_count", lambda: 1)
    monkeypatch.setattr(ending.logging, "shutdown", lambda: None)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    return codes


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (1, 1), (75, 75)])
def test_the_exit_code_stays(exits, code, status):
    ending.keep("model")
    ending.end(code)
    assert exits == [status]


def test_a_process_ends_as_usual_without_a_model(exits):
    ending.end(0)
    assert exits == []


def test_a_process_ends_as_usual_with_a_message_instead_of_a_code(exits):
    ending.keep("model")
    ending.end("a message, which Python prints")
    assert exits == []


def test_a_process_with_torch_ends_as_usual(exits, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", threading)
    ending.keep("model")
    ending.end(0)
    assert exits == []


def test_a_process_with_another_thread_ends_as_usual(exits, monkeypatch):
    monkeypatch.setattr(ending.threading, "active_count", lambda: 2)
    ending.keep("model")
    ending.end(0)
    assert exits == []


def test_a_process_whose_messages_cannot_be_written_ends_as_usual(exits, monkeypatch):
    class Full:
        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    ending.keep("model")
    ending.end(0)
    assert exits == []


@pytest.mark.parametrize("code", [0, 75])
def test_a_closed_stdout_keeps_the_code(code, tmp_path, monkeypatch):
    stream = (tmp_path / "out").open("w")
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    assert ending.written(code) == code


def test_one_model_is_kept(exits):
    for each in ("one", "other"):
        ending.keep(each)
    assert ending._kept == ["other"]


@pytest.mark.slow
def test_all_output_of_ground_is_written_before_the_end(tmp_path):
    words = ["ground", str(IMAGE), "left lung", "right lung"]
    done = subprocess.run([sys.executable, "-m", "medground", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == words[2:]
    assert done.stderr.count("WARNING") == 2
    output = tmp_path / "found.jsonl"
    words += ["-o", str(output)]
    done = subprocess.run([sys.executable, "-m", "medground", *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert [json.loads(line)["text"] for line in output.read_text().splitlines()] == [
        "left lung",
        "right lung",
    ]
