"""Image files: PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM -> float32 (H, W), 0 black to 1 white.

Letters: H x W pixels of the image in a viewer. Dense tissue is always bright (MONOCHROME1 is inverted). An
image is upright (the EXIF orientation is applied, so boxes are in upright pixels), grey, and the first frame
of several. Color becomes luminance, transparency black. Eight-bit values are divided by 255. Deeper values
are stretched from their own minimum to their own maximum: a 16-bit file may hold 12 bits. The first bytes
decide the kind of file, never the suffix. An unreadable file raises a MedgroundError of one line with its
name.
"""

import importlib
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from medground import dicom, limits
from medground.boxes import Letterbox
from medground.errors import MedgroundError

Pixels = NDArray[np.float32]
Shown = Image.Image | Pixels  # what `load_shown` returns

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom"})
# The formats that are opened. PIL knows 40 others, one of which (PostScript) starts another program.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
AS_BYTES = 2  # pixels of an image of bytes to one pixel of a square, from which it is resized as bytes
SWAPS_SIDES = (5, 6, 7, 8)  # EXIF orientations that rotate the image by 90 degrees
ORIENTATION, PHOTOMETRIC, WHITE_IS_ZERO = 0x0112, 0x0106, 0
# What PIL, pydicom and their decoders raise on broken bytes.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an image file; None for missing values.

    `spacing` is millimeters per pixel, down and across; `view` is the view position of DICOM.
    """

    width: int
    height: int
    spacing: tuple[float, float] | None = None
    view: str | None = None


def is_image(path: Path | str) -> bool:
    """Return whether the suffix is that of an image; only for listing folders: `load` checks the bytes."""
    return Path(path).suffix.lower() in SUFFIXES


def load(path: Path | str) -> Pixels:
    """Return the image, (H, W) float32 in [0, 1]."""
    with _one_message(path):
        _check_file(path)
        return _load_dicom(path) if dicom.is_dicom(path) else _load_picture(path)


def load_shown(path: Path | str) -> Image.Image | Pixels:
    """Return the image as a grey picture of bytes if its file has no deeper values, otherwise as `load`."""
    with _one_message(path):
        _check_file(path)
        return _load_dicom(path) if dicom.is_dicom(path) else _shown_picture(path)


def size(path: Path | str) -> tuple[int, int]:
    """Return (width, height) of the result of `load`, from the header only."""
    header = describe(path)
    return header.width, header.height


def describe(path: Path | str) -> Header:
    """Return the header of the file; raises as `load` does, except for damage found only by decoding."""
    with _one_message(path):
        _check_file(path)
        return Header(*dicom.describe(path)) if dicom.is_dicom(path) else _describe_picture(path)


def letterbox(shown: Image.Image | Pixels, size: int) -> tuple[Pixels, Letterbox]:
    """Return an image resized without aliasing in a black square of `size` pixels, and its place.

    A picture of bytes (see `load_shown`) is resized as bytes if at least two of its pixels become one. The
    result is the same up to one grey level.
    """
    if is_resized_as_bytes(shown, size):
        square, place = _in_square(shown, size)
        return unit(square), place
    return _in_square(Image.fromarray(np.ascontiguousarray(values(shown), np.float32)), size)


def values(shown: Image.Image | Pixels) -> Pixels:
    """Return the result of `load_shown` as `load` would return it."""
    return unit(np.asarray(shown)) if isinstance(shown, Image.Image) else shown


def sampled(picture: Image.Image, across: int, down: int) -> Image.Image:
    """Return every `across`-th column of every `down`-th row, without copying the others."""
    number = -(-picture.width // across), -(-picture.height // down)
    step = (across, 0, (1 - across) / 2, 0, down, (1 - down) / 2)  # a pixel is read at its middle
    return picture.transform(number, Image.Transform.AFFINE, step, Image.Resampling.NEAREST)


def is_resized_as_bytes(shown: Image.Image | Pixels, size: int) -> TypeGuard[Image.Image]:
    """Return whether `letterbox` resizes this image as bytes; of a small one, the rounding would show."""
    return isinstance(shown, Image.Image) and max(shown.size) >= AS_BYTES * size


def _in_square(inner: Image.Image, size: int) -> tuple[NDArray[Any], Letterbox]:
    """Return a picture resized in a square of its own type, and its place."""
    place = Letterbox(*inner.size, size)
    if place.inner != inner.size:
        inner = inner.resize(place.inner, Image.Resampling.BILINEAR, reducing_gap=3.0)
    square = np.zeros((size, size), np.float32 if inner.mode == "F" else np.uint8)
    x, y = place.offset
    square[y : y + place.inner[1], x : x + place.inner[0]] = np.asarray(inner)
    return square, place


@contextmanager
def _one_message(path: Path | str) -> Iterator[None]:
    """Turn errors and warnings of libraries about a broken file into one line."""
    try:
        with _QUIET:
            yield
    except BROKEN as error:
        if isinstance(error, OSError) and error.strerror:
            raise MedgroundError(f"{path}: {error.strerror}") from error
        raise MedgroundError(f"{path}: {_reason(error)}") from error


class _Quiet:
    """No warnings of libraries while any thread reads an image; a decompression bomb is an error.

    `warnings.catch_warnings` is not safe for threads: the last to exit would restore the state of another.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


