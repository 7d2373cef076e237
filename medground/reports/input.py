"""Reports from files: tables with any column names, text files, folders of them.

A row is a report. `take` is called with each unreadable row or file, unchanged, and the problem with its
place (`jsonl.BadLines(...).take` fits; the default raises). Text is only decoded and not changed, so that
spans count in it. Lines that are not UTF-8 are read as Windows-1252, with a warning. UTF-16 is recognized.
"""

import csv
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from medground import limits
from medground.encodings import Decoder, text_of
from medground.errors import BadRecord, MedgroundError, sift
from medground.published import GZIP, GZIPPED
from medground.records import Report
from medground.reports import folders

log = logging.getLogger(__name__)
TakeBad = Callable[[bytes, BadRecord], None]

IDS = (
    "study_id", "study", "studyid", "report_id", "reportid", "accession", "accession_number", "uid", "id",
    "note_id",
)  # fmt: skip
SUBJECTS = ("subject_id", "subject", "patient_id", "patientid", "patient", "mrn")
TEXTS = (
    "text", "report", "report_text", "reporttext", "radiology_report", "note", "note_text", "full_text",
    "body",
)  # fmt: skip
SECTIONS = ("findings", "impression", "last_paragraph", "comparison", "indication")
LONGEST = limits.MAX_LINE  # bytes of one row: a longer row has an unclosed quote
csv.field_size_limit(LONGEST)


def refuse(line: bytes, bad: BadRecord) -> None:
    """End the run at the first invalid row; the default of all readers."""
    raise bad


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table; those that are None are found by name. `sections` maps our names to the
    table's.
    """

    text: str | None = None
    study: str | None = None
    subject: str | None = None
    sections: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The indexes of a row's columns."""

    width: int
    study: int | None
    subject: int | None
    text: int | None
    sections: tuple[tuple[str, int], ...]
    others: tuple[tuple[str, int], ...]


Row = tuple[int, bytes, list[str] | None]  # line number, bytes, cells; None if it is not a row


def read_table(
    lines: Iterable[bytes],
    name: str,
    columns: Columns | None = None,
    take: TakeBad = refuse,
    keep_empty: bool = False,
) -> Iterator[Report]:
    """Yield a report for each row of a CSV table (comma, semicolon or tab), in order, one row in memory.

    An unclosed quote invalidates its own row and no other. Unknown columns are kept in `extra`. Rows without
    text are skipped, and counted in one warning, unless `keep_empty`.
    """
    decode = Decoder()
    source = _Source(limits.lines(lines, name))
    header_line = source.next()
    if header_line is None:
        return
    header_text = decode(header_line, f"{name}:1").removeprefix("﻿")
    delimiter = delimiter_of(header_text)
    header = _cells([header_text], delimiter) or []
    layout = _layout(header, columns or Columns(), name)
    empty = _Empty(name)

    def make(row: Row) -> tuple[int, Report]:
        number, raw, cells = row
        if cells is None:
            raise BadRecord(_why(raw, layout.width)).at(name, number)
        return number, _report(cells, layout, number)

    def text(line: bytes, number: int) -> str:
        return decode(line, f"{name}:{number}")

    rows = _rows(source, text, delimiter, layout.width)
    for number, report in sift(rows, make, lambda row, bad: take(row[1], bad), name, "row"):
        if keep_empty or empty.has_text(report, number):
            yield report
    empty.warn()


class _Source:
    """Physical lines with their numbers, which can be pushed back."""

    def __init__(self, lines: Iterable[bytes]):
        self.lines = iter(lines)
        self.waiting: deque[bytes] = deque()
        self.number = 0

    def next(self) -> bytes | None:
        line = self.waiting.popleft() if self.waiting else next(self.lines, None)
        self.number += line is not None
        return line

    def push_back(self, lines: list[bytes]) -> None:
        self.waiting.extendleft(reversed(lines))
        self.number -= len(lines)


def _rows(source: _Source, decode: Callable[[bytes, int], str], delimiter: str, width: int) -> Iterator[Row]:
    """Yield each row of the table."""
    while (line := source.next()) is not None:
        number = source.number
        if line.isspace():
            continue
        taken, size, quotes = [line], len(line), line.count(b'"')
        while quotes % 2 and size < LONGEST and (line := source.next()) is not None:
            taken.append(line)
            size += len(line)
            quotes += line.count(b'"')
        cells = None
        if quotes % 2 == 0:
            texts = [decode(each, number + n) for n, each in enumerate(taken)]
            cells = _cells(texts, delimiter)
        if cells is None or len(cells) != width:
            source.push_back(taken[1:])
            yield number, taken[0], None
        else:
            yield number, b"", cells


def _cells(lines: list[str], delimiter: str) -> list[str] | None:
    """Return the cells of one row; None if its quotes are not valid CSV."""
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _why(raw: bytes, width: int) -> str:
    if raw.count(b'"') % 2:
        return "a quote is opened and not closed as CSV asks"
    if b"\0" in raw:
        return "this is binary, not a row"
    return f"expected {width} cells, as in the header; quote cells that hold the delimiter"


def delimiter_of(header: str) -> str:
    """Return the delimiter of a table with this first line."""
    return max(",\t;|", key=header.count)


