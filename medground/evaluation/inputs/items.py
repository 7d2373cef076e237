"""Objects of a file: one per line, the items of one JSON list, or the values of one JSON object.

An object has its items under one of `LISTS`, or under the id of the phrase or the image: {"p1": {...}, ...}.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from medground import jsonl, limits, strict_json
from medground.errors import BadRecord, MedgroundError, sift
from medground.evaluation.inputs import files
from medground.limits import LongLine
from medground.record_json import known_keys

T = TypeVar("T")
LISTS = ("results", "predictions", "outputs", "responses", "data", "samples", "items")
Row = tuple[str, bytes, Callable[[], None]]  # place, original bytes, and the function that reads them


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a stream whose first ones were read already."""

    name: str
    lines: Iterable[bytes | LongLine]

    def __iter__(self) -> Iterator[bytes | LongLine]:
        return iter(self.lines)


def read(
    stream: files.Hashed,
    kind: type[T],
    bad_lines: jsonl.BadLines,
    check: Callable[[T], None],
    keys: Collection[str] = (),
) -> None:
    """Pass each object of a file to `check`, which may refuse it with BadRecord.

    keys: what an object may have, next to the fields of `kind`.
    """
    begin, lines = _first_two(iter(stream))
    both: Any = _Lines(stream.name, chain(begin, lines))
    found = [each for each in begin if not _is_blank(each)]
    first = found[0].removeprefix(b"\xef\xbb\xbf").strip() if found and isinstance(found[0], bytes) else b""
    if first.startswith(b"["):
        values: Iterable[Row] = rows(listed(both, stream.name, "objects"), stream.name, _taker(kind, check))
    elif first == b"{":
        value = whole(both, stream.name)
        values = _in_object(value, stream.name, {*known_keys(kind), *keys}, _taker(kind, check))
    elif (
        len(found) == 1
        and (value := _lone(first)) is not None
        and not {*known_keys(kind), *keys} & value.keys()
    ):
        values = _in_object(value, f"{stream.name}:1", {*known_keys(kind), *keys}, _taker(kind, check))
    else:
        for _ in jsonl.read(both, kind, bad_lines, check):
            pass
        return
    hand_on(values, bad_lines, stream.name)


def _first_two(
    lines: Iterator[bytes | LongLine],
) -> tuple[list[bytes | LongLine], Iterator[bytes | LongLine]]:
    """Return the lines up to the second one that is not blank, and the others."""
    begin, full = [], 0
    for line in lines:
        begin.append(line)
        full += not _is_blank(line)
        if full == 2 or isinstance(line, LongLine):
            break
    return begin, lines


def _is_blank(line: bytes | LongLine) -> bool:
    return isinstance(line, bytes) and line.removeprefix(b"\xef\xbb\xbf").isspace()


def _taker(kind: type[T], check: Callable[[T], None]) -> Callable[[Any], None]:
    return lambda value: check(jsonl.record_of(value, kind))


def _lone(line: bytes) -> dict[str, Any] | None:
    """Return the object on the only line of a file, None if it is none."""
    try:
        value = strict_json.parse_loose(line)
    except BadRecord:
        return None
    return value if isinstance(value, dict) else None


def _in_object(value: Any, source: str, keys: Collection[str], take: Callable[[Any], None]) -> Iterable[Row]:
    """Return the rows of the values in an object; the object itself if it has keys of an item."""
    if not isinstance(value, dict):
        raise MedgroundError(f"{source}: expected an object")
    inside = next((key for key in LISTS if isinstance(value.get(key), list)), None)
    if inside is not None and all(isinstance(each, dict) for each in value[inside]):
        return rows(value[inside], source, take, inside)
    if value.keys() & keys or not all(isinstance(each, dict | list | str) for each in value.values()):
        return [(source, json.dumps(value).encode(), partial(take, value))]
    return rows([_under_id(key, each) for key, each in value.items()], source, take)


def _under_id(key: str, value: Any) -> dict[str, Any]:
    own = value if isinstance(value, dict) and "output" not in value else {"output": value}
    return {"id": key} | own


def listed(stream: Iterable[bytes | LongLine], source: str, of: str) -> list[Any]:
    """Return the list in a JSON file; raise MedgroundError if it is none."""
    found = whole(stream, source)
    if not isinstance(found, list):
        raise MedgroundError(f"{source}: expected a list of {of}")
    return found


def whole(stream: Iterable[bytes | LongLine], source: str) -> Any:
    """Return the value of a JSON file; raise MedgroundError if it is none."""
    data = limits.joined(stream, source).removeprefix(b"\xef\xbb\xbf")
    try:
        return strict_json.parse_loose(data)
    except BadRecord as bad:
        raise MedgroundError(f"{source}: {bad.problem}") from None


def rows(values: Iterable[Any], source: str, take: Callable[[Any], None], under: str = "") -> Iterator[Row]:
    """Yield a row for each value of a list under a key of the file."""
    for number, value in enumerate(values):
        yield f"{source}: {under}[{number}]", json.dumps(value).encode(), partial(take, value)


def hand_on(all_rows: Iterable[Row], bad_lines: jsonl.BadLines, source: str) -> None:
    """Read each row; a row that raises BadRecord is a bad line."""

    def reject(row: Row, bad: BadRecord) -> None:
        place, content, _ = row
        bad.place = f"{place}: "
        bad_lines.take(content, bad)

    for _ in sift(all_rows, lambda row: row[2](), reject, source):
        pass


def number_of(value: Any, *path: str | int) -> float:
    """Return a number of JSON as a float; raise BadRecord at the path for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecord("expected a number", *path)
    try:
        return float(value)
    except OverflowError:
        raise BadRecord("expected a finite number", *path) from None
