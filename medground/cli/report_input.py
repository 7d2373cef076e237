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

    With `keep_empty`, rows of a table without text are reports, too.
    """
    from medground import encodings, jsonl, limits
    from medground.records import Report
    from medground.reports import input as report_input

    if source != "-" and Path(source).is_dir():
        return report_input.read_tree(Path(source), bad_lines.take)
    stream: Any = sys.stdin.buffer if source == "-" else stack.enter_context(Path(source).open("rb"))  # noqa: SIM115
    if not hasattr(stream, "peek"):
        stream = io.BufferedReader(stream)
    name = "<stdin>" if source == "-" else source
    stream = encodings.as_utf8(stream, name)
    kind = report_input.kind_of(stream.peek(65536), "" if source == "-" else source)
    if kind == "jsonl":
        return jsonl.read(encodings.Utf8Lines(limits.lines_or_long(stream), name), Report, bad_lines)
    if kind == "table":
        return report_input.read_table(stream, name, columns, bad_lines.take, keep_empty)
    return report_input.read_one(stream, name, bad_lines.take)
