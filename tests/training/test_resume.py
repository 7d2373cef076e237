"""What a killed run has left is continued: the files of `resuming.journal`, and each filter's `--resume`."""

import json
import re

import pytest
from click.testing import CliRunner
from samples import IMAGE, REPORT, SENTENCE

from medground import output_files, resuming
from medground.cli.main import cli
from medground.errors import MedgroundError


class Killed(Exception):
    """As much of SIGKILL as one process can show: nothing after it is written."""


UNITS = [b"".join(b"%d.%d\n" % (n, k) for k in range(n % 3)) for n in range(20)]
WHOLE = b"".join(UNITS)


def write(path, until=None, task=None, units=UNITS):
    """Write the units that are missing; killed before unit `until`. Returns how many were made."""
    made = 0
    with resuming.journal(str(path), task or {"command": "test"}) as out:
        for number, unit in enumerate(units[out.done :], start=out.done):
            if number == until:
                raise Killed
            out.add(unit, every=0)
            made += 1
    return made


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.mark.parametrize("stops", [[0], [1], [7], [19], [3, 3, 12], [5, 1000]])
def test_after_any_kills_the_bytes_are_those_of_an_undisturbed_run(stops, target):
    made = 0
    for stop in stops:
        if stop < len(UNITS):
            with pytest.raises(Killed):
                write(target, stop)
            assert not target.exists()
    made = write(target)
    assert target.read_bytes() == WHOLE
    assert made == len(UNITS) - max(each for each in stops if each < len(UNITS))
    assert {each.name for each in target.parent.iterdir()} == {"out.jsonl", ".out.jsonl.done"}


def cut(path, size):
    with path.open("r+b") as stream:
        stream.truncate(size)


@pytest.mark.parametrize("size", range(0, 60, 7))
@pytest.mark.parametrize("name", [".partial", ".partial.done"])
def test_wherever_the_kill_cut_a_file_nothing_is_lost_or_double(name, size, target):
    with pytest.raises(Killed):
        write(target, 15)
    cut(target.with_name(target.name + name), size)
    write(target)
    assert target.read_bytes() == WHOLE


def test_what_was_written_after_the_last_note_is_made_again(target):
    with pytest.raises(Killed):
        write(target, 15)
    with target.with_name("out.jsonl.partial").open("ab") as stream:
        stream.write(b"15.0\n15.")
    assert write(target) == 5
    assert target.read_bytes() == WHOLE


def test_another_task_is_refused_and_named(target):
    with pytest.raises(Killed):
        write(target, 15, {"command": "test", "min_score": 0.5})
    with pytest.raises(MedgroundError, match=r"out.jsonl.partial: begun with another min_score; delete it"):
        write(target, None, {"command": "test", "min_score": 0.6})
    assert write(target, None, {"command": "test", "min_score": 0.5}) == 5


def test_a_run_without_resume_leaves_no_note_of_another_partial_file(target):
    with pytest.raises(Killed):
        write(target, 15)
    with pytest.raises(Killed), output_files.create(str(target)) as stream:
        stream.write(b"something else\n")
        raise Killed
    assert write(target) == len(UNITS)
    assert target.read_bytes() == WHOLE


def test_a_killed_move_is_done_again(target):
    with pytest.raises(Killed):
        write(target, 15)
    write(target)
    mark = target.with_name(".out.jsonl.done")
    mark.rename(target.with_name("out.jsonl.partial.done"))  # moved, but its notes still there
    assert write(target) == 0
    assert target.read_bytes() == WHOLE and mark.exists()


def lines(records):
    return "".join(json.dumps(each) + "\n" for each in records)


STUDIES = [f"s{n // 3}" if n % 3 == 0 else f"t{n}" for n in range(60)]  # one after the other, two lines each
REPORTS = [REPORT | {"study_id": f"{each}-{n}"} for each in STUDIES for n in range(9)]
CALLS = {
    "parse-reports": (["parse-reports", "in.jsonl"], REPORTS),
    "parse-reports by 2 workers": (["parse-reports", "in.jsonl", "--workers", "2"], REPORTS),
    "parse-reports --output-format": (["parse-reports", "in.jsonl", "--output-format", "chexpert"], REPORTS),
    "align": (
        ["align", "in.jsonl", "--anatomy", "boxes.jsonl"],
        [SENTENCE | {"study_id": each, "sentence_id": f"{each}|{n}"} for each in STUDIES for n in (0, 1)],
    ),
}


