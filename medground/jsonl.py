"""JSON lines files: reading, writing, invalid lines, and continuing an interrupted run."""

import errno
import logging
import os
import re
import shutil
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import orjson

from medground import limits, strict_json
from medground.errors import BadRecord, MedgroundError, sift
from medground.published import explained
from medground.records import known_keys, to_json

log = logging.getLogger(__name__)
Record = TypeVar("Record")
Values = tuple[Any, ...]
DONE = ".done"  # PATH.partial.done records how much of PATH.partial is complete


@dataclass(frozen=True)
class BadLines:
    """The destination of invalid lines. Without `rejects`, the first one ends the run."""

    rejects: BinaryIO | None = None

    def take(self, line: bytes, bad: MedgroundError) -> None:
        """Write the line unchanged and warn with its place, or raise."""
        if self.rejects is None:
            raise bad
        self.rejects.write(line if line.endswith(b"\n") else line + b"\n")
        self.rejects.flush()
        log.warning("rejected %s", bad)

    def take_record(self, record: Any, bad: MedgroundError) -> None:
        """Treat a well-formed record that later proved unusable as an invalid line."""
        if self.rejects is None:
            raise bad
        self.rejects.write(dumps(record))
        self.rejects.flush()
        log.warning("rejected %s", bad)


def read(
    stream: Iterable[bytes],
    kind: type[Record],
    bad_lines: BadLines,
    check: Callable[[Record], None] | None = None,
) -> Iterator[Record]:
    """Yield one record per line, in order, one line in memory at a time; blank lines are skipped.

    `check` can reject a record by raising BadRecord: its line is then invalid. Raises MedgroundError if there
    were lines and all of them were rejected.
    """
    source, known = name_of(stream), known_keys(kind)

    def make(numbered: tuple[int, bytes]) -> Record:
        record = _record(strict_json.parse(numbered[1].removeprefix(b"\xef\xbb\xbf")), kind, known)
        if check is not None:
            check(record)
        return record

    def reject(numbered: tuple[int, bytes], bad: BadRecord) -> None:
        number, line = numbered
        if number == 1:
            bad.problem = explained(bad.problem, line)
        bad_lines.take(line, bad.at(source, number))

    numbered = enumerate(limits.lines(stream, source), start=1)
    yield from sift((each for each in numbered if not each[1].isspace()), make, reject, source)


def name_of(stream: Any) -> str:
    """Return the name of a stream for messages."""
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) and name != "-" else "<stdin>"


def record_of(value: Any, kind: type[Record]) -> Record:
    """Return the JSON value as a record, with unknown keys in `extra`; raises BadRecord."""
    return _record(value, kind, known_keys(kind))


def _record(value: Any, kind: type[Record], known: frozenset[str]) -> Record:
    if not isinstance(value, dict):
        raise BadRecord("expected an object")
    try:
        record = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _bad_record(str(error)) from None
    if extra := {key: each for key, each in value.items() if key not in known}:
        object.__setattr__(record, "extra", extra)  # the records are frozen for everyone else
    return record


