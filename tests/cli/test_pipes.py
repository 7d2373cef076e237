"""Real shells, real pipes: what CliRunner cannot show."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from samples import IMAGE, SENTENCE

BIN = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path):
    """A folder with 3,000 sentences, a study each, and their images."""
    studies = [f"s{n}" for n in range(3000)]
    images = (IMAGE | {"study_id": study, "image_id": f"i{study}"} for study in studies)
    sentences = (SENTENCE | {"study_id": study} for study in studies)
    (tmp_path / "boxes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in images))
    (tmp_path / "sentences.jsonl").write_text("".join(json.dumps(each) + "\n" for each in sentences))
    return tmp_path


@pytest.fixture
def shell(folder):
    """Run a line of bash in the folder; `medground` is the one under test."""

    def run(line):
        env = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        env.pop("PYTHONUNBUFFERED", None)  # it would hide what is left in the buffer at the end
        call = ["bash", "-o", "pipefail", "-c", line]
        return subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.slow
def test_a_pipe_a_redirection_and_a_file_give_the_same_bytes(shell, folder):
    ways = [
        "medground align --anatomy boxes.jsonl sentences.jsonl",
        "medground align --anatomy boxes.jsonl < sentences.jsonl",
        "cat sentences.jsonl | medground align --anatomy boxes.jsonl -",
        "cat boxes.jsonl | medground align --anatomy - sentences.jsonl",
        "medground align --anatomy boxes.jsonl sentences.jsonl -o out.jsonl && cat out.jsonl",
    ]
    results = [shell(way) for way in ways]
    assert {(each.returncode, each.stderr) for each in results} == {(0, "")}
    assert {each.stdout.count("\n") for each in results} == {3000}
    assert len({each.stdout for each in results}) == 1
    assert not list(folder.glob("*.partial"))


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error_to_speak_of(shell):
    result = shell("medground align --anatomy boxes.jsonl sentences.jsonl | head -1")
    assert (result.stdout.count("\n"), result.stderr) == (1, "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to play a full disk")
@pytest.mark.parametrize(
    "line",
    [
        "medground align --anatomy boxes.jsonl sentences.jsonl > /dev/full",
        "medground align --anatomy boxes.jsonl sentences.jsonl -o /dev/full",
        "head -1 sentences.jsonl | medground align --anatomy boxes.jsonl > /dev/full",
        "medground --help > /dev/full",
    ],
)
def test_a_full_disk_is_one_line(shell, line):
    result = shell(line)
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device\n")


@pytest.mark.slow
def test_an_interrupted_run_ends_with_a_word_and_leaves_no_finished_file(folder):
    call = [BIN / "medground", "align", "--anatomy", "boxes.jsonl", "-o", "out.jsonl"]
    process = subprocess.Popen(
        call,
        cwd=folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (folder / "out.jsonl.partial").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (1, "Aborted!")
    assert not (folder / "out.jsonl").exists()


@pytest.mark.slow
def test_answers_come_before_the_input_ends(folder):
    call = [BIN / "medground", "align", "--anatomy", "boxes.jsonl"]
    with subprocess.Popen(call, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for study in ("s1", "s2", "s3"):
            process.stdin.write(json.dumps(SENTENCE | {"study_id": study}).encode() + b"\n")
            process.stdin.flush()
            time.sleep(0.3)
        assert json.loads(process.stdout.readline())["study_id"] == "s1"
        process.stdin.close()
        assert process.stdout.read().count(b"\n") == 2


@pytest.mark.slow
def test_the_line_of_the_mission_works_as_typed(shell, folder):
    (folder / "reports.csv").write_text(
        "study_id,findings\ns1,There is a left pleural effusion.\ns9,Heart size is normal.\n"
    )
    result = shell("medground parse-reports reports.csv | medground align --anatomy boxes.jsonl")
    assert (result.returncode, result.stderr) == (0, "")
    [pair] = map(json.loads, result.stdout.splitlines())
    assert (pair["study_id"], pair["text"]) == ("s1", "There is a left pleural effusion.")
    first = shell("medground parse-reports reports.csv | medground align --anatomy boxes.jsonl | head -1")
    assert (first.stdout, first.stderr) == (result.stdout, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "medground align sentences.jsonl --anatomy boxes.jsonl >&-",
            "<stdout> is closed; give a file with -o",
        ),
        ("medground align - --anatomy boxes.jsonl <&-", "<stdin> is closed; give a file"),
        ("medground align sentences.jsonl --anatomy boxes.jsonl --min-score x 2>&-", ""),
    ],
)
def test_a_stream_that_the_shell_has_closed_is_one_message(shell, line, said):
    result = shell(line)
    assert result.returncode in (1, 2) and result.stdout == ""
    assert said in result.stderr and "Traceback" not in result.stderr
    assert len([each for each in result.stderr.splitlines() if each.startswith("Error")]) == bool(said)
