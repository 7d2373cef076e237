"""Progress on stderr: a bar on a terminal, one line per minute in a batch log, nothing with --quiet."""

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
    """Yield the items; show a bar on a terminal, or log one line per `every` seconds.

    `start` is the number of items that an earlier run has done. Without warnings (--quiet) nothing is shown.
    """
    if not log.isEnabledFor(logging.WARNING):
        yield from items
    elif sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=label, total=total, initial=start, file=sys.stderr, leave=False)
    else:
        yield from _heartbeat(items, label, total, every, start)


def _heartbeat(
    items: Iterable[Item], label: str, total: int | None, every: float, start: int
) -> Iterator[Item]:
    began = shown = time.monotonic()
    done = start
    for item in items:
        yield item
        done += 1
        if (now := time.monotonic()) - shown >= every:
            shown = now
            share = f" of {total}" if total else ""
            log.warning("%s: %d%s, %.1f per second", label, done, share, (done - start) / (now - began))
