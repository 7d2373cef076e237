"""The end of a command: its last output, and a quick end after an export, whose graphs take long to free."""

import contextlib
import errno
import logging
import os
import sys
import threading
from typing import Any

import click

_kept: list[Any] = []


def keep(model: Any) -> None:
    """Keep a model until the process ends, in the place of one that was kept before."""
    _kept[:] = [model]


def written(code: Any) -> Any:
    """Write what stdout still holds, and return the exit code; 1, after a message, if only this fails.

    What cannot be written is dropped. Otherwise Python tries it again at its end, and shows a traceback.
    """
    if sys.stdout.closed:
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if not code and error.errno != errno.EPIPE:  # a reader that has left, such as head, needs no message
            click.echo(f"Error: {error.strerror}", err=True)
        return code or 1
    return code


def end(code: Any) -> None:
    """End the process with the code of a SystemExit if a model is kept; stdout is `written` before.

    Return if there is none, if torch or another thread has to end in order, or if stderr cannot be written.
    """
    if not _kept or "torch" in sys.modules or threading.active_count() > 1:
        return
    if not isinstance(code, int | None):
        return
    with contextlib.suppress(OSError, ValueError):  # the normal end of the process reports it
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code or 0)
