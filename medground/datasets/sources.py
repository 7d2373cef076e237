"""Tables and trees of files, with the place of each row: shared by all data set readers."""

import csv
import gzip
import io
import logging
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from medground import archives, errors, limits
from medground.errors import BadRecord, MedgroundError
from medground.limits import MAX_UNPACKED, TOO_LONG

log = logging.getLogger(__name__)
UNREADABLE = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError)  # of an archive
TakeBad = Callable[[bytes, BadRecord], None]
Source = Path | BinaryIO


def refuse(line: bytes, bad: BadRecord) -> None:
    """End the run at the first invalid row or file: the default of all readers."""
    raise bad


class Item(Protocol):
    """A row or a file: its bytes in `raw`, its `place` for messages."""

    @property
    def raw(self) -> bytes: ...
    @property
    def place(self) -> str: ...


Read = TypeVar("Read", bound=Item)
Made = TypeVar("Made")


def sift(items: Iterable[Read], make: Callable[[Read], Made], take: TakeBad) -> Iterator[Made]:
    """Yield `make(item)` for each item; an item for which it raises BadRecord goes to `take` with its place.

    Raises MedgroundError if there were items and all were invalid.
    """

    def reject(item: Read, bad: BadRecord) -> None:
        bad.place = bad.place or item.place
        take(item.raw, bad)

    return errors.sift(items, make, reject, unit="row")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table by column name; `raw` is its line or lines, unchanged."""

    values: dict[str, str]
    raw: bytes
    place: str

    def text(self, column: str) -> str:
        """Return the cell without outer spaces; raise BadRecord if it is empty."""
        if not (text := self.values[column].strip()):
            raise BadRecord("this cell is empty", column)
        return text

    def maybe(self, column: str) -> str | None:
        """Return the cell without outer spaces; None if it is empty or the column is missing."""
        return (self.values.get(column) or "").strip() or None

    def number(self, column: str) -> float:
        """Return the cell as a number; raise BadRecord if it is not one."""
        return number(self.values[column], column)

    def others(self, known: Iterable[str]) -> dict[str, str]:
        """Return the unknown columns, except an index column without a name."""
        left_out = {"", "Unnamed: 0", *known}
        return {name: value for name, value in self.values.items() if name not in left_out}


def number(value: Any, *path: str | int) -> float:
    """Return a finite number, also from text; raise BadRecord for `path` otherwise."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise BadRecord("expected a number", *path) from None
    if not -1e9 < found < 1e9:  # also false for NaN
        raise BadRecord("expected a finite number", *path)
    return found


def rows(
    source: Source,
    columns: set[str],
    what: str,
    take: TakeBad = refuse,
    name: str | None = None,
    ragged: bool = False,
) -> Iterator[Row]:
    """Yield the rows of a CSV file, gzipped or not; `take` gets rows that do not match the header.
    `name` overrides the name of the source in messages. ragged: rows may have more or fewer cells than the
    header after the last of `columns`.

    Raises MedgroundError if one of `columns` is missing; the message names `what`, the expected file.
    """
    name = name or name_of(source)
    with opened(source) as stream:
        lines = _Lines(limits.lines(stream, name))
        table = csv.reader(lines)
        header = _header(table, name)
        if missing := sorted(columns - set(header)):
            raise MedgroundError(f"{name}: no column {missing[0]!r}; is this {what}?")
        least = 1 + max(map(header.index, columns), default=-1) if ragged else None
        yield from sift(_cells(table, lines, name), lambda cells: _row(cells, header, least), take)


def _header(table: Iterator[list[str]], name: str) -> list[str]:
    """Return the cells of the first row; raise MedgroundError if they cannot be column names."""
    try:
        header = [each.strip() for each in next(table, [])]
    except csv.Error:
        raise MedgroundError(f"{name}:1: not CSV; lines must end with a line feed") from None
    if not is_unicode("".join(header)):
        raise MedgroundError(f"{name}:1: not UTF-8; convert it with iconv")
    refuse_twice(header, f"{name}:1")
    return header


def refuse_twice(header: Sequence[str], place: str) -> None:
    """Raise MedgroundError if two columns have one name: their cells would replace each other."""
    first: dict[str, int] = {}
    for number, column in enumerate(header, start=1):
        if column and first.setdefault(column, number) != number:
            raise MedgroundError(
                f"{place}: columns {first[column]} and {number} have the same name; rename one"
            )


def is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8: it has no lone surrogates."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


class _Lines:
    """The lines of a stream as text; `taken` holds the bytes of the current row."""

    def __init__(self, stream: Iterator[bytes]):
        self.stream, self.taken, self.number = stream, list[bytes](), 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.stream)
        self.taken.append(line)
        self.number += 1
        return line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class _Cells:
    cells: list[str]
    raw: bytes
    place: str