@pytest.fixture(params=CALLS)
def run(request, tmp_path, monkeypatch):
    """Run a filter in a folder with its input."""
    monkeypatch.chdir(tmp_path)
    call, records = CALLS[request.param]
    (tmp_path / "in.jsonl").write_text(lines(records))
    (tmp_path / "boxes.jsonl").write_text(
        lines(IMAGE | {"study_id": s, "image_id": f"i{s}"} for s in STUDIES)
    )
    return lambda *args, **more: CliRunner().invoke(cli, [*call, *args], **more)


def killed_after(monkeypatch, count):
    """Make the journal die before it takes its next unit."""
    add = resuming.Journal.add

    def dying(self, content, units=1, every=0.0):
        if self.done >= count:
            raise Killed
        add(self, content, units, every=0)

    monkeypatch.setattr(resuming.Journal, "add", dying)


@pytest.mark.slow
def test_a_filter_goes_on_where_it_was_killed(run, monkeypatch, tmp_path):
    whole = run().stdout_bytes
    with monkeypatch.context() as patch:
        killed_after(patch, 25)
        assert isinstance(run("--resume", "-o", "out.jsonl").exception, Killed)
    assert not (tmp_path / "out.jsonl").exists()
    partial = (tmp_path / "out.jsonl.partial").read_bytes()
    assert 0 < len(partial) < len(whole) and whole.startswith(partial)
    result = run("--resume", "-o", "out.jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.slow
def test_rejected_lines_are_there_once_after_a_resume(run, monkeypatch, tmp_path):
    (tmp_path / "in.jsonl").write_text("{bad\n" + (tmp_path / "in.jsonl").read_text() + "{worse\n")
    with monkeypatch.context() as patch:
        killed_after(patch, 25)
        run("--resume", "-o", "out.jsonl", "--rejects", "bad.txt")
    result = run("--resume", "-o", "out.jsonl", "--rejects", "bad.txt")
    assert result.exit_code == 0
    assert (tmp_path / "bad.txt").read_text() == "{bad\n{worse\n"


def test_a_finished_file_is_kept_if_its_options_are_known(run, tmp_path):
    (tmp_path / "out.jsonl").write_text("from an earlier run\n")
    result = run("--resume", "-o", "out.jsonl")
    assert (result.exit_code, "out.jsonl: nothing states with which options" in result.stderr) == (1, True)
    assert (tmp_path / "out.jsonl").read_text() == "from an earlier run\n"
    run("-o", "out.jsonl")
    whole = (tmp_path / "out.jsonl").read_bytes()
    result = run("--resume", "-o", "out.jsonl")
    assert (result.exit_code, "out.jsonl: finished by an earlier run" in result.stderr) == (0, True)
    assert (tmp_path / "out.jsonl").read_bytes() == whole


@pytest.mark.slow
def test_other_input_is_not_gone_on_with(run, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        killed_after(patch, 25)
        run("--resume", "-o", "out.jsonl")
    text = (tmp_path / "in.jsonl").read_text()
    (tmp_path / "in.jsonl").write_text(text.replace('"text": "', '"text": "No. ', 1))
    result = run("--resume", "-o", "out.jsonl")
    assert result.exit_code == 1
    assert re.fullmatch(
        r"Error: out.jsonl.partial: the input differs from .*; delete the file .*\n", result.stderr
    )


def test_resume_needs_a_file(run):
    result = run("--resume")
    assert (result.exit_code, "--resume requires -o FILE" in result.stderr) == (2, True)
    result = run("--resume", "-o", "/dev/null")
    assert (result.exit_code, "/dev/null: --resume needs a file" in result.stderr) == (1, True)
