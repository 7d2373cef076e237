"""Output options: their types, and the check that none names an input or another output.

Each option that writes has one of the types here, and so belongs to the outputs of its command. All other
files and folders of the command are inputs. Two names are the same if they lead to one file, also through
links. Devices and pipes are allowed everywhere.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click

CONFIG = "medground.config"  # the key of the --config file in Context.meta
RUN_FILES = {"config.toml", "metrics.jsonl", "resume.safetensors", "losses.png", "validation.png"}
MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "engine.json"}
MODEL_FILES |= {"calibration.json", "orientation.safetensors", "heads.safetensors", "image.xml", "image.bin"}
KEPT = RUN_FILES | MODEL_FILES | {"phrases.xml", "phrases.bin", "cache.json", "phantom.json"}
PICTURES = {".png", ".jpg", ".jpeg", ".dcm", ".dicom"}
RECORDS = {"", ".jsonl", ".html", ".partial"}


class OutputFile(click.Path):
    """A file that the command writes."""

    def __init__(self, **more: Any):
        super().__init__(allow_dash=True, **more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fail if it is empty."""
        if not str(value):
            self.fail("expected the name of a file", param, ctx)
        return super().convert(value, param, ctx)


@dataclass(frozen=True)
class InputFolder:
    """A folder in the place of an input file."""

    name: str


class FileOrFolder(click.File):
    """An input file, or a folder of files."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the open file, or an InputFolder."""
        if isinstance(value, str | os.PathLike) and os.path.isdir(value):
            return InputFolder(os.fspath(value))
        return super().convert(value, param, ctx)


class OutputFolder(click.Path):
    """A folder that the command writes into.

    It is locked while the command runs, unless several runs may fill it (`locked`). It may be the folder of
    the parameters in `may_be`.
    """

    def __init__(self, locked: bool = True, may_be: tuple[str, ...] = ()):
        super().__init__(file_okay=False, path_type=Path)
        self.locked, self.may_be = locked, may_be


class Rejects:
    """The file of invalid lines: opened and locked with its first line.

    When the command ends without one, an earlier file of this name is emptied.
    """

    def __init__(self, name: str):
        self.name = name
        self._stack = ExitStack()
        self._stream: BinaryIO | None = None

    def write(self, line: bytes) -> int:
        """Write a line."""
        return self._opened().write(line)

    def flush(self) -> None:
        """Hand the lines to the system."""
        self._opened().flush()

    def _opened(self) -> BinaryIO:
        from medground import output_files

        if self._stream is None:
            self._stream = self._stack.enter_context(output_files.direct(self.name))
        return self._stream

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None and self._stream is None and os.path.isfile(self.name):
            self._opened()
        self._stack.close()


class RejectsFile(OutputFile):
    """The type of --rejects: becomes `Rejects`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the file, which is not open yet."""
        return value if isinstance(value, Rejects) else Rejects(str(super().convert(value, param, ctx)))


@dataclass(frozen=True)
class Named:
    """One file or folder of a command, with the parameter that names it."""

    param: click.Parameter
    path: str
    default: bool

    @property
    def flag(self) -> str:
        """The option as one types it, or the name of the argument."""
        if isinstance(self.param, click.Option):
            return max(self.param.opts, key=len)
        return self.param.make_metavar(click.get_current_context()).strip("[].")

    @property
    def is_folder(self) -> bool:
        """True for a folder that exists, and for an output folder."""
        return isinstance(self.param.type, OutputFolder) or os.path.isdir(self.path)

    def identities(self) -> set[Any]:
        """Return what the same file has under any of its names; nothing for "-", a device or a pipe."""
        if self.path == "-" or not (own := _identities(self.path)):
            return set()
        if isinstance(self.param.type, OutputFile) and not self.is_folder:
            folder, name = os.path.split(self.path)
            beside = [name + end for end in (".partial", ".partial.done", ".partial.lock")]
            for each in (*beside, f".{name}.done"):
                own |= _identities(os.path.join(folder, each))
        return own


def _identities(path: str) -> set[Any]:
    try:
        found = os.stat(path)
    except OSError:
        return {os.path.realpath(path)}
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return set()
    return {os.path.realpath(path), (found.st_dev, found.st_ino)}


@contextmanager
def guarded(ctx: click.Context) -> Iterator[None]:
    """Refuse outputs that are inputs or other outputs; hold the output folders and finish --rejects."""
    with ExitStack() as stack:
        refuse_collisions(ctx)
        if int(os.environ.get("RANK", "0")) == 0:  # the first of several processes writes
            _lock_folders(ctx, stack)
        for value in ctx.params.values():
            if isinstance(value, Rejects):
                stack.enter_context(value)
        yield