def _layout(header: list[str], columns: Columns, name: str) -> _Layout:
    place = {each.strip().lower(): n for n, each in reversed(list(enumerate(header)))}
    exact = {each.strip(): n for n, each in enumerate(header)}

    def find(wanted: str | None, usual: tuple[str, ...]) -> int | None:
        if wanted is not None:
            if wanted not in exact:
                raise MedgroundError(f"{name}: no column {wanted!r}; {_described(header)}")
            return exact[wanted]
        return next((place[each] for each in usual if each in place), None)

    text = find(columns.text, ()) if columns.text or columns.sections else find(None, TEXTS)
    sections = tuple((ours, find(theirs, ())) for ours, theirs in columns.sections.items())
    if not columns.sections and columns.text is None:
        sections = tuple((each, place[each]) for each in SECTIONS if each in place)
        text = None if any(each in place for each in ("findings", "impression")) else text
    if text is None and not sections:
        raise MedgroundError(
            f"{name}: no column of report text, name it with --text-column; {_described(header)}"
        )
    study, subject = find(columns.study, IDS), find(columns.subject, SUBJECTS)
    if study is None:
        log.warning("%s: no column of study ids; rows are called row-1, row-2, ...; see --id-column", name)
    used = {study, subject, text, *(n for _, n in sections)}
    _refuse_twice(header, used, name)
    others = tuple((each.strip(), n) for n, each in enumerate(header) if n not in used and each.strip())
    return _Layout(len(header), study, subject, text, sections, others)  # type: ignore[arg-type]


def _refuse_twice(header: list[str], used: Iterable[int | None], name: str) -> None:
    """Raise MedgroundError if another column has the name of one that is used."""
    names = [each.strip() for each in header]
    for place in (each for each in used if each is not None):
        same = [number for number, each in enumerate(names, start=1) if each == names[place]]
        if len(same) > 1:
            raise MedgroundError(f"{name}:1: columns {same[0]} and {same[1]} have the same name; rename one")


def _described(header: list[str]) -> str:
    """Return the known columns for a message, and the number of others, which may be cells of a report."""
    names = [each.strip() for each in header]
    known = [each for each in names if each.lower() in {*IDS, *SUBJECTS, *TEXTS, *SECTIONS}]
    if not known:
        return f"line 1 has {len(names)} cells and no known name; is it a header?"
    others = len(names) - len(known)
    return f"line 1 has {', '.join(known)}{f' and {others} others' if others else ''}"


def _report(cells: list[str], layout: _Layout, number: int) -> Report:
    subject = cells[layout.subject].strip() if layout.subject is not None else None
    return Report(
        study_id=(cells[layout.study].strip() if layout.study is not None else "") or f"row-{number - 1}",
        subject_id=subject or None,
        text=cells[layout.text] if layout.text is not None else None,
        extra={name: cells[n] for name, n in layout.others},
        **{ours: cells[n] or None for ours, n in layout.sections},
    )


class _Empty:
    """A counter of reports without text, which logs one warning."""

    def __init__(self, name: str):
        self.name, self.count, self.first = name, 0, 0

    def has_text(self, report: Report, number: int) -> bool:
        if has_text(report):
            return True
        self.first = self.first or number
        self.count += 1
        return False

    def warn(self) -> None:
        if self.count:
            log.warning(
                "%s:%d: no report text; %d such in all, passed over", self.name, self.first, self.count
            )


def has_text(report: Report) -> bool:
    """Return whether the report contains a word."""
    cells = (report.text, report.findings, report.impression, report.last_paragraph)
    return any(cell is not None and not cell.isspace() and cell != "" for cell in cells)


def read_text(content: bytes, decode: Decoder, path: Path, study_id: str) -> Report:
    """Return one text file as a report; raises BadRecord if it is binary or has no text."""
    if content.startswith(GZIP):
        raise BadRecord(GZIPPED)
    text = text_of(content, decode, str(path))
    if "\0" in text:
        raise BadRecord("this is binary, not a report")
    if not text.strip():
        raise BadRecord("no report text")
    return Report(study_id=study_id, subject_id=_subject(path), text=text)


def read_one(stream: BinaryIO, name: str, take: TakeBad = refuse) -> Iterator[Report]:
    """Yield the one report of a text file; its study is the file's stem ("report" for stdin).

    An empty file is not a report.
    """
    stem = Path(name).stem if not name.startswith("<") else "report"
    content = limits.whole(stream, name, limits.MAX_LINE)
    if not content:
        return
    try:
        yield read_text(content, Decoder("such files"), Path(name), stem)
    except BadRecord as bad:
        bad.place = f"{name}: "
        take(content, bad)


def _subject(path: Path) -> str | None:
    """Return the name of the patient's folder, if one is named as in MIMIC-CXR (p10000032)."""
    return next((each for each in reversed(path.parts[:-1]) if re.fullmatch(r"p\d{3,}", each)), None)


def read_tree(root: Path, take: TakeBad = refuse) -> Iterator[Report]:
    """Yield a report for each .txt below a folder, sorted by folder and name.

    The study is the file's stem. The patient is the folder with a name as in MIMIC-CXR (p10000032). If some
    files are named as in MIMIC-CXR (s50414267.txt), others (LICENSE.txt) are skipped.
    """
    found = good = 0
    decode = Decoder("such files")
    for path in folders.text_files(root):
        found += 1
        subject = _subject(path)
        if subject and not re.fullmatch(r"s\d+", path.stem):
            continue
        try:
            yield read_text(folders.content(path), decode, path, path.stem)
            good += 1
        except BadRecord as bad:
            bad.place = f"{path}: "
            take(str(path).encode() + b"\n", bad)
    if not found:
        raise MedgroundError(f"{root}: no .txt in it")
    if not good:
        raise MedgroundError(f"{root}: no report in it that can be read")
