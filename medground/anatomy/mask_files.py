"""Mask files -> the outlines in them, class by class.

Letters: C classes, H x W pixels of the mask's grid. File formats:

array      .npy or .npz, (C, H, W) or (1, C, H, W), or in an .npz a named (H, W) array for each class; truth
           values, whole numbers (set above half of the mask's largest), probabilities (set from .5 on) or
           logits (numbers outside [0, 1]; set above 0)
images     a folder with one image file per class, named by class; pixels are set above half of the largest
label map  a grey or palette image, or an array (H, W), whose integers are classes
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medground import archives, arrays, images
from medground.anatomy.masks import Mask
from medground.errors import MedgroundError
from medground.limits import MAX_PIXELS, check_unpacked
from medground.registry.tables import ARRAYS, PICTURES

Part = tuple[str, NDArray[np.bool_], NDArray[np.floating[Any]] | None]  # class, its mask, its probabilities

UNREADABLE = (*images.BROKEN, zipfile.BadZipFile)


def read(path: Path, classes: Sequence[str], wanted: frozenset[str]) -> Iterator[Part]:
    """Yield the wanted classes of an array or of a folder of image files; `classes` are the channels of an
    array.

    Raises MedgroundError for a damaged file or a wrong number of channels.
    """
    try:
        if path.is_dir():
            yield from _pictures(path, wanted)
        else:
            yield from _arrays(path, classes, wanted)
    except UNREADABLE as error:
        raise MedgroundError(
            f"{path}: damaged, truncated or not a mask file ({type(error).__name__})"
        ) from error


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz; none for an .npy."""
    try:
        with archives.opened(path) as archive:
            return arrays.names(archive)
    except UNREADABLE as error:
        raise MedgroundError(f"{path}: not an .npz with an array for each class") from error


def read_labels(path: Path, labels: Sequence[str]) -> Iterator[Part]:
    """Yield the mask of each label (an integer, as text) of a label map."""
    try:
        values = _only(path) if path.suffix in ARRAYS else _label_picture(path)
    except UNREADABLE as error:
        raise MedgroundError(f"{path}: damaged, truncated or not a label map") from error
    if values.ndim != 2 or values.dtype.kind not in "uib":
        raise MedgroundError(f"{path}: a label map has one integer per pixel (grey or palette)")
    for label in labels:
        yield label, values == int(label), None


def _pictures(folder: Path, wanted: frozenset[str]) -> Iterator[Part]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES and path.stem in wanted:
            with images.open_picture(path) as picture:
                _check_size(picture)
                yield path.stem, _above_half(np.asarray(picture.convert("L"))), None


def _label_picture(path: Path) -> Mask:
    with images.open_picture(path) as picture:
        _check_size(picture)
        return np.asarray(picture)  # the palette indices are the labels, not its colors


def _check_size(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError("too large")


def _above_half(values: Mask) -> NDArray[np.bool_]:
    """Return where an integer mask is set: 1 of 0 and 1, 255 of 0 and 255, without JPEG artifacts."""
    result: NDArray[np.bool_] = values > values.max() / 2
    return result


def _only(path: Path) -> Mask:
    """Return the one array of a file."""
    if path.suffix == arrays.SUFFIX:
        return np.asarray(arrays.mapped(path))
    with archives.opened(path) as archive:
        (name,) = arrays.names(archive)
        return arrays.member(archive, name, path)


def _arrays(path: Path, classes: Sequence[str], wanted: frozenset[str]) -> Iterator[Part]:
    if path.suffix == ".npy":
        yield from _channels(arrays.mapped(path), path, classes, wanted)
        return
    with archives.opened(path) as archive:
        members = archive.namelist()
        for each in archive.infolist():
            check_unpacked(path, each.file_size)
        if len(members) == 1 and classes:
            with archive.open(members[0]) as stream:
                yield from _stream(stream, path, classes, wanted)
            return
        for name in sorted(wanted.intersection(arrays.names(archive))):
            values = arrays.member(archive, name, path)
            yield name, *_decided(values, _is_logit(values))


def _channels(array: Mask, path: Path, classes: Sequence[str], wanted: frozenset[str]) -> Iterator[Part]:
    """Yield the wanted channels of an array in memory, or mapped into it."""
    channels = array[0] if array.ndim == 4 and len(array) == 1 else array
    _check_channels(channels.shape, path, classes)
    logit = _is_logit(channels)
    for name, values in zip(classes, channels, strict=True):
        if name in wanted:
            yield name, *_decided(np.asarray(values), logit)


def _check_channels(shape: tuple[int, ...], path: Path, classes: Sequence[str]) -> None:
    if len(shape) != 3 or shape[0] != len(classes):
        form = " x ".join(map(str, shape))
        raise MedgroundError(f"{path}: an array of {form}, not of {len(classes)} classes x height x width")


def _stream(stream: IO[bytes], path: Path, classes: Sequence[str], wanted: frozenset[str]) -> Iterator[Part]:
    """Yield the wanted channels of a packed array; all classes of a large image at once may not fit in
    memory."""
    shape, fortran, dtype = arrays.header(stream)
    if dtype.kind not in "buif":
        raise ValueError("no numbers")
    shape = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    _check_channels(shape, path, classes)
    if dtype.kind == "f" or fortran:
        whole = np.frombuffer(stream.read(), dtype).reshape(shape, order="F" if fortran else "C")
        yield from _channels(whole, path, classes, wanted)
        return
    size = int(np.prod(shape[1:])) * dtype.itemsize
    for name in classes:
        values = np.frombuffer(stream.read(size), dtype).reshape(shape[1:])
        if name in wanted:
            yield name, *_decided(values, logit=False)


def _is_logit(values: Mask) -> bool:
    """Return whether these numbers are logits, not probabilities."""
    return values.dtype.kind == "f" and bool(np.nanmin(values) < 0 or np.nanmax(values) > 1)


def _decided(values: Mask, logit: bool) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]] | None]:
    """Return where a mask is set, and its probabilities if it has them; NaN is not set."""
    if values.dtype.kind == "b":
        return values, None
    if values.dtype.kind not in "uif":
        raise ValueError("not numbers")
    if values.dtype.kind != "f":
        return _above_half(values), None
    known = np.nan_to_num(values.astype(np.float32), nan=-np.inf if logit else 0.0)
    likely = 1 / (1 + np.exp(-np.clip(known, -60, 60))) if logit else known
    return likely >= 0.5, likely
