"""No output is lost or mixed: locks, outputs that name inputs, and `--resume` with other input or options."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from samples import IMAGE, REPORT, SENTENCE

from medground import locks, output_files
from medground.cli.main import cli
from medground.cli.paths import OutputFile, OutputFolder
from medground.errors import MedgroundError


def lines(*records):
    return "".join(json.dumps(each) + "\n" for each in records)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with an input of each kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports.jsonl").write_text(lines(*(REPORT | {"study_id": f"s{n}"} for n in range(20))))
    (tmp_path / "sentences.jsonl").write_text(lines(SENTENCE))
    (tmp_path / "boxes.jsonl").write_text(lines(IMAGE | {"study_id": "s1", "regions": []}))
    (tmp_path / "words.toml").write_text("")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/image.png").write_bytes(b"a picture")
    return tmp_path


def run(*words, **more):
    return CliRunner().invoke(cli, [str(word) for word in words], **more)


# Locks


@pytest.mark.slow
def test_the_second_run_names_the_holder_and_changes_nothing(here):
    with locks.hold("out.jsonl"):
        result = run("parse-reports", "reports.jsonl", "-o", "out.jsonl")
    assert result.exit_code == 1 and not (here / "out.jsonl").exists()
    assert f"out.jsonl: in use by process {os.getpid()} on " in result.stderr and " since 2" in result.stderr
    assert run("parse-reports", "reports.jsonl", "-o", "out.jsonl").exit_code == 0
    assert not [*here.glob("*.lock")]


def test_a_link_has_the_lock_of_its_target(here):
    (here / "link.jsonl").symlink_to("out.jsonl")
    with locks.hold("out.jsonl"):
        assert run("parse-reports", "reports.jsonl", "-o", "link.jsonl").exit_code == 1
    assert run("parse-reports", "reports.jsonl", "-o", "link.jsonl").exit_code == 0
    assert (here / "link.jsonl").is_symlink() and (here / "out.jsonl").stat().st_size


@pytest.mark.parametrize(
    "command", ["phantom {}", "export --model example -o {}", "pretrain pairs.jsonl -o {}"]
)
def test_an_output_folder_is_locked(command, here):
    (here / "pairs.jsonl").write_text("")
    (here / "run").mkdir()
    with locks.hold("run"):
        result = run(*command.format("run").split())
    assert result.exit_code == 1 and "run: in use by process" in result.stderr


@pytest.mark.parametrize("name", ["out.partial.lock", "out.partial", "out.partial.done", ".out.done"])
def test_a_link_in_the_place_of_our_own_file_is_not_written_through(name, here):
    (here / "kept.txt").write_text("kept\n")
    (here / name).symlink_to("kept.txt")
    result = run("parse-reports", "reports.jsonl", "-o", "out")
    assert (result.exit_code, f"{name}: a symbolic link in the place" in result.stderr) == (1, True)
    assert (here / "kept.txt").read_text() == "kept\n" and not (here / "out").exists()


def test_a_link_in_the_place_of_a_replacement_is_removed(here):
    (here / "kept.txt").write_text("kept\n")
    (here / "words.toml.partial").symlink_to("kept.txt")
    with output_files.replacing("words.toml") as stream:
        stream.write(b"new")
    assert ((here / "kept.txt").read_text(), (here / "words.toml").read_text()) == ("kept\n", "new")


def test_a_refused_run_leaves_no_new_folder(here):
    (here / "pairs.jsonl").write_text("")
    assert run("pretrain", "pairs.jsonl", "-o", "run").exit_code
    assert not (here / "run").exists()


@pytest.mark.slow
def test_a_killed_run_leaves_no_lock(here):
    code = "from medground import locks; h = locks.hold('out'); h.__enter__(); print(1, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    with pytest.raises(MedgroundError, match=f"out: in use by process {process.pid} on "), locks.hold("out"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (here / "out.partial.lock").exists()
    with locks.hold("out"):
        pass
    assert not (here / "out.partial.lock").exists()


def test_a_lock_whose_file_was_removed_is_taken_again(here, monkeypatch):
    real, met = fcntl.flock, []

    def removed_meanwhile(descriptor, how):
        real(descriptor, how)
        if not met:
            met.append(os.unlink("out.partial.lock"))

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with locks.hold("out"):
        assert (here / "out.partial.lock").exists()


@pytest.mark.parametrize(("host", "warned"), [("other", True), (socket.gethostname(), False), (None, False)])
def test_a_lock_that_another_machine_has_left_gives_a_warning(host, warned, here, caplog):
    left = "[" * 5000 if host is None else json.dumps({"host": host, "pid": 1, "since": "today"})
    (here / "out.jsonl.partial.lock").write_text(left)
    with locks.hold("out.jsonl"):
        pass
    assert ("check that process 1 on other since today has ended" in caplog.text) == warned


def test_a_file_system_without_locks_gives_a_warning(here, monkeypatch, caplog):
    def without(descriptor, how):
        raise OSError(locks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with locks.hold("out"):
        assert "out: this file system has no locks" in caplog.text


# Outputs that name inputs, or other outputs

PARSE = "parse-reports reports.jsonl "
CLASHES = [
    PARSE + "-o reports.jsonl",
    PARSE + "--rejects reports.jsonl",
    PARSE + "--rejects ./images/../reports.jsonl",
    PARSE + "--rejects soft.jsonl",
    PARSE + "--rejects hard.jsonl",
    PARSE + "--html reports.jsonl",
    PARSE + "--lexicon words.toml -o words.toml",
    PARSE + "--config words.toml --rejects words.toml",
    PARSE + "-o out.jsonl --rejects out.jsonl",
    PARSE + "-o out.jsonl --rejects out.jsonl.partial",
    PARSE + "-o out.jsonl --rejects out.jsonl.partial.lock",
    PARSE + "-o out.jsonl --rejects .out.jsonl.done",
    PARSE + "-o new/../out.jsonl --rejects out.jsonl",
    PARSE + "--rejects -",
    "parse-reports reports.jsonl.partial -o reports.jsonl",
    "align sentences.jsonl --anatomy boxes.jsonl -o boxes.jsonl",
    "align sentences.jsonl --anatomy boxes.jsonl -o sentences.jsonl",
    "convert mimic-jpg reports.jsonl -o reports.jsonl",
    "detect-anatomy reports.jsonl --rejects reports.jsonl",
    "detect-anatomy images/image.png -o images/image.png",
    "detect-anatomy images -o images/image.png",
    "detect-anatomy reports.jsonl --images images -o images/image.png",
    "evaluate reports.jsonl --truth sentences.jsonl --html sentences.jsonl",
    "evaluate reports.jsonl --truth sentences.jsonl -o page --html page",
    "join-shards reports.jsonl sentences.jsonl -o sentences.jsonl",
    "ground --phrases reports.jsonl --heatmap maps.safetensors --html maps.safetensors",
    "ground --phrases reports.jsonl --images images --overlay images",
    "ground --phrases reports.jsonl --images images --png images",
    "render reports.jsonl --output-format csv -o reports.jsonl",
    "render reports.jsonl --images images --png images",
    "render reports.jsonl --phrases sentences.jsonl --html sentences.jsonl",
    "finetune reports.jsonl --save-held-out reports.jsonl -o run",
    "finetune reports.jsonl --rejects run/model.safetensors -o run",
    "finetune reports.jsonl --init-from model -o model",
    "calibrate reports.jsonl --model model -o model/config.json",
    "cache reports.jsonl --images images -o images",
]


@pytest.mark.parametrize("words", CLASHES)
def test_an_output_that_is_an_input_or_another_output_is_refused(words, here):
    (here / "soft.jsonl").symlink_to("reports.jsonl")
    os.link("reports.jsonl", "hard.jsonl")
    (here / "reports.jsonl.partial").write_text("x")
    (here / "new").mkdir()
    (here / "model").mkdir()
    (here / "model/config.json").write_text("{}")
    (here / "model/model.safetensors").write_text("{}")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    result = run(*words.split())
    assert result.exit_code == 2, result.output
    assert "name another one" in result.stderr or "stdout has the records" in result.stderr
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "-o /dev/null --rejects /dev/null",
        "-o /dev/stdout",
        "-o out.jsonl --rejects /dev/stdout",
        "--rejects /dev/stderr",
        "-o images/out.jsonl",
    ],
)
def test_devices_and_new_names_are_allowed(words, here):
    for _ in range(2):
        result = run("parse-reports", "reports.jsonl", *words.split())
        assert result.exit_code == 0, result.stderr


def test_every_option_that_writes_has_an_output_type():
    """A click.Path that need not exist is an output, and no option opens a file to write."""
    for command in _commands(cli):
        for param in command.params:
            if isinstance(param.type, click.Path) and not param.type.exists and param.name != "shards":
                assert isinstance(param.type, OutputFile | OutputFolder), (command.name, param.name)
            assert "w" not in getattr(param.type, "mode", "r"), (command.name, param.name)


def _commands(group):
    for name in group.list_commands(None):
        each = group.get_command(None, name)
        yield from _commands(each) if isinstance(each, click.Group) else [each]


def test_rejects_of_an_earlier_run_do_not_stay(here):
    (here / "bad.txt").write_text("old\n")
    assert run("parse-reports", "reports.jsonl", "--rejects", "bad.txt").exit_code == 0
    assert (here / "bad.txt").read_bytes() == b""


@pytest.mark.slow
@pytest.mark.parametrize("how", [">>", ">"])
def test_stdout_of_the_shell_is_not_emptied(how, here):
    (here / "kept.jsonl").write_text("before\n")
    call = f"{sys.executable} -m medground parse-reports reports.jsonl -o /dev/stdout {how} kept.jsonl"
    assert subprocess.run(call, shell=True).returncode == 0
    kept = (here / "kept.jsonl").read_text()
    assert kept.startswith("before\n") == (how == ">>") and kept.count("\n") >= 20
    assert not os.path.islink("kept.jsonl")


@pytest.mark.slow
def test_an_input_is_not_extended_by_its_own_output(here):
    call = f"{sys.executable} -m medground parse-reports reports.jsonl >> reports.jsonl"
    before = (here / "reports.jsonl").read_bytes()
    assert subprocess.run(call, shell=True, stderr=subprocess.DEVNULL).returncode == 2
    assert (here / "reports.jsonl").read_bytes() == before


# Files that replace others


def test_a_failed_replacement_leaves_the_file_and_nothing_else(here):
    with pytest.raises(ZeroDivisionError), output_files.replacing("words.toml") as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert (here / "words.toml").read_text() == "" and not [*here.glob("*.partial")]


# Going on


def test_a_finished_file_made_otherwise_is_refused(here):
    assert run("parse-reports", "reports.jsonl", "-o", "out.jsonl").exit_code == 0
    before = (here / "out.jsonl").read_bytes()
    again = ["parse-reports", "reports.jsonl", "--resume", "-o", "out.jsonl"]
    result = run(*again, "--all-sections")
    assert (result.exit_code, "out.jsonl: made with another all_sections" in result.stderr) == (1, True)
    result = run(*again)
    assert (result.exit_code, "finished by an earlier run and kept" in result.stderr) == (0, True)
    assert (here / "out.jsonl").read_bytes() == before and not [*here.glob("*.partial*")]


@pytest.mark.slow
def test_a_finished_file_of_other_input_is_refused_and_of_more_input_extended(here):
    assert run("parse-reports", "reports.jsonl", "-o", "out.jsonl").exit_code == 0
    before, text = (here / "out.jsonl").read_bytes(), (here / "reports.jsonl").read_text()
    again = ["parse-reports", "reports.jsonl", "--resume", "-o", "out.jsonl"]
    for other in (text.replace("effusion", "nodules.", 1), text[: len(text) // 2].rpartition("\n")[0] + "\n"):
        (here / "reports.jsonl").write_text(other)
        result = run(*again)
        assert (result.exit_code, "out.jsonl: the input differs" in result.stderr) == (1, True)
        assert (here / "out.jsonl").read_bytes() == before and not [*here.glob("*.partial*")]
    (here / "reports.jsonl").write_text(text + lines(REPORT | {"study_id": "new"}))
    assert run(*again).exit_code == 0
    assert (here / "out.jsonl").read_bytes().startswith(before)
    assert (here / "out.jsonl").read_bytes().count(b'"new"') == 1


def test_a_secondary_input_of_the_same_size_is_noticed(here):
    call = ["align", "sentences.jsonl", "--anatomy", "boxes.jsonl", "-o", "out.jsonl"]
    assert run(*call).exit_code == 0
    text = (here / "boxes.jsonl").read_text()
    (here / "boxes.jsonl").write_text(text.replace("s1", "s2"))
    result = run(*call, "--resume")
    assert (result.exit_code, "made with another anatomy" in result.stderr) == (1, True)


def test_a_plain_run_forgets_how_the_file_was_made_before(here):
    run("parse-reports", "reports.jsonl", "-o", "out.jsonl")
    assert (here / ".out.jsonl.done").exists()
    with output_files.create("out.jsonl") as stream:
        stream.write(b"{}\n")
    assert not (here / ".out.jsonl.done").exists()


def test_a_finished_file_that_nothing_describes_is_refused(here):
    (here / "out.jsonl").write_text("{}\n")
    for words in (
        ["parse-reports", "reports.jsonl"],
        ["align", "sentences.jsonl", "--anatomy", "boxes.jsonl"],
    ):
        result = run(*words, "--resume", "-o", "out.jsonl")
        assert (result.exit_code, "nothing states with which options it was made" in result.stderr) == (
            1,
            True,
        )
        assert (here / "out.jsonl").read_text() == "{}\n" and not [*here.glob("*.partial*")]


def test_an_output_without_a_name_is_refused(here):
    result = run("parse-reports", "reports.jsonl", "-o", "")
    assert (result.exit_code, "expected the name of a file" in result.stderr) == (2, True)