def _lock_folders(ctx: click.Context, stack: ExitStack) -> None:
    """Hold the locks of the output folders while the stack is open."""
    from medground import output_files

    for each in _outputs(ctx):
        if getattr(each.param.type, "locked", False):
            stack.enter_context(output_files.locked_folder(each.path))


def refuse_collisions(ctx: click.Context) -> None:
    """Raise UsageError if an output names an input or another output of the command."""
    outputs, inputs = [*_outputs(ctx)], [*_inputs(ctx)]
    for number, output in enumerate(outputs):
        own = output.identities()
        for other in inputs:
            if own & other.identities() and not _may_be(output, other):
                _refuse(output, f"is also the input {other.flag}")
            if _lies_in(output, other):
                _refuse(output, f"is a file in {other.flag}")
        for other in outputs[:number]:
            if own & other.identities():
                _refuse(output, f"is also the output {other.flag}")
        for other in outputs:
            if other.is_folder and _keeps(other, output):
                _refuse(output, f"is a file in {other.flag}")
    _refuse_mixed_stdout(ctx, outputs, inputs)


def _refuse(output: Named, problem: str) -> NoReturn:
    raise click.UsageError(f"{output.flag} {output.path}: {problem}; name another one")


def _may_be(output: Named, other: Named) -> bool:
    """Return whether the output may be this input: by its type, or a folder that nobody named."""
    return other.param.name in getattr(output.param.type, "may_be", ()) or (other.default and other.is_folder)


def _lies_in(output: Named, folder: Named) -> bool:
    """Return whether the output would replace a file that the command may read in an input folder."""
    if output.is_folder or not folder.is_folder or not os.path.isfile(output.path):
        return folder.is_folder and _keeps(folder, output)
    path = Path(os.path.realpath(output.path))
    if not path.is_relative_to(os.path.realpath(folder.path)):
        return False
    if folder.param.name == "images":
        return path.suffix.lower() in PICTURES
    return path.name in KEPT or path.suffix.lower() not in RECORDS


def _keeps(folder: Named, output: Named) -> bool:
    """Return whether a file output has the place of a file that runs and models have in this folder."""
    if output.is_folder or folder.param.name == "images":
        return False
    path = Path(os.path.realpath(output.path))
    return path.name in KEPT and path.parent == Path(os.path.realpath(folder.path))


def _refuse_mixed_stdout(ctx: click.Context, outputs: list[Named], inputs: list[Named]) -> None:
    """Raise UsageError for invalid lines among the records, and for a stdout that extends an input."""
    own = [each for each in outputs if each.path == "-"]
    if {"output", "rejects"} <= {each.param.name for each in own}:
        raise click.UsageError("--rejects -: stdout has the records; give a file, or -o FILE")
    target = _of_stream(sys.stdout) if own else set()
    for other in inputs if target else ():
        if target & other.identities():
            raise click.UsageError(f"stdout: is also the input {other.flag}; give -o FILE")


def _of_stream(stream: Any) -> set[Any]:
    """Return the identity of the ordinary file behind a standard stream."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or not a stream of the system
        return set()
    return {(found.st_dev, found.st_ino)} if stat.S_ISREG(found.st_mode) else set()


class _Stdin(Named):
    """The input that comes from stdin."""

    def identities(self) -> set[Any]:
        """Return the identity of a file that the shell opened as stdin."""
        return _of_stream(sys.stdin)


def _outputs(ctx: click.Context) -> Iterator[Named]:
    for param in ctx.command.params:
        if isinstance(param.type, OutputFile | OutputFolder):
            yield from _named(ctx, param)


def _inputs(ctx: click.Context) -> Iterator[Named]:
    for param in ctx.command.params:
        if param.name == "config" and (path := ctx.meta.get(CONFIG)):
            yield Named(param, str(path), default=False)
        elif not isinstance(param.type, OutputFile | OutputFolder) and _names_files(param):
            yield from _named(ctx, param)


def _names_files(param: click.Parameter) -> bool:
    return isinstance(param.type, click.Path | click.File) or hasattr(param.type, "file_okay")


def _named(ctx: click.Context, param: click.Parameter) -> Iterator[Named]:
    """Yield the files and folders of one parameter."""
    default = ctx.get_parameter_source(str(param.name)) is click.core.ParameterSource.DEFAULT
    for value in _flat(ctx.params.get(str(param.name))):
        path = value if isinstance(value, str | Path) else getattr(value, "name", None)
        if path in ("-", "<stdin>") and not isinstance(param.type, OutputFile):
            yield _Stdin(param, "-", default)
        elif isinstance(path, str | Path):
            yield Named(param, str(path), default)


def _flat(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple | list) else () if value is None else (value,)
