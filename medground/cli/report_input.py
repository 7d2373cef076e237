"""The reports that parse-reports reads: from a file, a folder or stdin."""

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any


def open_reports(
    stack: ExitStack, source: str, columns: Any, bad_lines: Any, keep_empty: bool = False
) -> Iterator[Any]:
    """Yield the reports of a file of any supported kind, a folder or stdin.

    With `keep_empty`, rows of a table without text are reports, too. Raises MedgroundError for names of
    `columns` if the reports are not in a table.
    """
    from medground import encodings, jsonl, limits
    from medground.errors import MedgroundError
    from medground.records import Report
    from medground.reports import input as report_input
    from medground.reports import input_kind

    name = "<stdin>" if source == "-" else source
    named = columns not in (None, report_input.Columns())
    no_table = MedgroundError(f"{name}: not a table: leave out --text-column and other names of columns")
    if source != "-" and Path(source).is_dir():
        if named:
            raise no_table
        return report_input.read_tree(Path(source), bad_lines.take)
    stream: Any = sys.stdin.buffer if source == "-" else stack.enter_context(Path(source).open("rb"))  # noqa: SIM115
    if not hasattr(stream, "peek"):
        stream = io.BufferedReader(stream)
    stream = encodings.as_utf8(stream, name)
    kind = input_kind.kind_of(stream.peek(65536), "" if source == "-" else source)
    if kind == "table" or (named and kind == "text"):  # a header of unknown names looks like text
        return report_input.read_table(stream, name, columns, bad_lines.take, keep_empty)
    if named:
        raise no_table
    if kind == "jsonl":
        return jsonl.read(encodings.Utf8Lines(limits.lines_or_long(stream), name), Report, bad_lines)
    return report_input.read_one(stream, name, bad_lines.take)
