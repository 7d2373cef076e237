"""Options and parameter types that several commands share: one object for each flag, so one meaning."""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

import medground
from medground import shipped
from medground.cli.command import (
    DATA,
    FILES,
    MODEL,
    TRAINING,
    Command,
    Group,
    Integer,
    Number,
    command,
    option,
)
from medground.cli.config import config
from medground.cli.paths import FileOrFolder, InputFolder, OutputFile, OutputFolder, RejectsFile

if TYPE_CHECKING:
    from medground.resuming import Journal
    from medground.shards import Shard

__all__ = [
    "Command",
    "Group",
    "Integer",
    "Number",
    "OutputFile",
    "OutputFolder",
    "command",
    "config",
    "option",
]
log = logging.getLogger(__name__)
Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)
STOPPED = 75  # stopped on request after saving: EX_TEMPFAIL of sysexits, on which batch scripts requeue
COUNT = Integer(min=1)
NONE_OR_MORE = Integer(min=0)
PROCESSES = Integer(min=1, largest=1024)
THREADS = Integer(min=0, largest=1024)
SEED = Integer(min=0, largest=(1 << 63) - 1)  # what JSON, numpy and torch hold
SIDE = Integer(min=1, largest=8192)  # of a square of pixels
SHARE = Number(0, 1)
POSITIVE = Number(min=0, min_open=True)
OPEN_SHARE = Number(0, 1, min_open=True, max_open=True)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
records = click.argument("records", metavar="[FILE]", type=click.File("rb"), default="-")
records_or_maps = click.argument("records", metavar="[FILE]", type=FileOrFolder("rb"), default="-")
output = option(
    "-o",
    "--output",
    metavar="FILE",
    type=OutputFile(),
    default="-",
    show_default="stdout",
    group=FILES,
    help="Output file; it appears when it is complete.",
)


def folder(help: str, **how: Any) -> Callable[[Decorated], Decorated]:
    """Return -o of a command that writes a folder; `help` describes it, `how` is for `OutputFolder`."""
    return option(
        "-o",
        "--output",
        "folder",
        required=True,
        type=OutputFolder(**how),
        group=FILES,
        old_keys=["folder"],
        help=help,
    )


run_folder = folder("Run folder; an interrupted run in it is continued.")
rejects = option(
    "--rejects",
    type=RejectsFile(),
    metavar="FILE",
    group=FILES,
    help="Write invalid lines to this file and continue (default: stop).",
)
images = option(
    "--images",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=".",
    show_default=True,
    group=FILES,
    help="Folder that image paths in the records start from.",
)
device = option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
seed = option("--seed", type=SEED, default=0, show_default=True, help="Random seed.")
overwrite = option(
    "--overwrite", is_flag=True, old=["--anew"], help="Overwrite a run with other settings or data."
)
batch_size = option(
    "--batch-size",
    type=COUNT,
    default=8,
    show_default=True,
    old=["--batch"],
    group=TRAINING,
    help="Images per step.",
)
split = option("--split", metavar="NAME", group=DATA, help="Use only records of this split.")
coordinates = functools.partial(
    option,
    "--coordinates",
    "frame",
    metavar="SYSTEM",
    show_default="that of the format",
    group=FILES,
    help="Boxes of FILE: original, normalised, crop, letterbox:N, padded:N, stretch:WxH or smart-resize.",
)
coco_images = option(
    "--coco-images",
    type=click.File("rb"),
    group=FILES,
    help="COCO file whose `images` name the numbers in a list of results.",
)
scored_split = option(
    "--split", metavar="NAME", group=DATA, help="Use only records of this split (of --train: train)."
)
scored_leakage = option(
    "--allow-leakage", is_flag=True, group=DATA, help="Score training subjects; marks each score."
)


class ShardType(click.ParamType["Shard"]):
    """I/N, or slurm: becomes a `shards.Shard`."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Shard":
        """Return the shard; fail if the text is not I/N."""
        from medground import shards

        if isinstance(value, shards.Shard):
            return value
        try:
            return shards.parse(str(value), os.environ)
        except ValueError as error:
            self.fail(f"{value}: {error}", param, ctx)


def refuse_folders(*streams: Any, unless: bool) -> None:
    """Raise BadParameter for a folder among the inputs of a command that reads files only."""
    for each in streams:
        if isinstance(each, InputFolder) and not unless:
            raise click.BadParameter(f"{each.name}: only heat maps may be a folder", param_hint="FILE")


def is_given(name: str) -> bool:
    """Return whether the option of this parameter is on the command line or in --config."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (click.core.ParameterSource.DEFAULT, None)


