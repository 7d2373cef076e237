"""Which processes run, from /proc; for tests that no worker outlives its parent."""

import time
from pathlib import Path


def running() -> dict[int, int]:
    """Return the parent of each running process; zombies are left out."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found[int(stat.parent.name)] = int(parent)
    return found


def workers_of(process, count: int) -> list[int]:
    """Wait until the process has this many children and return their IDs."""
    while len(workers := [pid for pid, parent in running().items() if parent == process.pid]) < count:
        assert process.poll() is None
        time.sleep(0.02)
    return workers


def gone(pids: list[int]) -> bool:
    """Return whether all of them end within ten seconds."""
    until = time.monotonic() + 10
    while still := running().keys() & set(pids):
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    return not still
