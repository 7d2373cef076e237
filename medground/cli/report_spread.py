"""Parallel parsing: chunks of reports go to worker processes, and finished bytes return in order.

The parent reads the input and writes the output, a twentieth of the work. Workers parse and make JSON. The
output does not depend on the number of workers.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any

CHUNK = 256  # reports per chunk: few enough that no worker waits long for the last chunk
WEIGHT = 1 << 20  # ... or characters per chunk; the result is about ten times as large
PATIENCE = 0.2  # seconds that a chunk waits for more reports of a slow pipe

# finished bytes, the studies without findings or impression, and the number of reports
Result = tuple[bytes, list[str], int]
Render = Callable[[Iterable[Any]], Result]


def spread(
    reports: Iterable[Any], build: Callable[..., Render], build_with: tuple, workers: int
) -> Generator[Result]:
    """Yield the results of `build(*build_with)` for the reports, in order, from `workers` processes.

    At most four chunks per process are in memory. Raises MedgroundError if a process was killed. The
    processes end when this process ends.
    """
    chunks = _chunks(reports)
    if workers == 1:
        yield from map(build(*build_with), chunks)
        return
    from concurrent.futures import BrokenExecutor

    from medground.errors import MedgroundError

    pool = _pool(workers, build, build_with)
    try:
        yield from _in_order(pool, chunks, workers * 3)
    except BrokenExecutor:
        raise MedgroundError(
            "a worker process was killed, perhaps for lack of memory; try fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        _render.clear()


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


def _in_order(pool: Any, chunks: Iterator[list[Any]], ahead: int) -> Iterator[Result]:
    """Yield the results of the chunks in order; at most `ahead` further chunks are in progress."""
    waiting: deque = deque()
    for chunk in chunks:
        waiting.append(pool.submit(_work, _packed(chunk)))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _pool(workers: int, build: Callable[..., Render], build_with: tuple) -> Any:
    """Return the process pool. With fork, the parser is built once, in the parent."""
    from concurrent.futures import ProcessPoolExecutor

    forked = sys.platform.startswith("linux")
    if forked:
        _render.append(build(*build_with))
    return ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("fork" if forked else "spawn"),
        initializer=_start,
        initargs=() if forked else (build, build_with),
    )


_render: list[Render] = []  # of this process


def _start(*built: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if built:
        build, build_with = built
        _render.append(build(*build_with))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    parent.join()
    os._exit(1)


def _packed(chunk: list[Any]) -> list[tuple]:
    """Return the reports as tuples: sending records would take a tenth of the parsing time."""
    from medground.records import Report

    return list(map(attrgetter(*(each.name for each in fields(Report))), chunk))


def _work(chunk: list[tuple]) -> Result:
    from medground.records import Report

    names = [each.name for each in fields(Report)]
    return _render[0](Report(**dict(zip(names, values, strict=True))) for values in chunk)
