"""Continuing an output file that a killed or finished run has left (`--resume`).

The record of PATH.partial is PATH.partial.done. A run continues only if the task is the same, and the input
begins with the same units. When PATH is finished, the record becomes the hidden file .NAME.done. So a later
run with other options, or with other input, is refused.
"""

import logging
import os
import shutil
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import orjson

from medground import output_files, progress, strict_json
from medground.errors import BadRecord, MedgroundError
from medground.output_files import DONE, PARTIAL, mark_of, naming
from medground.progress import START, Earlier, Input, Note, Task

log = logging.getLogger(__name__)
Record = TypeVar("Record")
Values = tuple[Any, ...]
EVERY = 0.2  # seconds between two notes of progress
PAUSE, LONGEST = 20, 10.0  # times that syncing took, and seconds: the pause after it, on slow disks
Follow = Callable[[Iterable[Any], Callable[[Any], bytes]], Iterable[Any]]


class Journal:
    """An output file of units, with a second file that counts its complete units.

    A unit is the output for one piece of the input: a study, or a chunk of reports. `done` units are in the
    file already, and are not computed again.
    """

    def __init__(
        self, stream: BinaryIO, notes: BinaryIO | None = None, before: Note = START, place: str = "-"
    ):
        self.stream, self.done = stream, before.units
        self._notes, self._noted, self._flushed = notes, before.units, time.monotonic()
        self._pause = 0.0
        self._input, self._digests, self._digest = Input(place, before), deque[str](), before.digest

    def rest(self, records: Iterable[Record], key: Callable[[Record], Any] | None = None) -> Iterator[Record]:
        """Yield the records of the units that are not done; `key` is equal for the records of one unit."""
        if self._notes is None:
            yield from records
            return
        self._input.ended = self._digests.append
        for earlier, record in self._input.follow(records, key):
            if not earlier:
                yield record

    def add(self, content: bytes, units: int = 1, every: float = EVERY) -> None:
        """Write the output of `units` further units; flush if `every` seconds have passed since the last
        time, or 20 times what it took on a slow disk.
        """
        self.stream.write(content)
        self.done += units
        for _ in range(min(units, len(self._digests))):
            self._digest = self._digests.popleft()
        if (now := time.monotonic()) - self._flushed > max(every, self._pause):
            self.note()
            self._flushed = now

    def note(self) -> None:
        """Hand all output to the system, and only then record how far it goes."""
        self.stream.flush()
        if self._notes is not None and self.done > self._noted:
            began = time.monotonic()
            os.fsync(self.stream.fileno())
            self._pause = min(LONGEST, PAUSE * (time.monotonic() - began))
            self._notes.write(Note(self.done, self.stream.tell(), self._digest).line())
            self._noted = self.done


@contextmanager
def journal(path: str, task: Task | None, resume: bool = True) -> Iterator[Journal]:
    """Open as `create` does, for a filter whose input comes in units, in order.

    `task` has the settings that decide the output. With `resume`, the units of a killed run in PATH.partial
    are kept, or those of a finished run in PATH. Output after its last note is cut off. Raises MedgroundError
    for the file of another task, and for a finished file of which nothing states the task.
    """
    if task is None or path == "-" or output_files.is_special(path):
        with output_files.create(path) as stream:
            yield Journal(stream)
        return
    with output_files.locked(path) as target, _left(target, task, resume) as earlier:
        if earlier.finished and earlier.task is None and progress.size_of(target):
            raise MedgroundError(
                f"{target}: nothing states with which options it was made; delete it to start from scratch"
            )
        before = earlier.last(progress.size_of(target + PARTIAL))
        with _continued(target, task, before) as (stream, notes):
            yield (kept := Journal(stream, notes, before, earlier.place))
            kept.note()
        if earlier.finished and kept.done == before.units and before != START:
            log.warning("%s: finished by an earlier run and kept; delete it to run again", path)
            _discard(target)
        else:
            _publish(target)


