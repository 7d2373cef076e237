"""Arrays of numpy's files from strangers: their sizes are checked before memory is taken for them."""

import math
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from medground import limits

SUFFIX = ".npy"


def check_shape(place: object, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise MedgroundError if the last two dimensions, or all bytes, are more than the limits allow."""
    limits.check_unpacked(place, math.prod(shape) * itemsize)
    if len(shape) > 1:
        limits.check_size(place, shape[-1], shape[-2])


def header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array: its shape, whether columns come first, and its type."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    return read(stream)


def member(archive: ZipFile, name: str, place: object) -> NDArray[Any]:
    """Return an array of an .npz file by its name, never an object.

    Raises MedgroundError for one above the limits, KeyError for an unknown name, and the errors of numpy and
    zipfile for a damaged one.
    """
    with archive.open(name + SUFFIX) as stream:
        shape, _, dtype = header(stream)
        check_shape(place, shape, dtype.itemsize)
    with archive.open(name + SUFFIX) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def names(archive: ZipFile) -> list[str]:
    """Return the names of the arrays of an .npz file, in its order."""
    return [each.removesuffix(SUFFIX) for each in archive.namelist() if each.endswith(SUFFIX)]


def mapped(path: Path) -> NDArray[Any]:
    """Return the array of an .npy file, mapped into memory; raises as `member` does."""
    found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    check_shape(path, found.shape, found.itemsize)
    return found