def _cells(table: Iterator[list[str]], lines: _Lines, name: str) -> Iterator[_Cells]:
    while True:
        lines.taken.clear()
        place = f"{name}:{lines.number + 1}: "
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error:
            cells = []
        raw = b"".join(lines.taken)
        if not raw.isspace():
            yield _Cells(cells, raw, place)


def _row(found: _Cells, header: list[str], least: int | None) -> Row:
    if not found.raw.isascii() and not is_unicode("".join(found.cells)):
        raise BadRecord("not UTF-8; convert it with iconv")
    if len(found.cells) < least if least else len(found.cells) != len(header):
        raise BadRecord(f"expected {least or len(header)} cells, found {len(found.cells)}")
    return Row(dict(zip(header, found.cells, strict=False)), found.raw, found.place)


def warn_of(dirt: Counter[str], name: str) -> None:
    """Log the reader's corrections, one line per kind."""
    for problem, count in sorted(dirt.items()):
        if count:
            log.warning("%s: %d %s", name, count, problem)


def name_of(source: Source) -> str:
    """Return the name to use for a source in messages."""
    name = str(source) if isinstance(source, Path) else getattr(source, "name", None)
    return name if isinstance(name, str) and name else "<stdin>"


@contextmanager
def opened(source: Source) -> Iterator[Any]:
    """Yield a binary stream with `peek`; gzipped data is unpacked while reading. A path is closed at the end.

    Raises MedgroundError if the gzipped bytes are damaged.
    """
    with ExitStack() as stack:
        stream: Any = source
        if isinstance(source, Path):
            stream = stack.enter_context(source.open("rb"))
        elif not hasattr(source, "peek"):
            stream = io.BufferedReader(
                io.BytesIO(source.read())
            )  # in memory already, else it would have `peek`
        if stream.peek(2)[:2] != b"\x1f\x8b":
            yield stream
            return
        try:
            unpacked: Any = stack.enter_context(gzip.open(stream))
            yield io.BufferedReader(limits.Bounded(unpacked, name_of(source)))
        except (EOFError, gzip.BadGzipFile, zlib.error):
            problem = "damaged or truncated gzip file; fetch it again"
            raise MedgroundError(f"{name_of(source)}: {problem}") from None


@dataclass(frozen=True, slots=True)
class File:
    """One file of a tree, read when its content is needed; the rejects file holds its name."""

    name: str
    read: Callable[[], bytes]

    @property
    def content(self) -> bytes:
        """The bytes of the file; raises BadRecord for too many, and for a damaged archive."""
        try:
            return self.read()
        except UNREADABLE:
            raise BadRecord("damaged or encrypted; unpack the archive again") from None

    @property
    def raw(self) -> bytes:
        return os.fsencode(self.name) + b"\n"

    @property
    def place(self) -> str:
        return f"{self.name}: "

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def folders(self) -> tuple[str, ...]:
        return Path(self.name).parts[:-1]


def files(root: Path, pattern: str) -> Iterator[File]:
    """Yield the files whose name matches the pattern, sorted by folder and name.

    `root` is a folder (searched recursively), a .zip as downloaded, or one file. Raises MedgroundError if
    nothing matches.
    """
    found = False
    for each in _files(root, pattern):
        found = True
        yield each
    if not found:
        raise MedgroundError(f"{root}: no {pattern} in it")


def _files(root: Path, pattern: str) -> Iterator[File]:
    if root.is_dir():
        yield from _in_folder(root, pattern)
    elif zipfile.is_zipfile(root):
        with archives.opened(root) as archive:
            for name in sorted(archive.namelist()):
                if fnmatch(os.path.basename(name), pattern) and not name.startswith("__MACOSX"):
                    yield File(f"{root}/{name}", partial(_member, archive, name))
    else:
        yield File(str(root), partial(_content, root))


def _in_folder(root: Path, pattern: str) -> Iterator[File]:
    for folder, below, names in os.walk(root):
        below.sort()
        for name in sorted(names):
            if fnmatch(name, pattern) and not name.startswith("._"):
                path = Path(folder, name)
                if path.is_file():
                    yield File(str(path), partial(_content, path))
                else:
                    log.warning("%s: not a file but a pipe, a device or a broken link; skipped", path)


def _content(path: Path) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(MAX_UNPACKED + 1)
    if len(content) > MAX_UNPACKED:
        raise BadRecord(f"more than {MAX_UNPACKED >> 20} MiB; {limits.RAISE}")
    return content


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the content of a file in an archive; raise BadRecord for one that unpacks to too much."""
    if archive.getinfo(name).file_size > MAX_UNPACKED:
        raise BadRecord(TOO_LONG)
    return archive.read(name)
