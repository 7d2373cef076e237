"""Entry points of installed packages, found without importlib.metadata if no package adds to medground.

importlib.metadata takes longer to import than all else that --help imports, and reads every package once per
group.
"""

import os
import sys
from collections.abc import Iterable
from typing import Any

METADATA = (".dist-info", ".egg-info")


def entry_points(group: str) -> Iterable[Any]:
    """Return the entry points of a group of medground, of all installed packages."""
    if not _may_have(group):
        return ()
    from importlib import metadata

    return metadata.entry_points(group=group)


def _may_have(group: str) -> bool:
    """Return whether a package may name the group; only folders can be read here."""
    finders = [each for each in sys.meta_path if hasattr(each, "find_distributions")]
    if any(getattr(each, "__module__", "") != "_frozen_importlib_external" for each in finders):
        return True  # an importer with packages of its own
    return any(_is_named(group.encode(), path or os.curdir) for path in sys.path)


def _is_named(group: bytes, path: str) -> bool:
    """Return whether a package under this entry of sys.path may name the group."""
    if os.path.isfile(path) or path.endswith(".egg"):
        return True
    try:
        found = [each.path for each in os.scandir(path) if each.name.lower().endswith(METADATA)]
    except OSError:
        return False
    return any(group in _read(os.path.join(each, "entry_points.txt")) for each in found)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
