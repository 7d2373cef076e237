"""Lines in, lines out: the only module that knows files of JSON lines, and what happens to bad ones."""

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

from medground.errors import BadRecord, MedgroundError, sift
from medground.published import explained
from medground.records import known_keys, to_json

log = logging.getLogger(__name__)
Record = TypeVar("Record")
Values = tuple[Any, ...]
DONE = ".done"  # PATH.partial.done notes how much of PATH.partial is whole


@dataclass(frozen=True)
class BadLines:
    """Where lines go that are no valid record. Without `rejects` the first of them ends the run."""

    rejects: BinaryIO | None = None

    def take(self, line: bytes, bad: MedgroundError) -> None:
        """Keep the line as it was and warn of its place, or raise."""
        if self.rejects is None:
            raise bad
        self.rejects.write(line if line.endswith(b"\n") else line + b"\n")
        self.rejects.flush()
        log.warning("rejected %s", bad)

    def take_record(self, record: Any, bad: MedgroundError) -> None:
        """The same for a record that was well formed, but proved unusable later."""
        if self.rejects is None:
            raise bad
        self.rejects.write(dumps(record))
        self.rejects.flush()
        log.warning("rejected %s", bad)


def read(
    stream: BinaryIO,
    kind: type[Record],
    bad_lines: BadLines,
    check: Callable[[Record], None] | None = None,
) -> Iterator[Record]:
    """Yield one record per line, in order, one line in memory at a time; blank lines are passed over.

    `check` may refuse a record by raising BadRecord: that line is then bad like one that is not JSON.
    Raises MedgroundError when there were lines and every one was rejected.
    """
    source, known = name_of(stream), known_keys(kind)

    def make(numbered: tuple[int, bytes]) -> Record:
        record = _record(_parse(numbered[1].removeprefix(b"\xef\xbb\xbf")), kind, known)
        if check is not None:
            check(record)
        return record

    def reject(numbered: tuple[int, bytes], bad: BadRecord) -> None:
        number, line = numbered
        if number == 1:
            bad.problem = explained(bad.problem, line)
        bad_lines.take(line, bad.at(source, number))

    lines = ((number, line) for number, line in enumerate(stream, start=1) if not line.isspace())
    yield from sift(lines, make, reject, source)


def name_of(stream: Any) -> str:
    """The name to use for a stream in messages."""
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) and name != "-" else "<stdin>"


def record_of(value: Any, kind: type[Record]) -> Record:
    """The JSON value as a record, unknown keys kept in `extra`; raises BadRecord."""
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


