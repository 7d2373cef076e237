"""Reports spread over processes: the parent sends chunks of reports and receives finished bytes, in order.

The parent reads the input and writes the output, a twentieth of the work. Workers parse reports and encode
JSON. The output does not depend on the number of workers.
"""

import time
from collections import namedtuple
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any

CHUNK = 256  # maximum reports per chunk: few, so that no worker waits long for the last chunk
WEIGHT = 1 << 20  # maximum characters per chunk; the result is about ten times as long
PATIENCE = 0.2  # seconds that a chunk of a slow pipe waits for further reports

# Finished bytes, numbers and reasons of reports with text that gave no sentence, and the number of reports.
Result = tuple[bytes, list[tuple[int, str]], int]
Render = Callable[[Iterable[Any]], Result]


def spread(
    reports: Iterable[Any], build: Callable[..., Render], build_with: tuple[Any, ...], workers: int
) -> Generator[Result]:
    """Yield the results of `build(*build_with)` on chunks of the reports, in order, by `workers` processes.

    At most four chunks for each process are in memory. Raises MedgroundError if a process is killed.
    The processes end with this one, even if it is killed.
    """
    from medground.parallel import FORKED, ordered_map

    work = _Work(build, build_with)
    if workers == 1:
        return ordered_map(work.prepare(), _chunks(reports), workers)
    if FORKED:
        work.prepare()
    return ordered_map(work, map(_packed, _chunks(reports)), workers)


def _chunks(reports: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the reports in short lists."""
    chunk: list[Any] = []
    weight, began = 0, time.monotonic()
    for report in reports:
        chunk.append(report)
        weight += sum(map(len, filter(None, (report.text, report.findings, report.impression))))
        if len(chunk) == CHUNK or weight > WEIGHT or time.monotonic() - began > PATIENCE:
            yield chunk
            chunk, weight, began = [], 0, time.monotonic()
    if chunk:
        yield chunk


def _packed(chunk: list[Any]) -> list[tuple[Any, ...]]:
    """Return the reports as tuples: sending records would cost a tenth of the parsing time."""
    return list(map(attrgetter(*_names()), chunk))


@cache
def _names() -> tuple[str, ...]:
    from medground.records import Report

    return tuple(each.name for each in fields(Report))


@cache
def _unpacked() -> Callable[[tuple[Any, ...]], Any]:
    """Return a function that gives a tuple the attributes of a report, which is faster than making one."""
    made: Any = namedtuple("Unpacked", _names())  # type: ignore[misc]  # the names are those of the fields
    make: Callable[[tuple[Any, ...]], Any] = made._make
    return make


class _Work:
    """Renders packed chunks. The renderer is built once before processes fork, or in each spawned one."""

    def __init__(self, build: Callable[..., Render], build_with: tuple[Any, ...]):
        self._recipe = build, build_with
        self._render: Render | None = None

    def __getstate__(self) -> tuple[Any, ...]:
        return self._recipe

    def __setstate__(self, recipe: tuple[Any, ...]) -> None:
        self._recipe, self._render = recipe, None

    def prepare(self) -> Render:
        """Return the renderer, built on the first call."""
        if self._render is None:
            build, build_with = self._recipe
            self._render = build(*build_with)
        return self._render

    def __call__(self, chunk: list[tuple[Any, ...]]) -> Result:
        return self.prepare()(map(_unpacked(), chunk))
