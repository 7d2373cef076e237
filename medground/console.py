"""What a person sees while a command works: a bar on a terminal, a line a minute in a batch log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)
Item = TypeVar("Item")


def progress(
    items: Iterable[Item], label: str, total: int | None = None, every: float = 60.0, start: int = 0
) -> Iterator[Item]:
    """Pass the items through; show a bar on a terminal, a line each `every` seconds in a batch log.

    `start` counts items done by an earlier run, so that a resumed bar goes on where it stood.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=label, total=total, initial=start, file=sys.stderr, leave=False)
    else:
        yield from _heartbeat(items, label, total, every, start)


def _heartbeat(
    items: Iterable[Item], label: str, total: int | None, every: float, start: int
) -> Iterator[Item]:
    began = said = time.monotonic()
    done = start
    for item in items:
        yield item
        done += 1
        if (now := time.monotonic()) - said >= every:
            said = now
            share = f" of {total}" if total else ""
            log.warning("%s: %d%s, %.1f a second", label, done, share, (done - start) / (now - began))
