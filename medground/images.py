"""Any film in: PNG, JPEG, TIFF or DICOM -> float32 (H, W), 0 black to 1 white; and its letterbox.

Letters: H x W pixels of the film as a viewer shows it. A film is always bright where the body absorbs
(MONOCHROME1 is inverted), upright (the EXIF orientation is applied, so boxes are in upright pixels), grey,
and the first frame of several. Colour becomes luminance, transparency black. Eight-bit values are divided by
255; deeper ones are stretched from their own least to their own greatest value, since a 12-bit film in a
16-bit file does not say so. The kind of file is told by its first bytes, never by its suffix.
Whatever cannot be read raises a MedgroundError of one line that names the file.
"""

import logging
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from medground.boxes import Letterbox
from medground.errors import MedgroundError

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = NDArray[np.float32]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom"})
# The largest detectors give 5,000 x 4,000; PIL warns from 89 million pixels on, which this stays under.
MAX_PIXELS = 80_000_000
# The formats that are opened. PIL knows 40 others, one of which (PostScript) starts another program.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
SWAPS_SIDES = (5, 6, 7, 8)  # EXIF orientations that lay the film on its side
ORIENTATION = 0x0112
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
    """What a file says of its film without decoding it; None where it does not say.

    `spacing` is millimetres a pixel, down and across; `view` is DICOM's word.
    """

    width: int
    height: int
    spacing: tuple[float, float] | None = None
    view: str | None = None


def is_image(path: Path | str) -> bool:
    """Whether the name ends like a film's; for listing folders only, `load` looks at the bytes."""
    return Path(path).suffix.lower() in SUFFIXES


def is_dicom(path: Path | str) -> bool:
    """Whether the file begins as DICOM does."""
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def load(path: Path | str) -> Pixels:
    """The film, (H, W) float32 in [0, 1]."""
    with _one_message(path):
        _check_file(path)
        return _load_dicom(path) if is_dicom(path) else _load_picture(path)


def size(path: Path | str) -> tuple[int, int]:
    """(width, height) of what `load` would return, read from the header alone."""
    header = describe(path)
    return header.width, header.height


def describe(path: Path | str) -> Header:
    """The file's header; raises as `load` does, but for damage that only decoding would find."""
    with _one_message(path):
        _check_file(path)
        return _describe_dicom(path) if is_dicom(path) else _describe_picture(path)


def letterbox(image: Pixels, size: int) -> tuple[Pixels, Letterbox]:
    """The film resized without aliases and centred in a black square of `size` pixels; how it lies there."""
    height, width = image.shape
    place = Letterbox(width, height, size)
    inner = Image.fromarray(np.ascontiguousarray(image, np.float32))
    if place.inner != (width, height):
        inner = inner.resize(place.inner, Image.Resampling.BILINEAR, reducing_gap=3.0)
    square = np.zeros((size, size), np.float32)
    x, y = place.offset
    square[y : y + place.inner[1], x : x + place.inner[0]] = np.asarray(inner)
    return square, place


@contextmanager
def _one_message(path: Path | str) -> Iterator[None]:
    """Turn what libraries say and raise about a broken file into one line."""
    try:
        with _QUIET:
            yield
    except BROKEN as error:
        if isinstance(error, OSError) and error.strerror:
            raise MedgroundError(f"{path}: {error.strerror}") from error
        raise MedgroundError(f"{path}: {_reason(error)}") from error


class _Quiet:
    """No warnings of libraries while any thread reads a film; a bomb's is an error.

    `warnings.catch_warnings` alone is not for threads: the last to leave would restore another's silence.
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
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image that medground can read (PNG, JPEG, TIFF, DICOM)"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return _TOO_LARGE
    if isinstance(error, MemoryError):
        return "too little memory to decode this image"
    return "damaged or truncated image"


_TOO_LARGE = f"more than {MAX_PIXELS // 1_000_000} million pixels; is this a chest film?"


def _check_file(path: Path | str) -> None:
    """Raise for a pipe or a device: reading it might never end."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise MedgroundError(f"{path}: not a file, but a pipe or a device")


