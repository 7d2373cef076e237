"""Locks on output files and folders, so that no two runs write to one place at once.

A lock is `flock` on a small file that names its holder. The system releases it when the process ends, also by
SIGKILL. So a lock is never stale, and a file that a killed run left is simply locked again. Linux passes
`flock` on to the server of an NFS folder, so a lock also holds between machines. A file system without locks
gives a warning. Some file systems lock on each machine apart (NFS with `local_lock`, Lustre with
`localflock`): a lock file that another machine has left gives a warning, too.
"""

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from medground.errors import MedgroundError

log = logging.getLogger(__name__)
OF_FOLDER = ".medground.lock"  # in a locked folder
OF_FILE = ".partial.lock"  # after the name of a locked file
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
HELD = {errno.EAGAIN, errno.EACCES}


@contextmanager
def hold(place: str | Path, name: str = OF_FOLDER) -> Iterator[None]:
    """Hold the lock of an output file, or of a folder under `name`.

    Raises MedgroundError that names the host, process and start of the run that holds it.
    """
    path = os.path.join(place, name) if os.path.isdir(place) else f"{place}{OF_FILE}"
    descriptor = _locked(path, str(place))
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)  # while it is locked: the next run then locks a new file
        os.close(descriptor)


def _locked(path: str, place: str) -> int:
    """Return an open descriptor of the locked file, which has its name still."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise MedgroundError(f"{path}: a symbolic link in the place of a lock; remove it") from None
            error.filename = place
            raise
        with ExitStack() as stack:
            stack.callback(os.close, descriptor)
            _lock(descriptor, place)
            if _is_at(descriptor, path):  # else its holder has ended and removed it
                _warn_of_other_machine(descriptor, place)
                _name_holder(descriptor)
                stack.pop_all()
                return descriptor


def _lock(descriptor: int, place: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            log.warning("%s: this file system has no locks; run one command at a time", place)
            return
        if error.errno not in HELD:
            raise
        raise MedgroundError(f"{place}: in use by {_holder(descriptor)}; wait for it or stop it") from None


def _warn_of_other_machine(descriptor: int, place: str) -> None:
    """Warn if a run on another machine has not removed its lock: it was killed, or does not see this lock."""
    about = _about(descriptor)
    if about and about["host"] != socket.gethostname():
        words = "%s: check that %s has ended; some file systems do not lock between machines"
        log.warning(words, place, _words(about))


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _name_holder(descriptor: int) -> None:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
    with suppress(OSError):  # on a full disk the lock holds without a name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
        os.fdatasync(descriptor)  # for readers on other machines


def _holder(descriptor: int) -> str:
    """Return the words for the run that holds the lock."""
    about = _about(descriptor)
    return _words(about) if about else "another run"


def _about(descriptor: int) -> dict[str, str] | None:
    """Return the host, process and start in a lock file, None if it has none."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        about = json.loads(os.pread(descriptor, 4096, 0))
        return {key: str(about[key]) for key in ("host", "pid", "since")}
    return None


def _words(about: dict[str, str]) -> str:
    return f"process {about['pid']} on {about['host']} since {about['since']}"
