"""Zip archives from strangers, also those of numpy's .npz files."""

from collections import Counter
from pathlib import Path
from zipfile import ZipFile

from medground.errors import MedgroundError


def opened(path: Path) -> ZipFile:
    """Return the open archive; raise MedgroundError if two members have one name.

    Readers would take the last of them, and other programs the first. Raises zipfile.BadZipFile, OSError and
    the other errors of zipfile for a damaged one.
    """
    archive = ZipFile(path)
    name, times = next(iter(Counter(archive.namelist()).most_common(1)), ("", 0))
    if times > 1:
        archive.close()
        raise MedgroundError(f"{path}: {times} members have the name {name}; pack it again")
    return archive
