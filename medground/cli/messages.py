"""Messages on stderr that quote no value of the input, as it may be patient data.

Our own messages are written without values. Errors, warnings and logs of libraries are not: pydicom quotes
header values, PIL logs tags of files, and Python's own errors quote text. So a traceback shows its frames and
the kinds of its errors, with the message only if that kind has none of the input. Warnings of libraries are
shown as their place, with -vv. Logs of libraries that read files are not shown.
"""

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO

from medground.errors import MedgroundError, printable

log = logging.getLogger(__name__)
READERS = ("pydicom", "highdicom", "PIL", "py", "spacy")  # loggers of libraries that read files of patients
HARMLESS = (MedgroundError, AssertionError, AttributeError, ImportError, MemoryError, NameError, RuntimeError)


class Formatter(logging.Formatter):
    """A format that keeps each message on one line, and whose tracebacks quote no value."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message without control characters; a traceback follows on its own lines."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback for a record with `exc_info`."""
        return trace(ei[1])


def configure() -> None:
    """Send messages to stderr, from the level WARNING on until -v and -q change it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(_may_be_shown)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    warnings.showwarning = _show_warning


def _may_be_shown(record: logging.LogRecord) -> bool:
    """Return whether the message is our own, or a warning of a library that reads no file of a patient."""
    library = record.name.split(".")[0]
    return library == "medground" or (record.levelno >= logging.WARNING and library not in READERS)


def hide_values_of_crashes() -> None:
    """Show uncaught errors as `trace` does, also those that Python ignores.

    For the program, not for a notebook or a test.
    """
    sys.excepthook = _show_crash
    sys.unraisablehook = _show_ignored
    threading.excepthook = lambda args: print(trace(args.exc_value or args.exc_type()), file=sys.stderr)


def trace(error: BaseException) -> str:
    """Return the traceback of an error and of its causes, without messages that may quote a value."""
    return "".join(_parts(error)).rstrip("\n")


def _parts(error: BaseException) -> Iterator[str]:
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        yield from _parts(earlier)
        yield "\nDuring it, or because of it:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    harmless = isinstance(error, HARMLESS) and not isinstance(error, NotImplementedError)
    yield f"{type(error).__name__}: {error if harmless else '(not shown, it may quote a value)'}\n"


def _show_crash(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, error.__traceback__)
    else:
        print(trace(error), file=sys.stderr)


def _show_ignored(found: "sys.UnraisableHookArgs") -> None:
    """Show an error that nothing can catch, such as one of a generator that is thrown away."""
    print("Ignored:", trace(found.exc_value or found.exc_type()), file=sys.stderr)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log the place of a warning of a library. Our own warnings are log messages."""
    log.debug("%s at %s:%d", category.__name__, filename, lineno)
