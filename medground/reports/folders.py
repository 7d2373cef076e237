"""Folders of reports: one report in each .txt file."""

import logging
from collections.abc import Iterator
from pathlib import Path

from medground import limits
from medground.errors import BadRecord

log = logging.getLogger(__name__)


def content(path: Path) -> bytes:
    """Return the bytes of a text file; raise BadRecord if they are too many for a report."""
    with path.open("rb") as stream:
        found = stream.read(limits.MAX_LINE + 1)
    if len(found) > limits.MAX_LINE:
        raise BadRecord(f"a report of more than {limits.MAX_LINE >> 20} MiB; {limits.RAISE}")
    return found


def text_files(root: Path) -> Iterator[Path]:
    """Yield the .txt files below a folder, depth first.

    A folder is read once. Links to folders that were read before, pipes, devices and broken links are skipped
    with a warning each.
    """
    waiting, seen = [root], set[tuple[int, int]]()
    while waiting:
        folder = waiting.pop()
        if (known := (folder.stat().st_dev, folder.stat().st_ino)) in seen:
            problem = "leads back to a folder that contains it, or that was read before; not followed"
            log.warning("%s: %s", folder, problem)
            continue
        seen.add(known)
        entries = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
        yield from (each for each in entries if each.suffix.lower() == ".txt" and _is_file(each))
        waiting += reversed([each for each in entries if each.is_dir()])


def _is_file(path: Path) -> bool:
    """Return whether a path is a file; warn if it is neither a file nor a folder."""
    if not path.is_file() and not path.is_dir():
        log.warning("%s: not a file but a pipe, a device or a broken link; skipped", path)
    return path.is_file()
