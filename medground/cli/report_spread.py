"""Reports spread over processes: chunks of reports go out, finished bytes come back, in order.

The parent reads the input and writes the output, a twentieth of the work; what is costly, parsing and
making JSON, happens in the workers. Nothing that is written depends on how many of them there are.
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

CHUNK = 256  # reports that travel at once: so few that no worker waits long for the last of them
WEIGHT = 1 << 20  # ... or their characters; what comes back is some ten times as much
PATIENCE = 0.2  # seconds that a chunk of a slow pipe waits for further reports

# finished bytes, the studies in which there was nothing to read, and how many reports that answers
Answer = tuple[bytes, list[str], int]
Render = Callable[[Iterable[Any]], Answer]


def spread(
    reports: Iterable[Any], build: Callable[..., Render], build_with: tuple, workers: int
) -> Generator[Answer]:
    """What `build(*build_with)` makes of the reports, in their order, by `workers` processes.

    No more than four chunks for each process are in memory. Raises MedgroundError where a process was
    killed. The processes end with this one, however that ends.
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
            "a worker process was killed, for want of memory perhaps; try fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        _render.clear()


def _chunks(reports: Iterable[Any]) -> Iterator[list[Any]]:
    """The reports in short lists."""
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


def _in_order(pool: Any, chunks: Iterator[list[Any]], ahead: int) -> Iterator[Answer]:
    """The answers to the chunks; while one is waited for, at most `ahead` others are on their way."""
    waiting: deque = deque()
    for chunk in chunks:
        waiting.append(pool.submit(_work, _packed(chunk)))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _pool(workers: int, build: Callable[..., Render], build_with: tuple) -> Any:
    """The processes. Where they can be forked, the parser is built once, before."""
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if built:
        build, build_with = built
        _render.append(build(*build_with))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # workers have one
    parent.join()
    os._exit(1)


def _packed(chunk: list[Any]) -> list[tuple]:
    """The reports as tuples: records would cost a tenth of the parsing to send."""
    from medground.records import Report

    return list(map(attrgetter(*(each.name for each in fields(Report))), chunk))


def _work(chunk: list[tuple]) -> Answer:
    from medground.records import Report

    names = [each.name for each in fields(Report)]
    return _render[0](Report(**dict(zip(names, values, strict=True))) for values in chunk)
