"""Where parse-reports finds its reports, and how it spreads them over processes."""

import io
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 256  # reports that travel to a process at once
Render = Callable[[Iterable[Any]], bytes]


def open_reports(stack: ExitStack, source: str, columns: Any, bad_lines: Any) -> Iterator[Any]:
    """The reports of a file, a folder or stdin, whatever kind of file it is."""
    from medground import jsonl
    from medground.records import Report
    from medground.reports import input as report_input

    if source != "-" and Path(source).is_dir():
        return report_input.read_tree(Path(source), bad_lines.take)
    stream: Any = sys.stdin.buffer if source == "-" else stack.enter_context(Path(source).open("rb"))  # noqa: SIM115
    if not hasattr(stream, "peek"):
        stream = io.BufferedReader(stream)
    name = "<stdin>" if source == "-" else source
    kind = report_input.kind_of(stream.peek(65536), "" if source == "-" else source)
    if kind == "jsonl":
        return jsonl.read(stream, Report, bad_lines)
    if kind == "table":
        return report_input.read_table(stream, name, columns, bad_lines.take)
    return report_input.read_one(stream, name, bad_lines.take)


def spread(
    reports: Iterable[Any], build: Callable[..., Render], build_with: tuple, workers: int
) -> Iterator[bytes]:
    """What `build(*build_with)` makes of the reports, in their order, by `workers` processes.

    Chunks go out and bytes come back; no more than a few chunks for each process are in memory.
    """
    source = iter(reports)
    chunks = iter(lambda: list(itertools.islice(source, CHUNK)), [])
    if workers == 1:
        yield from map(build(*build_with), chunks)
        return
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, initializer=_start, initargs=(build, build_with)) as pool:
        waiting: deque = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_work, _packed(chunk)))
            if len(waiting) > workers * 3:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_render: list[Render] = []  # of this process


def _start(build: Callable[..., Render], build_with: tuple) -> None:
    _render.append(build(*build_with))


def _packed(chunk: list[Any]) -> list[tuple]:
    """The reports as tuples: records would cost a tenth of the parsing to pickle and build again."""
    from medground.records import Report

    values = attrgetter(*(each.name for each in fields(Report)))
    return [values(report) for report in chunk]


def _work(chunk: list[tuple]) -> bytes:
    from medground.records import Report

    names = [each.name for each in fields(Report)]
    return _render[0](Report(**dict(zip(names, values, strict=True))) for values in chunk)


def write(stream: BinaryIO, parts: Iterable[bytes]) -> None:
    """Write the parts as they come."""
    for part in parts:
        stream.write(part)
        stream.flush()
