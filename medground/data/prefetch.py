"""Batches prepared ahead of the training step, in the same order.

Threads, not processes: decoding, resizing, noise and augmentation run outside Python's lock, images stay in
one store, and no data has to be sent. A batch depends only on its step, so the thread has no effect.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Prefetched(Generic[Made]):
    """An iterator over (step, make(step)); `workers` threads work ahead.

    waited: seconds that the reader has waited for batches so far. Exceptions of `make` are raised at the turn
    of their step.
    """

    def __init__(self, make: Callable[[int], Made], steps: Iterable[int], workers: int = 1):
        self._make, self._steps, self._workers = make, steps, workers
        self.waited = 0.0

    def __iter__(self) -> Iterator[tuple[int, Made]]:
        if not self._workers:
            for step in self._steps:
                yield step, self._timed(lambda step=step: self._make(step))  # type: ignore[misc]
            return
        pool = ThreadPoolExecutor(self._workers, "batches")
        try:
            yield from self._ahead(pool)
        finally:
            pool.shutdown(cancel_futures=True)

    def _ahead(self, pool: ThreadPoolExecutor) -> Iterator[tuple[int, Made]]:
        waiting: deque[tuple[int, Future[Made]]] = deque()
        for step in self._steps:
            waiting.append((step, pool.submit(self._make, step)))
            if len(waiting) > self._workers + 1:  # one is ready while each thread works on another
                first, made = waiting.popleft()
                yield first, self._timed(made.result)
        while waiting:
            first, made = waiting.popleft()
            yield first, self._timed(made.result)

    def _timed(self, wait: Callable[[], Made]) -> Made:
        began = time.perf_counter()
        try:
            return wait()
        finally:
            self.waited += time.perf_counter() - began
