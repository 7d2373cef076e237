"""The journal of an output file."""

import io
import os
import time

from medground import resuming


class Stream(io.BytesIO):
    """An output without a file."""

    def fileno(self) -> int:
        return 0


def test_syncing_a_slow_disk_takes_a_small_share_of_the_time(monkeypatch):
    now, synced = [0.0], []

    def sync(_: int) -> None:
        synced.append(now[0])
        now[0] += 0.1

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fsync", sync)
    notes = io.BytesIO()
    journal = resuming.Journal(Stream(), notes)
    for _ in range(1000):
        now[0] += 0.05
        journal.add(b"x\n")
    assert 0.1 * len(synced) < now[0] / 15
    assert len(synced) > 20  # one in about two seconds
    assert len(notes.getvalue().splitlines()) == len(synced)
