"""Options as their user meets them: old names, headings, -h, -q, numbers, names of models."""

import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commands import COMMANDS, IDS, command_of

from medground import locations, shipped
from medground.cli.command import HEADINGS, Command, Group, Number, Option, command, option, options_of
from medground.cli.main import cli
from medground.errors import MedgroundError

ALL = [(path, each) for path in COMMANDS for each in options_of([command_of(path)])]
OLD = [(path, each, flag) for path, each in ALL for flag in each.old]
GROUPS = [path for path in COMMANDS if isinstance(command_of(path), Group)]


def run(*words: object):
    return CliRunner().invoke(cli, [str(each) for each in words])


# Old names


@command()
@option("--lr", type=Number(min=0), default=1.0, old=["--rate"])
@option("--loss-weight", multiple=True, old=["--weight"])
@option("--overwrite", is_flag=True, old=["--anew"])
@option("--flip-correction/--no-flip-correction", default=True, old={"--as-hung": False})
@option(
    "--regions",
    type=click.Choice(["merge", "split"]),
    default="merge",
    old={"--merge": "merge", "--split": "split"},
)
def toy(**chosen):
    click.echo(chosen)


@pytest.mark.parametrize(
    ("words", "name", "value", "new"),
    [
        (["--rate", "2"], "lr", 2.0, "--lr"),
        (["--rate=2"], "lr", 2.0, "--lr"),
        (["--weight", "a=1", "--weight", "b=2"], "loss_weight", ("a=1", "b=2"), "--loss-weight"),
        (["--anew"], "overwrite", True, "--overwrite"),
        (["--as-hung"], "flip_correction", False, "--no-flip-correction"),
        (["--split"], "regions", "split", "--regions split"),
    ],
)
def test_an_old_flag_works_and_warns_once(words, name, value, new, caplog):
    ctx = toy.make_context("toy", [*words])
    assert ctx.params[name] == value
    assert ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    [warning] = caplog.messages
    old = words[0].partition("=")[0]
    assert warning == f"{old} is now {new}; the next release removes the old name"


@pytest.mark.parametrize(
    "words", [["--rate", "2", "--lr", "1"], ["--as-hung", "--flip-correction"], ["--split", "--merge"]]
)
def test_an_old_flag_together_with_the_new_one_is_a_usage_error(words):
    result = CliRunner().invoke(toy, words)
    assert result.exit_code == 2 and "old name of" in result.stderr


def test_a_new_flag_warns_of_nothing(caplog):
    toy.make_context("toy", ["--lr", "2", "--no-flip-correction"])
    assert caplog.messages == []


def sample(each: Option, folder: Path) -> list[str]:
    """A value that the option takes on the command line; [] for a flag."""
    if each.is_flag or isinstance(each.old, Mapping):
        return []
    if isinstance(each.type, click.Choice):
        return [each.type.choices[-1]]
    if isinstance(each.type, click.IntRange):
        return [str(int(each.type.min or 0) + 64)]
    if isinstance(each.type, click.FloatRange):
        return ["0.5"]
    if each.name == "loss_weight":
        return ["l1=2"]
    return [str(folder if getattr(each.type, "file_okay", True) is False else __file__)]


@pytest.mark.parametrize(("path", "each", "flag"), OLD, ids=lambda value: str(getattr(value, "name", value)))
def test_each_old_flag_means_what_the_new_one_means(path, each, flag, tmp_path, caplog):
    value = sample(each, tmp_path)
    constant = each.old[flag] if isinstance(each.old, Mapping) else None
    if each.name == "init_from":
        value = [str(shipped.GROUNDER if path == ("finetune",) else shipped.DETECTOR)]
    old = _parsed(path, [flag, *value], each)
    assert [message for message in caplog.messages if message.startswith(f"{flag} is now --")]
    caplog.clear()
    new = _parsed(path, [*each.flag_for(constant if constant is not None else True).split(), *value], each)
    assert str(getattr(old, "name", old)) == str(getattr(new, "name", new)) and caplog.messages == []


def _parsed(path, words, each):
    with command_of(path).make_context(" ".join(path), words, resilient_parsing=True) as ctx:
        assert ctx.get_parameter_source(each.name) is click.core.ParameterSource.COMMANDLINE
        return ctx.params[each.name]


@pytest.mark.parametrize("path", COMMANDS, ids=IDS)
def test_old_flags_are_not_in_the_help(path):
    shown = set(re.findall(r"(?<![\w-])--[\w-]+", run(*path, "--help").stdout))
    old = {flag for each in options_of([command_of(path)]) for flag in each.old}
    assert not shown & old


def test_an_old_flag_is_no_new_flag_of_the_same_command():
    for path in COMMANDS:
        own = list(options_of([command_of(path)]))
        new = {flag for each in own for flag in (*each.opts, *each.secondary_opts)}
        old = [flag for each in own for flag in each.old]
        assert len(old) == len({*old}) and not new & {*old}, path


# One word, one meaning


