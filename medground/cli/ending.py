"""The end of a command that has loaded an export: to free its graphs would take as long as a prediction."""

import contextlib
import logging
import os
import sys
import threading
from typing import Any

_kept: list[Any] = []


def keep(model: Any) -> None:
    """Keep a model until the process ends, in the place of one that was kept before."""
    _kept[:] = [model]


def end(code: Any) -> None:
    """End the process with the code of a SystemExit if a model is kept, after all output is written.

    Return if there is none, if torch or another thread has to end in order, or if output cannot be written.
    """
    if not _kept or "torch" in sys.modules or threading.active_count() > 1:
        return
    if not isinstance(code, int | None):
        return
    with contextlib.suppress(OSError, ValueError):  # the normal end of the process reports it
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
