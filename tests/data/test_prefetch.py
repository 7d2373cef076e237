"""Batches made ahead are the same batches, in the same order."""

import threading
import time

import pytest

from medground.data.prefetch import Prefetched


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_order_is_that_of_the_steps(workers):
    def make(step: int) -> int:
        time.sleep(0.002 * (step % 3))  # later ones may be ready first
        return step * 10

    assert list(Prefetched(make, range(4, 20), workers)) == [(step, step * 10) for step in range(4, 20)]


def test_the_next_ones_are_made_while_one_is_worked_on():
    made = []
    batches = iter(Prefetched(lambda step: made.append(step), range(9), 1))
    next(batches)
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_comes_at_its_step(workers):
    def make(step: int) -> int:
        if step == 2:
            raise OSError("gone")
        return step

    seen = []
    with pytest.raises(OSError, match="gone"):
        seen.extend(Prefetched(make, range(5), workers))
        pytest.fail("nothing was raised")
    seen = []
    with pytest.raises(OSError, match="gone"):
        for step, _ in Prefetched(make, range(5), workers):
            seen.append(step)
    assert seen == [0, 1]


def test_no_thread_is_left_behind():
    before = threading.active_count()
    for step, _ in Prefetched(lambda step: step, range(100), 3):
        if step == 5:
            break
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_the_time_waited_is_counted():
    batches = Prefetched(lambda step: time.sleep(0.02), range(3), 0)
    list(batches)
    assert 0.05 < batches.waited < 5
