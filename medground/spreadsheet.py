"""Cells of CSV files that a spreadsheet shows and does not run.

Spreadsheets run a cell that begins with = + - @, a tab or a line end as a formula, also in a file of others.
Such a text gets an apostrophe in front, which a spreadsheet hides. Numbers stay numbers. `plain` undoes it.
"""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def cell(value: Any) -> Any:
    """Return the value of a cell; a text that would run has an apostrophe in front."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def line(values: Iterable[Any]) -> str:
    """Return a row of cells as a line of CSV; a carriage return inside a cell does not end the row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(map(cell, values))  # so it quotes both line ends
    return text.getvalue().removesuffix("\r\n") + "\n"


def plain(text: str) -> str:
    """Return the text that `cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
