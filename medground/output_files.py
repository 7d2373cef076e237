"""Output files: written under another name, and moved when they are complete.

`create` is for an output that the user names. It holds its lock, and a failed run leaves PATH.partial.
`replacing` is for the files inside a folder, such as a run folder or pictures.
"""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from medground import locks
from medground.errors import MedgroundError

PARTIAL = ".partial"
DONE = ".done"  # PATH.partial.done records how much of PATH.partial is complete
_DESCRIPTOR = re.compile(r"/dev/(stdout|stderr|fd/(\d+))$|/proc/self/fd/(\d+)$")


@contextmanager
def create(path: str | Path) -> Iterator[BinaryIO]:
    """Open stdout for "-", otherwise a file that gets its name only when the block succeeds.

    A run that fails leaves PATH unchanged, and its own output in PATH.partial. A device or a pipe is written
    directly, since it cannot be replaced.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    if is_special(path):
        with _opened(str(path)) as stream:
            yield stream
            stream.flush()
        return
    with locked(path) as target:
        forget_progress(target)
        with naming(path), open(target + PARTIAL, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(target + PARTIAL, target)


@contextmanager
def locked(path: str | Path) -> Iterator[str]:
    """Hold the lock of an output file and yield its path; for a symbolic link, the path of its target."""
    target = os.path.realpath(path) if os.path.islink(path) else str(path)
    with locks.hold(target):
        for path in (target + PARTIAL, target + PARTIAL + DONE, mark_of(target)):
            if os.path.islink(path):
                raise MedgroundError(f"{path}: a symbolic link in the place of our own file; remove it")
        yield target


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[None]:
    """Make a folder and hold its lock; remove it again if nothing was written into it."""
    made = not os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    try:
        with locks.hold(folder):
            yield
    finally:
        if made:
            with suppress(OSError):  # it has files
                os.rmdir(folder)


@contextmanager
def direct(path: str | Path) -> Iterator[BinaryIO]:
    """Open an output that is written under its own name, locked unless it is a device or a pipe."""
    if str(path) == "-":
        yield sys.stdout.buffer
    elif is_special(path):
        with _opened(str(path)) as stream:
            yield stream
    else:
        with locked(path) as target, naming(path), open(target, "wb") as stream:
            yield stream


def forget_progress(target: str) -> None:
    """Delete what describes an earlier output of this name, and its partial file."""
    for path in (target + PARTIAL + DONE, mark_of(target)):
        Path(path).unlink(missing_ok=True)


def mark_of(target: str) -> str:
    """Return the path of the hidden file that describes how a finished output was made."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}{DONE}")


@contextmanager
def replacing(
    path: str | Path, sync: bool = True, before: Callable[[], None] = lambda: None
) -> Iterator[BinaryIO]:
    """Open a file that replaces PATH when the block succeeds; nothing of it is left if the block fails.

    `before` is called immediately before it is moved.
    """
    partial = Path(f"{path}{PARTIAL}")
    if partial.is_symlink():
        partial.unlink()  # else the file that it leads to would be emptied
    try:
        with naming(path), open(partial, "wb") as stream:
            yield stream
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        before()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # of a failed block; frees its space on a full disk


@contextmanager
def keeping(path: str | Path, kept: str) -> Iterator[None]:
    """Turn an OSError into a MedgroundError that names the file and says what was kept."""
    try:
        yield
    except OSError as error:
        raise MedgroundError(f"{path}: {error.strerror}; {kept}") from None


def is_special(path: str | Path) -> bool:
    """Return whether the path is a device, a pipe or a stream of this process, not an ordinary file."""
    return bool(_DESCRIPTOR.match(str(path))) or (os.path.exists(path) and not os.path.isfile(path))


def _opened(path: str) -> BinaryIO:
    """Return the stream of a special path; a stream of this process is continued, never emptied."""
    if found := _DESCRIPTOR.match(path):
        number = {"stdout": 1, "stderr": 2}.get(found[1]) or int(found[2] or found[3])
        for own in (sys.stdout, sys.stderr):
            own.flush()
        return os.fdopen(os.dup(number), "wb")
    return open(path, "wb")


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add the file's name to an error without one; a full disk is reported without a name."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            error.filename = str(path)
        raise