def _parse(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        problem = "not UTF-8; convert it with iconv" if "UTF-8" in str(error) else "not JSON"
        raise BadRecord(problem) from None


_MESSAGE = re.compile(r"(?P<problem>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def _bad_record(message: str) -> BadRecord:
    """msgspec's message in our words; its value, where it quotes one, is left out."""
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
    """The record as one line, with its line feed."""
    return orjson.dumps(to_json(record), option=orjson.OPT_APPEND_NEWLINE)


def write(stream: BinaryIO, records: Iterable[Any], every: float = 0.2) -> int:
    """Write a line each and return their number; what is written reaches a reader within `every` seconds
    of the next line, so that a slow stage does not hold its answers back."""
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
    """Open stdout for "-", else a file that gets its name only when the block has succeeded.

    A run that fails leaves PATH as it was, and what it wrote in PATH.partial. A device or a pipe is
    written directly: it cannot be replaced.
    """
    if path == "-":
        yield sys.stdout.buffer
        return
    if _is_special(path):
        with open(path, "wb") as stream:
            yield stream
        return
    partial = f"{path}.partial"
    Path(partial + DONE).unlink(missing_ok=True)  # it tells of another PATH.partial
    with naming(path), open(partial, "wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def _is_special(path: str) -> bool:
    """Whether it is there and no ordinary file: a device or a pipe."""
    return os.path.exists(path) and not os.path.isfile(path)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Give the file's name to a failure that has none: a full disk says only that it is full."""
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
    """As `create`, but keep the whole lines of an earlier run, in PATH.partial or else in PATH.

    For filters that write one line, or none, for each record. Yields the stream, which hands every write to
    the system at once, so that even a killed process loses nothing it has written, and the values of `keys`
    in each line that is kept. Half a line at the end is cut off; `whole` says, given the values of each
    line, how many lines to keep: what was worked on together with the rest is made again with it.
    """
    partial = f"{path}.partial"
    if _is_special(path):
        raise MedgroundError(f"{path}: --resume needs a file that it can go on in")
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
    """(the values of `keys` in each whole line, the places between them); nothing for no file."""
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
        return tuple(map(_parse(line).get, keys))
    except (BadRecord, AttributeError):
        raise BadRecord("not a line of an earlier run; delete the file").at(source, number) from None


class Journal:
    """An output file of units, and beside it how many units of it are whole.

    A unit is what the input asks for in one piece: the lines of a study, of a chunk of reports. `done` units
    are in the file already, and are not to be made again.
    """

    def __init__(self, stream: BinaryIO, notes: BinaryIO | None = None, done: int = 0):
        self.stream, self.done = stream, done
        self._notes, self._noted, self._flushed = notes, done, time.monotonic()

    def add(self, content: bytes, units: int = 1, every: float = 0.2) -> None:
        """Write what so many further units gave; it reaches a reader within `every` seconds of the next."""
        self.stream.write(content)
        self.done += units
        if (now := time.monotonic()) - self._flushed > every:
            self.note()
            self._flushed = now

    def note(self) -> None:
        """Hand all to the system, and only then write down how far it goes."""
        self.stream.flush()
        if self._notes is not None and self.done > self._noted:
            os.fsync(self.stream.fileno())
            self._notes.write(b"%d %d\n" % (self.done, self.stream.tell()))
            self._noted = self.done


@contextmanager
def journal(path: str, task: dict[str, Any] | None) -> Iterator[Journal]:
    """As `create`, for a filter whose input asks for units, in order.

    With a `task`, the settings that decide what is written, the units of a killed run in PATH.partial are
    kept; what it wrote after its last note is cut off. Another task's are refused with MedgroundError. A
    filter need not be called where `is_finished(path)`.
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
        notes.truncate(0)  # half a note may stand there
        notes.write(orjson.dumps(task, option=orjson.OPT_APPEND_NEWLINE) + b"%d %d\n" % (done, end))
        yield (kept := Journal(stream, notes, done))
        kept.note()
        os.fsync(stream.fileno())
    os.replace(partial, path)
    os.unlink(partial + DONE)


def is_finished(path: str) -> bool:
    """Whether PATH is there, and no run in it was broken off: `journal` has nothing to add."""
    if _is_special(path):
        raise MedgroundError(f"{path}: --resume needs a file that it can go on in")
    return os.path.exists(path) and not os.path.exists(f"{path}.partial{DONE}")


def _noted(path: str, task: dict[str, Any]) -> tuple[int, int]:
    """(units, bytes) that are whole in PATH.partial, by its notes; none without them."""
    partial = f"{path}.partial"
    if not (os.path.exists(partial) and os.path.exists(partial + DONE)):
        return 0, 0
    with open(partial + DONE, "rb") as stream:
        lines = [line for line in stream if line.endswith(b"\n")]
    if not lines:
        return 0, 0
    before, now = _parse(lines[0]), orjson.loads(orjson.dumps(task))
    if other := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
        raise MedgroundError(f"{partial}: begun with another {other[0]}; delete it to begin anew")
    size = os.path.getsize(partial)
    whole = [(int(units), int(end)) for units, end in map(bytes.split, lines[1:]) if int(end) <= size]
    return whole[-1] if whole else (0, 0)