class Located(click.ParamType["Path | str"]):
    """A name that a function of `locations` resolves; its MedgroundError is a usage error here."""

    name = "name"

    def __init__(self, resolve: str, keep: bool = False, file_okay: bool = True):
        self.resolve, self.keep, self.file_okay = resolve, keep, file_okay

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the resolved path; with `keep`, only check it and return the name."""
        from medground import locations
        from medground.errors import MedgroundError

        try:
            found = getattr(locations, self.resolve)(value)
        except MedgroundError as error:
            self.fail(str(error), param, ctx)
        return value if self.keep else found


GROUNDER, DETECTOR, ENCODER = (
    Located("grounder", file_okay=False),
    Located("detector"),
    Located("encoder", keep=True, file_okay=False),
)
model = functools.partial(option, "--model", metavar="FOLDER", type=GROUNDER, group=MODEL)
shard = option(
    "--shard",
    metavar="I/N",
    type=ShardType(),
    is_eager=True,  # refused before any file is open
    default="1/1",
    show_default=True,
    help="Process only share I of N patients; slurm: the array task's.",
)


def any_view(help: str) -> Callable[[Decorated], Decorated]:
    """Return the option --any-view."""
    return option("--any-view", is_flag=True, group=DATA, help=help)


resume = option("--resume", is_flag=True, help="Continue an interrupted run that wrote to -o FILE.")
workers = option(
    "--workers",
    type=PROCESSES,
    default=1,
    show_default=True,
    help="Worker processes; the output does not depend on it.",
)


def with_all(options: list[Any]) -> Callable[[Any], Any]:
    """Return a decorator that adds these options to a command, in their order."""
    return lambda command: functools.reduce(lambda made, each: each(made), reversed(options), command)


def refuse_nowhere(*files: "str | Path | None") -> None:
    """Raise MedgroundError if the folder of an output file does not exist, before any work is done."""
    from medground.errors import MedgroundError

    for path in files:
        if path is not None and str(path) != "-" and not Path(path).parent.is_dir():
            raise MedgroundError(f"{path}: cannot be written, its folder does not exist; make it first")


def refuse_two_stdins(*streams: BinaryIO) -> None:
    """Raise UsageError if two inputs are stdin."""
    if sum(getattr(each, "name", None) in (None, "-", "<stdin>") for each in streams) > 1:
        raise click.UsageError("only one input can be stdin; give a file for the other")


def refuse_shipped(model: Path) -> None:
    """Raise UsageError if a model folder is part of the installed package: it is not written to."""
    if model.resolve().is_relative_to(shipped.FOLDER.resolve()):
        raise click.UsageError(
            f"--model: {model} belongs to the installed package and is not changed; "
            f"copy it first: cp -r {model} my-model"
        )


def named_or_example(model: Path | None, example: Path) -> Path:
    """Return the given model, or the example model; for the example, log a warning."""
    if model is None or model == example:
        log.warning(shipped.NOTICE)
    return model or example


def device_of(name: str) -> str:
    """Return the torch device that --device means; raise BadParameter if torch cannot use it."""
    from medground import devices
    from medground.errors import MedgroundError

    try:
        return devices.resolve(name)
    except MedgroundError as error:
        raise click.BadParameter(str(error), param_hint="--device") from None


NOT_THE_TASK = {"resume", "workers", "device", "batch_size"}  # these do not change what is written
STREAMED = {"records", "report"}  # options whose file is the main input, of which the records are compared
ABOUT_A_MODEL = ("*.json", "orientation.safetensors")  # the weights are compared by the model's name


def task() -> dict[str, Any]:
    """Return the settings of this command that decide its output: values, and digests of the files named.

    The main input is left out: a run compares its records while it reads them.
    """
    context = click.get_current_context()
    found = {"command": context.command.name, "version": medground.__version__}
    for param in sorted(context.command.params, key=lambda each: str(each.name)):
        name, value = str(param.name), context.params.get(str(param.name))
        writes = isinstance(param.type, OutputFile | OutputFolder)
        if isinstance(param, click.Option) and not writes and name not in NOT_THE_TASK | STREAMED:
            found[name] = _as_json(getattr(value, "name", value))
    return found


def _as_json(value: Any) -> Any:
    """Return a value as JSON: a digest for a file or a model folder, the full path for other folders."""
    if isinstance(value, str | Path) and os.path.isfile(value):
        return _digest([Path(value)])
    if isinstance(value, Path) and value.is_dir():
        about = [path for pattern in ABOUT_A_MODEL for path in sorted(value.glob(pattern))]
        return _digest(about) if about else str(value.resolve())
    return value if value is None or isinstance(value, int | float | tuple) else str(value)


def _digest(paths: Iterable[Path]) -> str:
    import hashlib

    whole = hashlib.blake2b(digest_size=8)
    for path in paths:
        with path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "blake2b").digest())
    return whole.hexdigest()


def size_of_image(folder: Path) -> Callable[[Any], bytes]:
    """Return a function of a record: the size of its image in the folder, which stands for the image."""

    def size(record: Any) -> bytes:
        path = folder / record.path
        return str(path.stat().st_size if path.is_file() else None).encode()

    return size


@contextmanager
def journal(output: str, resume: bool, **more: Any) -> "Iterator[Journal]":
    """Open the journal of -o, continued with --resume.

    more: what decides the output in addition to the options, such as the name of a model.
    """
    from medground import resuming

    if resume and output == "-":
        raise click.UsageError("--resume requires -o FILE")
    if resume:
        resuming.require_file(output)
    with resuming.journal(output, task() | more, resume) as kept:
        yield kept
