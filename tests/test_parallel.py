"""Ordered results from processes and threads, and an end that leaves no process behind."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import gone, workers_of

from medground import parallel
from medground.errors import MedgroundError


def square(n: int) -> int:
    time.sleep(0.01 if n % 3 == 0 else 0)  # so that results are not ready in order
    return n * n


def fail(n: int) -> int:
    raise MedgroundError(f"item {n}")


def die(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_results_keep_the_order_of_the_items(workers, count):
    assert list(parallel.ordered_map(square, range(count), workers)) == [n * n for n in range(count)]


@pytest.mark.skipif(not parallel.FORKED, reason="spawned processes get the work pickled")
def test_forked_processes_run_a_function_that_cannot_be_pickled():
    assert list(parallel.ordered_map(lambda n: -n, range(5), 2)) == [0, -1, -2, -3, -4]


def test_only_a_few_items_are_read_in_advance():
    taken = itertools.count()
    results = parallel.ordered_map(square, (next(taken) for _ in range(1000)), 2)
    assert next(results) == 0
    results.close()
    assert next(taken) <= 8


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_of_the_work_is_raised_here(workers):
    with pytest.raises(MedgroundError, match="item 3"):
        list(parallel.ordered_map(fail, [3], workers))


def test_a_killed_worker_is_one_error_with_advice():
    with pytest.raises(MedgroundError, match=r"a worker process was killed.*; use fewer --workers"):
        list(parallel.ordered_map(die, range(3), 2))


SLEEPERS = "import time; from medground import parallel; list(parallel.ordered_map(time.sleep, [30] * 9, 2))"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_worker_processes_end_with_a_parent_that_is_killed(by):
    with subprocess.Popen([sys.executable, "-c", SLEEPERS]) as process:
        workers = workers_of(process, 2)
        time.sleep(0.3)
        process.send_signal(by)
        assert process.wait(timeout=30) == -by and gone(workers)


def test_threads_keep_the_order_and_return_each_item_with_its_result():
    assert list(parallel.in_threads(square, range(50), ahead=2)) == [(n, n * n) for n in range(50)]


def test_threads_read_only_a_few_items_in_advance():
    taken = itertools.count()
    results = parallel.in_threads(lambda n: n, (next(taken) for _ in range(1000)), ahead=1)
    next(results)
    results.close()
    assert next(taken) <= parallel.cores() + 1
