"""parse-reports on several processes: the same bytes, bounded memory, and an end that leaves none behind."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import gone, workers_of

from medground.cli.report_spread import CHUNK, spread
from medground.errors import MedgroundError
from medground.records import Report

MEDGROUND = [sys.executable, "-m", "medground", "parse-reports", "--workers", "2"]
ROWS = "".join(f"{n},Nodule {n} mm in the left base. This is a scar.\n" for n in range(CHUNK * 12))
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


def build_echo(word: str):
    """A worker that answers with its reports' ids; "silent" ones have nothing to read."""

    def render(reports):
        ids = [each.study_id for each in reports]
        content = "".join(f"{word}{each} " for each in ids).encode()
        return content, [each for each in ids if each == "silent"], len(ids)

    return render


def build_killed():
    """A worker that is killed, as the kernel kills for want of memory."""
    return lambda reports: os.kill(os.getpid(), signal.SIGKILL)


def reports(count: int):
    return (Report(study_id=str(n), text="Clear.") for n in range(count))


@pytest.fixture
def busy(tmp_path):
    """A run that waits for the rest of its input, its output, and its two workers."""
    with subprocess.Popen(
        [*MEDGROUND, "-", "-o", str(tmp_path / "out.jsonl")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        process.stdin.write(b"study_id,text\n" + ROWS.encode())
        process.stdin.flush()
        yield process, workers_of(process, 2)
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, CHUNK * 5 + 1])
def test_answers_keep_the_order_of_the_reports(workers, count):
    answers = list(spread(reports(count), build_echo, ("r",), workers))
    assert b"".join(content for content, *_ in answers).split() == [b"r%d" % n for n in range(count)]
    assert sum(reports for *_, reports in answers) == count


def test_studies_with_nothing_to_read_come_back_by_name():
    answers = spread([Report(study_id="silent")], build_echo, ("",), 2)
    assert [silent for _, silent, _ in answers] == [["silent"]]


@pytest.mark.slow
@pytest.mark.parametrize("length", [10, 2_000_000])
def test_no_more_than_a_few_chunks_are_read_ahead(length):
    read = itertools.count()
    texts = (Report(study_id="s", text="x" * length) for _ in iter(lambda: next(read), 40 * CHUNK))
    answers = spread(texts, build_echo, ("",), 2)
    next(answers)
    answers.close()
    assert next(read) <= (CHUNK if length == 10 else 1) * 8


def test_a_killed_worker_ends_the_run_with_a_word():
    with pytest.raises(MedgroundError, match=r"a worker process was killed.* fewer --workers"):
        list(spread(reports(CHUNK * 3), build_killed, (), 2))


@pytest.mark.slow
def test_a_killed_worker_leaves_no_finished_file(busy, tmp_path):
    process, workers = busy
    os.kill(workers[0], signal.SIGKILL)
    _, said = process.communicate(ROWS.encode(), timeout=30)
    assert process.returncode == 1 and said.startswith(b"Error: a worker process was killed")
    assert not (tmp_path / "out.jsonl").exists() and gone(workers)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_with_one_word(busy, tmp_path):
    process, workers = busy
    for each in (*workers, process.pid):  # as a terminal does
        os.kill(each, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (1, b"Aborted!")
    assert not (tmp_path / "out.jsonl").exists() and gone(workers)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_the_workers_end_with_a_run_that_is_killed(busy, by):
    process, workers = busy
    process.send_signal(by)
    assert process.wait(timeout=30) == -by and gone(workers)


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error_to_speak_of(tmp_path):
    source = tmp_path / "reports.csv"
    source.write_text("study_id,text\n" + ROWS)
    with subprocess.Popen(
        [*MEDGROUND, str(source)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().startswith(b'{"study_id":"0"')
        process.stdout.close()
        said = process.stderr.read()
    assert said == b""


@pytest.mark.slow
def test_all_is_said_once_whatever_the_number_of_workers(tmp_path):
    source = tmp_path / "reports.csv"
    rows = ["1,INDICATION: cough", "2,TECHNIQUE: AP", '3,"open', "4,Clear."] * CHUNK
    source.write_text("study_id,text\n" + "\n".join(rows))
    runs = []
    for workers in ("1", "2"):
        call = [*MEDGROUND[:-1], workers, "--rejects", str(tmp_path / workers), str(source)]
        done = subprocess.run(call, capture_output=True, check=True)
        runs.append((done.stdout, sorted(done.stderr.splitlines()), (tmp_path / workers).read_bytes()))
    assert runs[0] == runs[1]
    assert sum(b"report 1: no findings or impression" in line for line in runs[0][1]) == 1