@contextmanager
def go_on(
    path: str,
    keys: Sequence[str],
    task: Task,
    whole: Callable[[list[Values]], int] = len,
    resume: bool = True,
) -> Iterator[tuple[BinaryIO, list[Values], Follow]]:
    """Open as `create` does, but with `resume` keep complete lines, from PATH.partial or else PATH.

    For filters that write at most one line per record, whose keys state the model and the settings. Yields
    the stream, the values of `keys` in each line that is kept, and a function through which the input must
    pass. Half a line at the end is cut off. `whole` takes the values of each line and returns the number of
    lines to keep: lines of one batch are computed together.
    """
    if path == "-" or output_files.is_special(path):
        with output_files.create(path) as stream:
            yield stream, [], lambda records, also: records
        return
    with output_files.locked(path) as target, _left(target, task, resume) as earlier:
        held, ends = _held(target + PARTIAL, keys) if resume else ([], array("q", [0]))
        kept = whole(held)
        before = earlier.last(ends[kept])
        with _continued(target, task, before._replace(end=ends[kept])) as (stream, notes):
            yield stream, held[:kept], _noting(Input(earlier.place, before), stream, notes)
        _publish(target)


def _noting(given: Input, stream: BinaryIO, notes: BinaryIO) -> Follow:
    """Return a function that yields records, and from time to time notes how many there were."""

    def note() -> None:
        stream.flush()
        notes.write(Note(given.units, stream.tell(), given.digest).line())

    def follow(records: Iterable[Any], also: Callable[[Any], bytes]) -> Iterator[Any]:
        noted = time.monotonic()
        for _, record in given.follow(records, also=also):
            if (now := time.monotonic()) - noted > EVERY:
                note()
                noted = now
            yield record
        note()

    return follow


@contextmanager
def _left(target: str, task: Task, resume: bool) -> Iterator[Earlier]:
    """Yield what an earlier run left; a finished output is copied to PATH.partial first.

    The copy is removed if the block fails before anything is added to it. Raises MedgroundError for the file
    of another task.
    """
    if resume:
        _end_move(target)
    earlier = progress.left_by(target) if resume else Earlier(target)
    if earlier.task is not None:
        progress.check(earlier, task)
    if earlier.finished:
        shutil.copyfile(target, target + PARTIAL)
    size = progress.size_of(target)
    try:
        yield earlier
    finally:  # after success there is no PATH.partial
        if earlier.finished and progress.size_of(target + PARTIAL) <= size:
            _discard(target)


@contextmanager
def _continued(target: str, task: Task, before: Note) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield PATH.partial, cut off after `before`, and the file of notes about it."""
    partial = target + PARTIAL
    with (
        naming(target),
        open(partial, "ab") as stream,
        open(partial + DONE, "ab", buffering=0) as notes,
    ):
        stream.truncate(before.end)
        stream.seek(0, os.SEEK_END)  # else tell() counts from where the file ended before
        notes.truncate(0)  # it may end in half a line
        notes.write(orjson.dumps(task, option=orjson.OPT_APPEND_NEWLINE) + before.line())
        yield stream, notes
        stream.flush()
        os.fsync(stream.fileno())


def _publish(target: str) -> None:
    """Give the complete file its name, and its record the name of a finished one."""
    Path(mark_of(target)).unlink(missing_ok=True)
    os.replace(target + PARTIAL, target)
    os.replace(target + PARTIAL + DONE, mark_of(target))


def _end_move(target: str) -> None:
    """Give the record of a finished file its name, if a run was killed between its two moves."""
    found, record = os.path.exists, target + PARTIAL + DONE
    if found(target) and found(record) and not found(target + PARTIAL) and not found(mark_of(target)):
        os.replace(record, mark_of(target))


def _discard(target: str) -> None:
    for path in (target + PARTIAL, target + PARTIAL + DONE):
        Path(path).unlink(missing_ok=True)


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


def require_file(path: str) -> None:
    """Raise MedgroundError for a device or a pipe, which cannot be continued."""
    if output_files.is_special(path):
        raise MedgroundError(f"{path}: --resume needs a file that it can continue")