_QUIET = _Quiet()


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image that medground can read (PNG, JPEG, TIFF, BMP, WebP, GIF, DICOM)"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return limits.TOO_LARGE
    if isinstance(error, MemoryError):
        return "too little memory to decode this image"
    return "damaged or truncated image"


def _check_file(path: Path | str) -> None:
    """Raise for a pipe or a device, whose reading might never end."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise MedgroundError(f"{path}: not a file, but a pipe or a device")


def unit(values: NDArray[Any], padding: NDArray[np.bool_] | None = None) -> Pixels:
    """Return grey values in [0, 1]: bytes divided by 255, all others stretched from their own range.

    Padding is not part of the range. A constant image is black.
    """
    if values.dtype == np.uint8 and padding is None:
        return values.astype(np.float32) / np.float32(255)
    known = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    inside = known if padding is None else known[~padding]
    low, high = inside.min(), inside.max()
    return np.clip((known - low) / (high - low), 0, 1) if high > low else np.zeros_like(known)


def _load_dicom(path: Path | str) -> Pixels:
    """Return the first frame; padding is black."""
    values, padding, inverse = dicom.load(path)
    shown = unit(values, padding)
    shown = np.float32(1) - shown if inverse else shown
    return shown if padding is None else np.where(padding, np.float32(0), shown)


# Pictures --------------------------------------------------------------------------------------------------


@cache
def _register() -> None:
    """Import PIL's readers of `FORMATS`; for a format that it does not know yet, it would import all 43."""
    for name in ("Bmp", "Gif", "Jpeg", "Png", "Tiff", "WebP"):
        importlib.import_module(f"PIL.{name}ImagePlugin")


def open_picture(path: Path | str) -> Image.Image:
    """Return the picture of a file in one of `FORMATS`, not yet decoded; raise PIL's error for any other."""
    _register()
    return Image.open(path, formats=FORMATS)


def _load_picture(path: Path | str) -> Pixels:
    return values(_shown_picture(path))


def _shown_picture(path: Path | str) -> Image.Image | Pixels:
    with open_picture(path) as picture:
        limits.check_size(path, *picture.size)
        inverse = _is_inverse(picture)
        shown = _grey(ImageOps.exif_transpose(picture))
        if shown.mode == "L":
            return shown
        deep = unit(np.asarray(shown))
        return np.float32(1) - deep if inverse else deep


def _describe_picture(path: Path | str) -> Header:
    exif: Mapping[int, Any]
    with open_picture(path) as picture:
        width, height = picture.size
        # a PNG without EXIF is decoded whole when EXIF is requested
        exif = picture.getexif() if picture.format != "PNG" or "exif" in picture.info else {}
        if exif.get(ORIENTATION) in SWAPS_SIDES:
            width, height = height, width
    limits.check_size(path, width, height)
    return Header(width, height)


def _is_inverse(picture: Image.Image) -> bool:
    """Return whether low values are white in a TIFF of deeper values; PIL inverts only bytes."""
    tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
    return tags.get(PHOTOMETRIC) == WHITE_IS_ZERO and picture.mode not in ("1", "L")


def _grey(picture: Image.Image) -> Image.Image:
    """Return the grey picture at the bit depth of the file, transparent parts black."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return picture
    if "A" in picture.getbands() or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        black = Image.new("RGBA", seen.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, seen)
    return picture if picture.mode == "L" else picture.convert("RGB").convert("L")