def test_a_flag_has_the_same_type_in_all_commands():
    kinds: dict[str, set[str]] = {}
    for _, each in ALL:
        kind = "flag" if each.is_flag else type(each.type).__name__
        kind = "Choice" if isinstance(each.type, click.Choice) else kind
        kinds.setdefault(each.opts[-1], set()).add(kind)
    several = {flag: kind for flag, kind in kinds.items() if len(kind) > 1}
    # -o is a file, or for some commands the folder of their files; a detector may be a file
    assert several.keys() <= {"--output"}


def test_each_option_has_a_heading_and_a_short_help():
    for path, each in ALL:
        assert each.group in HEADINGS, (path, each.name)
        words = re.sub(r"\s*(\[default:[^]]*\]|\(default:[^)]*\))$", "", each.help).split()
        assert len(words) <= 12 and (each.help[0].isupper() or each.help.split(":")[0].islower()), each.help


# Headings, -h, -v and -q


@pytest.mark.parametrize("path", [(), *COMMANDS], ids=["medground", *IDS])
def test_h_is_help_everywhere(path):
    short, long = run(*path, "-h"), run(*path, "--help")
    assert (short.exit_code, short.stderr, short.exception) == (0, "", None)
    assert short.stdout == long.stdout and "Usage: " in long.stdout


def test_options_stand_under_headings():
    text = run("pretrain", "-h").stdout
    places = [text.index(f"\n{name}:\n") for name in HEADINGS]
    assert places == sorted(places)
    assert text.index("\nTraining:\n") < text.index("  --lr NUMBER") < text.index("\nRun:\n")


def test_commands_stand_in_the_order_of_the_pipeline():
    text = run("-h").stdout
    places = [text.index(f"\n  {' '.join(path)} ") for path in COMMANDS if len(path) == 1]
    assert places == sorted(places) and "\nTraining:\n" in text


def test_every_command_is_of_the_class_that_groups_its_options():
    assert all(isinstance(command_of(path), Command | Group) for path in COMMANDS)


@pytest.mark.parametrize("words", [["-q", "ground"], ["ground", "-q"]])
def test_quiet_leaves_only_errors(words, tmp_path):
    image = Path(shipped.__file__).parent / "none.png"
    result = run(*words, image, "x")
    assert result.exit_code == 2 and result.stderr.count("\n") >= 1
    assert logging.getLogger().level == logging.ERROR


def test_v_after_the_command_is_v_before_it():
    for words in (["-v", "doctor", "--nonsense"], ["doctor", "-v", "--nonsense"]):
        run(*words)
    run("-vv", "align")
    assert logging.getLogger().level == logging.DEBUG


# Numbers


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN"])
def test_a_number_that_is_not_finite_is_refused(value):
    result = CliRunner().invoke(toy, ["--lr", value])
    assert result.exit_code == 2 and "is not a finite number" in result.stderr


def test_every_float_option_refuses_nan():
    floats = [each for _, each in ALL if isinstance(each.type, click.types.FloatParamType | click.FloatRange)]
    assert floats and all(isinstance(each.type, Number) for each in floats)


# Models


@pytest.mark.parametrize(
    "words",
    [
        ["ground", "--model", "runs/fnietuned"],
        ["finetune", "--init-from", "runs/fnietuned", "-o", "out"],
        ["pretrain", "--image-encoder", "runs/fnietuned", "-o", "out"],
        ["evaluate", "--model", "runs/fnietuned", "--truth", __file__],
        ["export", "--model", "runs/fnietuned", "-o", "out"],
        ["calibrate", "--model", "runs/fnietuned"],
    ],
)
def test_a_mistyped_folder_is_refused_at_once(words):
    began = time.monotonic()
    result = run(*words)
    assert result.exit_code == 2 and "no such folder: runs/fnietuned" in result.stderr
    assert time.monotonic() - began < 5


def test_a_bare_name_of_the_hub_is_refused_with_its_prefix():
    result = run("pretrain", "--text-encoder", "org/name", "-o", "out")
    assert result.exit_code == 2 and "write hub:org/name" in result.stderr
    assert locations.encoder("hub:org/name") == "org/name"


def test_a_model_is_a_folder_or_the_file_in_it(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.touch()
    assert locations.detector(tmp_path) == locations.detector(weights) == weights
    assert locations.grounder(tmp_path) == locations.grounder(weights) == tmp_path
    (tmp_path / "config.json").touch()  # what transformers saved
    assert locations.detector(tmp_path) == tmp_path
    assert locations.detector("example") == shipped.DETECTOR
    assert locations.grounder("example") == shipped.GROUNDER
    with pytest.raises(MedgroundError, match="no such file or folder"):
        locations.detector(tmp_path / "no")


def test_a_run_folder_of_a_transformers_detector_is_a_model(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    assert locations.detector(tmp_path) == tmp_path / "model"


def test_the_example_model_is_not_written_to():
    for words in (
        ["calibrate", "--model", "example"],
        ["export", "--model", "example", "-o", shipped.GROUNDER],
    ):
        result = run(*words)
        assert result.exit_code == 2 and "copy it first: cp -r" in result.stderr