def _check_size(path: Path | str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise MedgroundError(f"{path}: an image without pixels")
    if width * height > MAX_PIXELS:
        raise MedgroundError(f"{path}: {_TOO_LARGE}")


def _unit(values: NDArray[Any]) -> Pixels:
    """Grey values in [0, 1]: bytes by 255, all else by their own range; a constant film is black."""
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    known = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = known.min(), known.max()
    return (known - low) / (high - low) if high > low else np.zeros_like(known)


# Pictures --------------------------------------------------------------------------------------------------


def open_picture(path: Path | str) -> Image.Image:
    """Return the picture of a file in one of `FORMATS`, not yet decoded; raise PIL's error for any other."""
    return Image.open(path, formats=FORMATS)


def _load_picture(path: Path | str) -> Pixels:
    with open_picture(path) as picture:
        _check_size(path, *picture.size)
        return _unit(_grey(ImageOps.exif_transpose(picture)))


def _describe_picture(path: Path | str) -> Header:
    exif: Mapping[int, Any]
    with open_picture(path) as picture:
        width, height = picture.size
        # asked for what it does not have, a PNG decodes itself to look behind its pixels
        exif = picture.getexif() if picture.format != "PNG" or "exif" in picture.info else {}
        if exif.get(ORIENTATION) in SWAPS_SIDES:
            width, height = height, width
    _check_size(path, width, height)
    return Header(width, height)


def _grey(picture: Image.Image) -> NDArray[Any]:
    """(H, W) grey values as deep as the file holds them, transparent parts black."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return np.asarray(picture)
    if "A" in picture.getbands() or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        black = Image.new("RGBA", seen.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, seen)
    return np.asarray(picture if picture.mode == "L" else picture.convert("RGB").convert("L"))


# DICOM -----------------------------------------------------------------------------------------------------


def _read_dicom(path: Path | str, **how: Any) -> "Dataset":
    """The data set with its size checked; raises where pydicom is missing or the file has no film."""
    try:
        import pydicom
    except ModuleNotFoundError:
        raise MedgroundError(f"{path}: DICOM needs pydicom: pip install medground[dicom]") from None
    pydicom.config.logger.setLevel(logging.CRITICAL)  # it prints tracebacks of what we put into one line
    data = pydicom.dcmread(path, **how)
    if "Rows" not in data or "Columns" not in data:
        raise MedgroundError(f"{path}: a DICOM file without an image")
    _check_size(path, int(data.Columns), int(data.Rows))
    return data


def _describe_dicom(path: Path | str) -> Header:
    data = _read_dicom(path, stop_before_pixels=True)
    return Header(
        int(data.Columns),
        int(data.Rows),
        _spacing(data.get("PixelSpacing") or data.get("ImagerPixelSpacing")),
        str(data.get("ViewPosition") or "") or None,
    )


def _spacing(values: Any) -> tuple[float, float] | None:
    """(down, across) in millimetres; None where it is missing or, as in anonymised files, 0."""
    if values is None or len(values) != 2:
        return None
    down, across = float(values[0]), float(values[1])
    return (down, across) if down > 0 and across > 0 else None


def _load_dicom(path: Path | str) -> Pixels:
    data = _read_dicom(path)
    if "PixelData" not in data:
        raise MedgroundError(f"{path}: a DICOM file without an image")
    values = _first_frame(path, data)
    if str(data.get("PhotometricInterpretation")) == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        values = apply_color_lut(values, data)
    if values.ndim == 3:  # pydicom has made colour RGB already
        deep = values.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return _unit(deep.round().astype(np.uint8) if values.dtype == np.uint8 else deep)
    return _displayed(values, data)


def _first_frame(path: Path | str, data: "Dataset") -> NDArray[Any]:
    from pydicom.pixels import pixel_array

    try:
        return pixel_array(data, index=0)
    except RuntimeError as error:
        if "plugin" not in str(error) and "decod" not in str(error):
            raise
        name = data.file_meta.TransferSyntaxUID.name
        way_out = "damaged, or it needs a decoder: pip install medground[dicom]"
        raise MedgroundError(f"{path}: cannot decode {name}; {way_out}") from error


def _displayed(values: NDArray[Any], data: "Dataset") -> Pixels:
    """Stored values as a viewer shows them: rescale, VOI LUT or window, MONOCHROME1 turned round."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    steps: tuple[Callable[..., Any], ...] = (apply_modality_lut, apply_voi_lut)
    shown = values
    for step in steps:
        shown = step(shown, data)
    film = _unit(shown)
    inverse = str(data.get("PhotometricInterpretation")) == "MONOCHROME1"
    return np.float32(1) - film if inverse else film