_MESSAGE = re.compile(r"(?P<problem>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def _bad_record(message: str) -> BadRecord:
    """Return a BadRecord in plain words for msgspec's error, without any value that it quotes."""
    parts = _MESSAGE.match(message)
    assert parts is not None  # the pattern matches any text
    problem = parts["problem"].replace("`", "")
    if problem.startswith("Invalid enum value"):
        problem = "not one of the allowed words (docs/records.md lists them)"
    missing = re.fullmatch(r"Object missing required field (\w+)", problem)
    steps = [int(n) if n.isdigit() else name or n for name, n in _STEP.findall(parts["path"] or "")]
    if missing:
        return BadRecord("this key is missing", *steps, missing[1])
    return BadRecord(problem[:1].lower() + problem[1:], *steps)


def dumps(record: Any) -> bytes:
    """Return the record as one line, with its line feed."""
    return orjson.dumps(to_json(record), option=orjson.OPT_APPEND_NEWLINE)


def write(stream: BinaryIO, records: Iterable[Any], every: float = 0.2) -> int:
    """Write one line per record and return their number.

    A reader gets a line at most `every` seconds after it is written, once the next line follows.
    """
    count, flushed = 0, time.monotonic()
    for count, record in enumerate(records, start=1):  # noqa: B007
        stream.write(dumps(record))
        if (now := time.monotonic()) - flushed > every:
            stream.flush()
            flushed = now
    stream.flush()
    return count


@contextmanager
def create(path: str) -> Iterator[BinaryIO]:
    """Open stdout for "-", otherwise a file that gets its name only when the block succeeds.

    A run that fails leaves PATH unchanged, and its own output in PATH.partial. A device or a pipe is written
    directly, since it cannot be replaced.
    """
    if path == "-":
        yield sys.stdout.buffer
        return
    if _is_special(path):
        with open(path, "wb") as stream:
            yield stream
        return
    partial = f"{path}.partial"
    Path(partial + DONE).unlink(missing_ok=True)  # it describes another PATH.partial
    with naming(path), open(partial, "wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def _is_special(path: str) -> bool:
    """Return whether the path exists and is a device or a pipe, not an ordinary file."""
    return os.path.exists(path) and not os.path.isfile(path)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Add the file's name to an error without one; a full disk is reported without a name."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            error.filename = path
        raise


@contextmanager
def go_on(
    path: str, keys: Sequence[str], whole: Callable[[list[Values]], int] = len
) -> Iterator[tuple[BinaryIO, set[Values]]]:
    """Open as `create` does, but keep the complete lines of an earlier run, from PATH.partial or else PATH.

    For filters that write at most one line per record. Yields the stream and the values of `keys` in each
    line that is kept. Every write goes to the system at once, so a killed process loses nothing. Half a line
    at the end is cut off. `whole` takes the values of each line and returns the number of lines to keep:
    lines of one batch are computed together.
    """
    partial = f"{path}.partial"
    if _is_special(path):
        raise MedgroundError(f"{path}: --resume needs a file that it can continue")
    if not os.path.exists(partial) and os.path.exists(path):
        shutil.copyfile(path, f"{partial}.copy")
        os.replace(f"{partial}.copy", partial)
    Path(partial + DONE).unlink(missing_ok=True)
    held, ends = _held(partial, keys)
    kept = whole(held)
    with naming(path), open(partial, "ab", buffering=0) as stream:
        stream.truncate(ends[kept])
        yield stream, set(held[:kept])
        os.fsync(stream.fileno())
    os.replace(partial, path)


def _held(path: str, keys: Sequence[str]) -> tuple[list[Values], "array[int]"]:
    """Return (values of `keys` in each complete line, offsets between them); empty for no file."""
    held: list[Values] = []
    ends = array("q", [0])
    if not os.path.exists(path):
        return held, ends
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                break
            held.append(_values(line, keys, path, number))
            ends.append(ends[-1] + len(line))
    return held, ends


def _values(line: bytes, keys: Sequence[str], source: str, number: int) -> Values:
    try:
        return tuple(map(strict_json.parse(line).get, keys))
    except (BadRecord, AttributeError):
        raise BadRecord("not a line of an earlier run; delete the file").at(source, number) from None


class Journal:
    """An output file of units, with a second file that counts its complete units.

    A unit is the output for one piece of the input: a study, or a chunk of reports. `done` units are in the
    file already, and are not computed again.
    """

    def __init__(self, stream: BinaryIO, notes: BinaryIO | None = None, done: int = 0):
        self.stream, self.done = stream, done
        self._notes, self._noted, self._flushed = notes, done, time.monotonic()

    def add(self, content: bytes, units: int = 1, every: float = 0.2) -> None:
        """Write the output of `units` further units; flush if `every` seconds have passed since the last
        time.
        """
        self.stream.write(content)
        self.done += units
        if (now := time.monotonic()) - self._flushed > every:
            self.note()
            self._flushed = now

    def note(self) -> None:
        """Hand all output to the system, and only then record how far it goes."""
        self.stream.flush()
        if self._notes is not None and self.done > self._noted:
            os.fsync(self.stream.fileno())
            self._notes.write(b"%d %d\n" % (self.done, self.stream.tell()))
            self._noted = self.done


@contextmanager
def journal(path: str, task: dict[str, Any] | None) -> Iterator[Journal]:
    """Open as `create` does, for a filter whose input comes in units, in order.

    With a `task` (the settings that decide the output), the units of a killed run in PATH.partial are kept.
    Output after its last record of progress is cut off. Raises MedgroundError for the partial file of another
    task. A filter need not be called if `is_finished(path)`.
    """
    if task is None or path == "-":
        with create(path) as stream:
            yield Journal(stream)
            stream.flush()
        return
    partial = f"{path}.partial"
    done, end = _noted(path, task)
    with naming(path), open(partial, "ab") as stream, open(partial + DONE, "ab", buffering=0) as notes:
        stream.truncate(end)
        stream.seek(0, os.SEEK_END)  # else tell() counts from where the file ended before
        notes.truncate(0)  # it may end in half a line
        notes.write(orjson.dumps(task, option=orjson.OPT_APPEND_NEWLINE) + b"%d %d\n" % (done, end))
        yield (kept := Journal(stream, notes, done))
        kept.note()
        os.fsync(stream.fileno())
    os.replace(partial, path)
    os.unlink(partial + DONE)


def is_finished(path: str) -> bool:
    """Return whether PATH exists without an interrupted run, so that `journal` has nothing to add."""
    if _is_special(path):
        raise MedgroundError(f"{path}: --resume needs a file that it can continue")
    return os.path.exists(path) and not os.path.exists(f"{path}.partial{DONE}")


def _noted(path: str, task: dict[str, Any]) -> tuple[int, int]:
    """Return (units, bytes) that are complete in PATH.partial, by its record; 0 without one."""
    partial = f"{path}.partial"
    if not (os.path.exists(partial) and os.path.exists(partial + DONE)):
        return 0, 0
    with open(partial + DONE, "rb") as stream:
        lines = [line for line in stream if line.endswith(b"\n")]
    if not lines:
        return 0, 0
    before, now = strict_json.parse(lines[0]), orjson.loads(orjson.dumps(task))
    if other := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
        raise MedgroundError(f"{partial}: begun with another {other[0]}; delete it to start from scratch")
    size = os.path.getsize(partial)
    whole = [(int(units), int(end)) for units, end in map(bytes.split, lines[1:]) if int(end) <= size]
    return whole[-1] if whole else (0, 0)
