"""Ordered results from several processes or threads."""

import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

from medground.errors import MedgroundError
from medground.threads import cores

Item = TypeVar("Item")
Result = TypeVar("Result")
FORKED = sys.platform.startswith("linux")  # elsewhere processes are spawned, and work is pickled


def ordered_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    advice: str = "use fewer --workers",
) -> Generator[Result]:
    """Yield work(item) for each item, in order, computed by `workers` processes; 1 is this process.

    At most four items per process are read in advance. The processes end with this one, even if it is killed.
    Exceptions of `work` are raised here. Raises MedgroundError with the advice if a process is killed.
    """
    if workers == 1:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("fork" if FORKED else "spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(work,))
    try:
        yield from _in_order(pool, _call, items, workers * 3)
    except OSError as error:  # of starting a process, or of `work`
        for process in set(multiprocessing.active_children()) - before:
            process.kill()  # they would wait for work that never comes
        if error.errno in (errno.EMFILE, errno.EAGAIN, errno.ENOMEM):
            raise MedgroundError(f"cannot start {workers} processes: {error.strerror}; {advice}") from error
        raise
    except BrokenExecutor:
        raise MedgroundError(f"a worker process was killed, probably for lack of memory; {advice}") from None
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], ahead: int = 4
) -> Generator[tuple[Item, Result]]:
    """Yield (item, work(item)) in order, from one thread per core with `ahead` items each in advance.

    Decoding images releases Python's lock, so threads are enough and nothing is copied between processes.
    """

    def both(item: Item) -> tuple[Item, Result]:
        return item, work(item)

    with ThreadPoolExecutor(cores()) as pool:
        yield from _in_order(pool, both, items, cores() * ahead - 1)


def _in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Generator[Result]:
    """Yield the results in the order of the items, with at most `most` others underway."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_work: list[Callable[[Any], Any]] = []  # of a worker process


def _start(work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work.append(work)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # workers have one
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _work[0](item)
