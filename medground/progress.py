"""The record of an earlier run: the part of its output that is done, its task and its input.

A record is a file of lines. The first is the task: the settings that decide the output, with digests of the
files they name. Each further line says how much is done: the number of input units, the bytes of their
output, and a digest of the units.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import orjson

from medground.errors import MedgroundError
from medground.jsonl import dumps
from medground.output_files import DONE, PARTIAL, mark_of

Record = TypeVar("Record")
Task = dict[str, Any]
NO_DIGEST = "-"


class Note(NamedTuple):
    """A state of an output: input units, bytes of output, and the digest of these units."""

    units: int = 0
    end: int = 0
    digest: str = NO_DIGEST

    def line(self) -> bytes:
        """Return the note as a line of PATH.partial.done."""
        return b"%d %d %s\n" % (self.units, self.end, self.digest.encode())


START = Note()


@dataclass(frozen=True)
class Earlier:
    """The remains of an earlier run in the file `place`: its task, if that is known, and its notes."""

    place: str
    task: Task | None = None
    notes: list[Note] = field(default_factory=list)
    finished: bool = False

    @property
    def end(self) -> int:
        """The size of the output after the last note."""
        return self.notes[-1].end if self.notes else 0

    def last(self, size: int) -> Note:
        """Return the last note about an output of this many bytes."""
        return next((note for note in reversed(self.notes) if note.end <= size), START)


class Input:
    """The input of a run: counts its units, keeps their digest, and compares it with an earlier run's.

    A unit is one record, or all adjacent records with the same key. `place` is the file of the earlier run.
    """

    def __init__(self, place: str, before: Note = START):
        self._place, self._before = place, before
        self._hash = hashlib.blake2b(digest_size=8)
        self.units = 0
        self.ended: Callable[[str], None] = lambda digest: None

    def follow(
        self,
        records: Iterable[Record],
        key: Callable[[Record], Any] | None = None,
        also: Callable[[Record], bytes] = lambda record: b"",
    ) -> Iterator[tuple[bool, Record]]:
        """Yield (whether the earlier run did it, record) for each record.

        `also` returns what else belongs to a record. Raises MedgroundError as soon as the first units are not
        those of the earlier run.
        """
        started, current = False, None
        for record in records:
            if started and key is not None and key(record) != current:
                self._end_unit()
            started, current = True, key and key(record)
            earlier = self.units < self._before.units
            self._hash.update(dumps(record) + also(record))
            if key is None:
                self._end_unit()
            yield earlier, record
        if started and key is not None:
            self._end_unit()
        if self.units < self._before.units:
            self._refuse()

    @property
    def digest(self) -> str:
        """The digest of all records so far."""
        return self._hash.hexdigest()

    def _end_unit(self) -> None:
        self.units += 1
        if self.units == self._before.units and self._before.digest not in (NO_DIGEST, self.digest):
            self._refuse()
        if self.units > self._before.units:
            self.ended(self.digest)

    def _refuse(self) -> None:
        raise MedgroundError(
            f"{self._place}: the input differs from the earlier run's; delete the file to start from scratch"
        )


def left_by(target: str) -> Earlier:
    """Return what an earlier run left in PATH.partial, or else in PATH."""
    if os.path.exists(target + PARTIAL):
        return _read(target + PARTIAL, target + PARTIAL + DONE)
    if not os.path.exists(target):
        return Earlier(target + PARTIAL)
    found = _read(target, mark_of(target))
    if found.task is None or found.end != size_of(target):
        return Earlier(target, finished=True)
    return replace(found, finished=True)


def _read(place: str, record: str) -> Earlier:
    """Return the task and the notes in a file; nothing of a file that is missing or damaged."""
    try:
        with open(record, "rb") as stream:
            lines = [line for line in stream if line.endswith(b"\n")]
        return Earlier(place, orjson.loads(lines[0]), [_note(line) for line in lines[1:]])
    except (FileNotFoundError, IndexError, ValueError, TypeError):
        return Earlier(place)


def _note(line: bytes) -> Note:
    units, end, digest = line.split()
    return Note(int(units), int(end), digest.decode())


def check(earlier: Earlier, task: Task) -> None:
    """Raise MedgroundError if the earlier run had another task."""
    before, now = earlier.task or {}, orjson.loads(orjson.dumps(task))
    if other := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
        begun = "made" if earlier.finished else "begun"
        raise MedgroundError(
            f"{earlier.place}: {begun} with another {other[0]}; delete it to start from scratch"
        )


def size_of(path: str) -> int:
    """Return the size of a file; 0 if there is none."""
    return os.path.getsize(path) if os.path.exists(path) else 0
