"""JSON lines files: reading, writing and invalid lines."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import msgspec
import orjson

from medground import light_records, limits, strict_json
from medground.errors import BadRecord, MedgroundError, require_good
from medground.published import explained
from medground.record_json import known_keys, to_bytes

log = logging.getLogger(__name__)
Line = bytes | limits.LongLine
Record = TypeVar("Record")


@dataclass(frozen=True)
class BadLines:
    """The destination of invalid lines. Without `rejects`, the first one ends the run."""

    rejects: BinaryIO | None = None

    def take(self, line: Line, bad: MedgroundError) -> None:
        """Write the line unchanged and warn with its place, or raise."""
        if self.rejects is None:
            raise bad
        part = b"\n"
        for part in line.parts if isinstance(line, limits.LongLine) else [line]:
            self.rejects.write(part)
        if not part.endswith(b"\n"):
            self.rejects.write(b"\n")
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
    stream: Iterable[Line],
    kind: type[Record],
    bad_lines: BadLines,
    check: Callable[[Record], None] | None = None,
) -> Iterator[Record]:
    """Yield one record per line, in order, one line in memory at a time; blank lines are skipped.

    `check` can reject a record by raising BadRecord: its line is then invalid. Raises MedgroundError if there
    were lines and all of them were rejected.
    """
    known = known_keys(kind)

    return _each(stream, lambda line: _strict(line, kind, known), bad_lines, check)


def scan(
    stream: Iterable[Line],
    kind: type[Record],
    bad_lines: BadLines,
    check: Callable[[Record], None] | None = None,
) -> Iterator[Record]:
    """Do the same as `read` in half of the time, for stages that only use the attributes of records.

    What it yields has the attributes of `kind`, but may be of another class (`light_records`).
    """
    known, light = known_keys(kind), light_records.Reader(kind)

    def make(line: bytes) -> Record:
        try:
            return light.decode(line)  # type: ignore[no-any-return]
        except light_records.FAILURES:
            record = _strict(line, kind, known)
            light.learn(getattr(record, "extra", {}))
            return record

    return _each(stream, make, bad_lines, check)


def _strict(line: bytes, kind: type[Record], known: frozenset[str]) -> Record:
    return _record(strict_json.parse(line.removeprefix(b"\xef\xbb\xbf")), kind, known)


def _each(
    stream: Iterable[Line],
    make: Callable[[bytes], Record],
    bad_lines: BadLines,
    check: Callable[[Record], None] | None,
) -> Iterator[Record]:
    """Yield make(line), checked, for each line that is not blank; invalid ones are taken by `bad_lines`."""
    source = name_of(stream)
    good = rejected = 0
    for number, line in enumerate(limits.lines_or_long(stream), start=1):
        try:
            if isinstance(line, limits.LongLine):
                raise BadRecord(limits.long_line())
            if line.isspace():
                continue
            record = make(line)
            if check is not None:
                check(record)
        except BadRecord as bad:
            if number == 1 and isinstance(line, bytes):
                bad.problem = explained(bad.problem, line)
            bad_lines.take(line, bad.at(source, number))
            rejected += 1
        else:
            good += 1
            yield record
    require_good(good, rejected, source, "line")


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
    if not known.issuperset(value):
        extra = {key: each for key, each in value.items() if key not in known}
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
    return to_bytes(record)


def line_of(value: dict[str, Any]) -> bytes:
    """Return a JSON object as one line, with its line feed."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


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
