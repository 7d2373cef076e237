"""What every command promises, one parametrised test for each promise."""

import json
import re
import shlex

import click
import pytest
from click.testing import CliRunner
from commands import COMMANDS, IDS, command_of
from samples import IMAGE, REPORT, SENTENCE

from medground.cli.main import cli

FILTERS = {  # commands that need nothing but lines: the flags without which they do not start
    "parse-reports": [],
    "align": ["--anatomy", "boxes.jsonl"],
}
GOOD = {"parse-reports": json.dumps(REPORT) + "\n", "align": json.dumps(SENTENCE) + "\n"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder where `boxes.jsonl` holds one image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes.jsonl").write_text(json.dumps(IMAGE) + "\n")
    return lambda *args, **more: CliRunner().invoke(cli, list(args), **more)


def examples(path):
    """The words of each `$ medground ...` line of a command's help that calls this command."""
    text = CliRunner().invoke(cli, [*path, "--help"]).stdout.replace("\\\n", " ")
    for line in re.findall(r"^ *\$ (.*)$", text, re.MULTILINE):
        for part in re.split(r"\s[|;]\s|&&", line):
            words = shlex.split(part.split(" > ")[0].split(" < ")[0], comments=True)
            if words[:1] == ["medground"]:
                words = [word for word in words[1:] if word not in ("-v", "-vv")]
                if tuple(words[: len(path)]) == path:
                    yield words[len(path) :]


@pytest.mark.parametrize("path", COMMANDS, ids=IDS)
def test_help_shows_an_example(path, run):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert re.search(r"^ +\$ medground ", result.stdout, re.MULTILINE)
    assert list(examples(path)), "an example calls the command itself"


@pytest.mark.parametrize("path", COMMANDS, ids=IDS)
def test_the_examples_are_lines_that_the_command_takes(path, run, tmp_path):
    """Each example is parsed by the command itself, with every file and folder that it names in place."""
    for words in examples(path):
        command = command_of(path)
        if hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]
        _make_what_is_named(command, words, tmp_path)
        command.make_context(" ".join(path), list(words)).close()


def _make_what_is_named(command, words, folder):
    """Make an empty file, or a folder where the command wants one, for each word that could be a path."""
    options = [each for each in command.params if isinstance(each, click.Option)]
    flags = {flag: each for each in options for flag in (*each.opts, *each.secondary_opts)}
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    wanted = None
    for word in words:
        kind = wanted or (arguments[0] if arguments else None)
        wanted = None
        if word in flags:
            wanted = None if flags[word].is_flag else flags[word]
        elif kind is not None and word != "-" and re.match(r"[\w./-]+$", word):
            no_file = getattr(kind.type, "file_okay", True) is False
            _make(folder / word, is_folder=no_file or word.endswith("/"))


def _make(path, is_folder):
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        path.mkdir(exist_ok=True)
    elif not path.exists():
        path.touch()


@pytest.mark.parametrize("path", COMMANDS, ids=IDS)
def test_a_flag_that_it_does_not_know_is_a_usage_error(path, run):
    result = run(*path, "--no-such-flag")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        "No such option '--no-such-flag'" in result.stderr.replace('"', "'")
        or "No such option: --no-such-flag" in result.stderr
    )
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("path", COMMANDS, ids=IDS)
def test_every_option_has_its_help(path):
    own = [each for each in command_of(path).params if isinstance(each, click.Option)]
    assert [each.name for each in own if not each.help] == []


@pytest.mark.parametrize("name, flags", FILTERS.items())
def test_empty_input_gives_empty_output(name, flags, run):
    result = run(name, *flags, input="")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name, flags", FILTERS.items())
def test_a_bad_line_ends_the_run_and_names_its_place(name, flags, run):
    result = run(name, *flags, input=GOOD[name] + "{oops\n")
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: <stdin>:2: .+\n", result.stderr)
    assert "oops" not in result.stderr


@pytest.mark.parametrize("name, flags", FILTERS.items())
def test_with_rejects_a_bad_line_is_kept_and_the_run_goes_on(name, flags, run, tmp_path):
    result = run(name, *flags, "--rejects", "bad.jsonl", input=GOOD[name] + "{oops\n" + GOOD[name])
    assert result.exit_code == 0
    assert "<stdin>:2: " in result.stderr
    assert len(result.stdout.splitlines()) >= 1
    assert (tmp_path / "bad.jsonl").read_text() == "{oops\n"


@pytest.mark.parametrize("name, flags", FILTERS.items())
def test_a_run_that_fails_gives_no_file_its_name(name, flags, run, tmp_path):
    assert run(name, *flags, "-o", "out.jsonl", input=GOOD[name] + "{oops\n").exit_code == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_unknown_keys_survive_the_whole_way(run):
    sentences = run("parse-reports", input=GOOD["parse-reports"])
    assert sentences.exit_code == 0
    assert all(json.loads(line)["site"] == "A" for line in sentences.stdout.splitlines())
    pairs = run("align", "--anatomy", "boxes.jsonl", input=sentences.stdout)
    assert pairs.exit_code == 0
    [pair] = map(json.loads, pairs.stdout.splitlines())
    assert (pair["site"], pair["scanner"]) == ("A", "B")


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(run):
    first, second = (run("parse-reports", input=GOOD["parse-reports"]).stdout for _ in range(2))
    assert first == second
