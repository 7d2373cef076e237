"""Objects of a file: one per line, or the items of one JSON list."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from medground import jsonl, limits, strict_json
from medground.errors import BadRecord, MedgroundError, sift
from medground.evaluation.inputs import files
from medground.limits import LongLine

T = TypeVar("T")
Row = tuple[str, bytes, Callable[[], None]]  # place, original bytes, and the function that reads them


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a stream whose first ones were read already."""

    name: str
    lines: Iterable[bytes | LongLine]

    def __iter__(self) -> Iterator[bytes | LongLine]:
        return iter(self.lines)


def read(stream: files.Hashed, kind: type[T], bad_lines: jsonl.BadLines, check: Callable[[T], None]) -> None:
    """Pass each object of a file to `check`, which may refuse it with BadRecord."""
    lines = iter(stream)
    begin = []
    for line in lines:
        begin.append(line)
        if isinstance(line, LongLine) or not line.removeprefix(b"\xef\xbb\xbf").isspace():
            break
    both: Any = _Lines(stream.name, chain(begin, lines))
    first = begin[-1] if begin else b""
    if isinstance(first, bytes) and first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        _read_list(both, kind, bad_lines, check)
        return
    for _ in jsonl.read(both, kind, bad_lines, check):
        pass


def _read_list(stream: Any, kind: type[T], bad_lines: jsonl.BadLines, check: Callable[[T], None]) -> None:
    def take(value: Any) -> None:
        check(jsonl.record_of(value, kind))

    hand_on(rows(listed(stream, stream.name, "objects"), stream.name, take), bad_lines, stream.name)


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


def ids(image: Any, phrase: Any) -> tuple[str | None, str | None]:
    """Return image_id and phrase_id as text, None if missing; raise BadRecord unless one is given."""
    if image is None and phrase is None:
        raise BadRecord("this key is missing", "phrase_id")
    return text_of(image, "image_id"), text_of(phrase, "phrase_id")


def text_of(value: Any, name: str) -> str | None:
    """Return an identifier as text: those of other tools may be whole numbers."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadRecord("expected a text or a whole number", name)
    return str(value)
