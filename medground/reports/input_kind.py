"""The kind of an input of reports, by its name or its first bytes: a table, JSON lines, or one text."""

import csv
import io
import re
from pathlib import Path

from medground.errors import MedgroundError
from medground.reports.input import IDS, SECTIONS, SUBJECTS, TEXTS, delimiter_of

NAME = re.compile(r'("?)[^\W\d][\w.-]{0,30}( [\w.()-]{1,30}){0,2}\1')  # of an unknown column


def refuse_many(start: bytes, name: str) -> None:
    """Raise MedgroundError if a file with this start is a table or JSON lines, not the text of one report.

    A first line of one word ("FINDINGS") is not a table's, unless the file's name is a table's.
    """
    kind, first = kind_of(start, name), start.split(b"\n", 1)[0]
    named = Path(name).suffix.lower() in (".csv", ".tsv")
    if kind == "jsonl" or (kind == "table" and (named or re.search(rb"[,;\t|]", first))):
        what = "JSON lines" if kind == "jsonl" else "a table"
        raise MedgroundError(f"{name}: {what}, where the text of one report is wanted; save that as .txt")


def kind_of(start: bytes, name: str) -> str:
    """Return "jsonl", "table" or "text": by the file's name, otherwise by its first bytes."""
    suffix = Path(name).suffix.lower()
    if suffix in (".jsonl", ".ndjson", ".json"):
        return "jsonl"
    if suffix in (".csv", ".tsv"):
        return "table"
    if suffix == ".txt":
        return "text"
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{"):
        return "jsonl"
    first = start.split(b"\n", 1)[0].decode("latin-1").lower()
    names = {each.strip().strip('"') for each in re.split(r"[,;\t|]", first)}
    known = names & {*IDS, *SUBJECTS, *TEXTS, *SECTIONS}
    return "table" if known or _has_columns(start.decode(errors="ignore")) else "text"


def _has_columns(start: str) -> bool:
    """Return whether a text starts as a table with unknown names does.

    Its first line has two or more names of at most three words, without a space after the delimiter, unlike a
    sentence. All rows after it have as many cells. The last row may be cut, unless it is the only one.
    """
    first = start.split("\n", 1)[0].rstrip("\r")
    delimiter = delimiter_of(first)
    names = first.split(delimiter)
    if len(names) < 2 or not all(NAME.fullmatch(each) for each in names):
        return False
    try:
        rows = [row for row in csv.reader(io.StringIO(start, newline=""), delimiter=delimiter) if row][1:]
    except csv.Error:
        return False
    widths = {len(row) for row in rows[: max(1, len(rows) - 1)]}
    return widths == {len(names)}
