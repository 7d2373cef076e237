"""Options that several commands share: a flag means the same thing in all because it is the same object."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground import shipped

if TYPE_CHECKING:
    from medground.jsonl import Journal
    from medground.shards import Shard

log = logging.getLogger(__name__)
STOPPED = 75  # asked to stop after saving: sysexits' EX_TEMPFAIL, on which batch scripts requeue
COUNT = click.IntRange(min=1)
records = click.argument("records", metavar="[FILE]", type=click.File("rb"), default="-")
output = click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="-",
    show_default="stdout",
    help="Where to write; FILE appears only when all is written.",
)


def folder(help: str) -> Any:
    """-o for a command that writes a folder; `help` says what it is then."""
    return click.option(
        "-o",
        "--output",
        "folder",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        help=help,
    )


run_folder = folder("Run folder; an interrupted run in it goes on.")
rejects = click.option(
    "--rejects",
    type=click.File("wb"),
    help="Write lines that are no valid record here and go on; without it the first one ends the run.",
)
images = click.option(
    "--images",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=".",
    show_default=True,
    help="Folder that the records' paths start from.",
)
device = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.",
)
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")
anew = click.option(
    "--anew", is_flag=True, help="Begin anew where the folder holds a run with other settings or data."
)


class ShardType(click.ParamType):
    """I/N, or slurm: becomes a `shards.Shard`."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Shard":
        from medground import shards

        if isinstance(value, shards.Shard):
            return value
        try:
            return shards.parse(str(value), os.environ)
        except ValueError as error:
            self.fail(f"{value}: {error}", param, ctx)


shard = click.option(
    "--shard",
    metavar="I/N",
    type=ShardType(),
    is_eager=True,  # refused before any file is open
    default="1/1",
    show_default=True,
    help="Only the Ith of N shares of the patients; slurm takes I and N from the job array.",
)
resume = click.option(
    "--resume", is_flag=True, help="Keep what -o FILE holds, or what a killed run left of it, and go on."
)
workers = click.option(
    "--workers",
    type=COUNT,
    default=1,
    show_default=True,
    help="Processes to use; the output is the same for any number.",
)


def _take_defaults(ctx: click.Context, option: click.Parameter, path: str | None) -> None:
    """Fill this command's defaults from a TOML file; a flag given by hand still wins."""
    if path is None:
        return
    import tomllib

    with open(path, "rb") as stream:
        try:
            values = tomllib.load(stream)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{path}: {error}") from None
    known = {str(each.name) for each in ctx.command.params if each.name != "config"}
    if unknown := sorted(values.keys() - known):
        raise click.BadParameter(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    ctx.default_map = values


config = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_take_defaults,
    help="TOML file with values for these options, named as the long flags with _ for -.",
)


def refuse_nowhere(*files: "str | Path | None") -> None:
    """Raise where the folder of a file to write does not exist: better now than when all is done."""
    from medground.errors import MedgroundError

    for path in files:
        if path is not None and str(path) != "-" and not Path(path).parent.is_dir():
            raise MedgroundError(f"{path}: cannot be written, its folder does not exist; make it first")


def refuse_two_stdins(*streams: BinaryIO) -> None:
    """End with a usage error where two inputs are stdin: the first would leave nothing to the second."""
    if sum(getattr(each, "name", None) in (None, "-", "<stdin>") for each in streams) > 1:
        raise click.UsageError("only one input can be stdin; give a file for the other")


def named_or_example(model: Path | None, example: Path) -> Path:
    """The model that was named; without one the example of medground, and a warning that says what it is."""
    if model is None:
        log.warning(shipped.NOTICE)
    return model or example


def device_of(name: str) -> str:
    """The torch device that `--device` means; auto takes a GPU if there is one."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        raise click.BadParameter(
            f"{name}: torch cannot use this device here", param_hint="--device"
        ) from None
    return name


NOT_THE_TASK = {"output", "rejects", "resume", "workers", "device"}  # these do not change what is written


def task() -> dict[str, Any]:
    """The settings of this command that decide what it writes; of a file that it reads, its size."""
    context = click.get_current_context()
    chosen = {name: value for name, value in context.params.items() if name not in NOT_THE_TASK}
    return {"command": context.command.name} | {name: _as_json(each) for name, each in sorted(chosen.items())}


def _as_json(value: Any) -> Any:
    if hasattr(value, "fileno"):
        return _size(value.name)
    if isinstance(value, str | Path):
        return _size(value) or str(value)
    return value if value is None or isinstance(value, int | float | tuple) else str(value)


def _size(name: Any) -> str | None:
    """The size of a file, in words; None for a folder, a pipe and what is no file's name."""
    return f"{os.path.getsize(name)} bytes" if isinstance(name, str | Path) and os.path.isfile(name) else None


@contextmanager
def journal(output: str, resume: bool) -> "Iterator[Journal]":
    """What to write to: `-o`, gone on with where `--resume` says so; ends the command where all is done."""
    from medground import jsonl

    if resume and output == "-":
        raise click.UsageError("--resume needs -o FILE")
    if resume and jsonl.is_finished(output):
        log.warning("%s: finished by an earlier run and kept; delete it to begin anew", output)
        raise click.exceptions.Exit(0)
    with jsonl.journal(output, task() if resume else None) as kept:
        yield kept
