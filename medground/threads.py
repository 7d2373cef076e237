"""The number of threads that a computation uses, and how its threads wait."""

import os
import sys

SQUARE_OF_A_THREAD = 160 * 160  # pixels


def usable() -> int:
    """Return the number of threads: OMP_NUM_THREADS if it is set, otherwise the cores that may be used."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return cores()


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_square(side: int) -> int:
    """Return the number of threads for a network on squares of this side: at most as many as it can use.

    A square of 160 pixels takes a few milliseconds on one thread, and more threads would wait for each other.
    """
    return max(1, min(usable(), side * side // SQUARE_OF_A_THREAD))


def wait_passively() -> None:
    """Let torch's threads sleep while they wait; call this before torch is imported.

    By default they spin. On a busy machine a thread that spins takes the core from the one that it waits for,
    and a prediction takes five times as long. An OMP_WAIT_POLICY of the user is kept.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
