"""The journal of an output file."""

import io
import os
import time
from pathlib import Path

import pytest

from medground import jsonl, resuming
from medground.errors import MedgroundError
from medground.records import Image


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


def test_what_belongs_to_a_record_is_part_of_the_input(tmp_path):
    """The size of an image file stands for the image: a record whose image has changed is another input."""
    path, records = str(tmp_path / "out.jsonl"), [Image(image_id=str(n), path="a.png") for n in range(3)]

    def go_on(also, count):
        with resuming.go_on(path, ["image_id"], {"model": "m"}) as (stream, held, follow):
            for each in follow(records[:count], lambda record: also[record.image_id]):
                if (each.image_id,) not in held:
                    stream.write(jsonl.dumps(each))

    sizes = {str(n): b"10" for n in range(3)}
    go_on(sizes, 2)
    go_on(sizes, 3)
    assert Path(path).read_bytes().count(b"\n") == 3
    with pytest.raises(MedgroundError, match="the input differs from the earlier run's"):
        go_on(sizes | {"1": b"11"}, 3)
