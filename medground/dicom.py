"""DICOM images: the stored values of the first frame as a viewer shows them, and values of the header.

Values pass, in the order of the standard (PS3.4 N.2): modality LUT or rescale, VOI LUT or window,
presentation. Values in upper bits (HighBit above BitsStored - 1, as old versions of the standard allowed) are
shifted down. Declared padding is excluded from the range of grey values and shown black. pydicom is imported
only when a file needs it.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medground import limits
from medground.errors import MedgroundError

if TYPE_CHECKING:
    from pydicom import Dataset

DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")  # PIL takes 15 to 30 % less time than gdcm
NO_IMAGE = "a DICOM file without an image"
VIEW_CODES = {  # of context group 4010, in SNOMED CT and in SNOMED RT
    **{"399348003": "AP", "272479007": "PA", "399198007": "LATERAL", "399173006": "LATERAL"},
    **{"R-10206": "AP", "R-10214": "PA", "R-10232": "LATERAL", "R-10236": "LATERAL"},
}
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luminance of red, green and blue


def is_dicom(path: Path | str) -> bool:
    """Return whether the file begins as DICOM does."""
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def describe(path: Path | str) -> tuple[int, int, tuple[float, float] | None, str | None]:
    """Return (width, height, spacing in millimeters down and across, view) from the header only."""
    with _errors_of_pydicom(path):
        data = _read(path, stop_before_pixels=True)
        spacing = _spacing(data.get("PixelSpacing")) or _spacing(data.get("ImagerPixelSpacing"))
        return int(data.Columns), int(data.Rows), spacing, _view(data)


def _view(data: "Dataset") -> str | None:
    """Return the view by ViewPosition, or else by the code or the meaning of ViewCodeSequence."""
    if position := str(data.get("ViewPosition") or "").strip():
        return position
    for code in data.get("ViewCodeSequence") or ():
        value, meaning = (str(code.get(name) or "").strip() for name in ("CodeValue", "CodeMeaning"))
        if view := VIEW_CODES.get(value, meaning):
            return view
    return None


def load(path: Path | str) -> tuple[NDArray[Any], NDArray[np.bool_] | None, bool]:
    """Return (H, W) grey values, (H, W) mask of padding (or None), and whether white is low."""
    with _errors_of_pydicom(path):
        data = _read(path)
        if "PixelData" not in data:
            raise _without_image(path, data)
        values = _right_aligned(path, data)
        if str(data.get("PhotometricInterpretation")) == "PALETTE COLOR":
            from pydicom.pixels.processing import apply_color_lut

            values = apply_color_lut(values, data)
        if values.ndim == 3:  # pydicom has made color RGB already
            deep = values.astype(np.float32) @ GREY
            return deep.round().astype(np.uint8) if values.dtype == np.uint8 else deep, None, False
        return _windowed(values, data), _padding(values, data), _is_inverse(data)


@contextmanager
def _errors_of_pydicom(path: Path | str) -> Iterator[None]:
    """Turn pydicom's own errors, which are of no common kind, into ValueError; they may quote values."""
    try:
        import pydicom
    except ModuleNotFoundError:
        raise MedgroundError(f"{path}: DICOM needs pydicom: pip install medground[dicom]") from None
    pydicom.config.logger.setLevel(logging.CRITICAL)  # it prints tracebacks that become one line here
    try:
        yield
    except (pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError) as error:
        raise ValueError("damaged DICOM") from error


def _read(path: Path | str, **how: Any) -> "Dataset":
    """Return the data set with its size checked; raise MedgroundError if it has no image."""
    import pydicom

    with open(path, "rb") as stream:
        limits.check_file(path, os.fstat(stream.fileno()).st_size)
        check_deflated(path, stream)
    data = pydicom.dcmread(path, **how)
    if "Rows" not in data or "Columns" not in data:
        raise _without_image(path, data)
    limits.check_size(path, int(data.Columns), int(data.Rows))
    return data


def _without_image(path: Path | str, data: "Dataset") -> MedgroundError:
    """Return the error for a file without an image: it is truncated if its class is that of images.

    Every complete file states its class. pydicom ends silently where a file ends.
    """
    kind = data.file_meta.get("MediaStorageSOPClassUID")
    truncated = kind is None or "Image Storage" in kind.name
    return MedgroundError(f"{path}: {NO_IMAGE}{'; is it truncated?' if truncated else ''}")


def check_deflated(place: object, stream: BinaryIO) -> None:
    """Raise MedgroundError for a deflated file that unpacks to too much: pydicom would unpack it at once.

    `stream` is at the start of the file. Raises what pydicom does for a damaged header.
    """
    from pydicom.filereader import _read_file_meta_info, read_preamble

    read_preamble(stream, force=False)
    if str(_read_file_meta_info(stream).get("TransferSyntaxUID")) == DEFLATED:
        limits.check_deflated(place, stream)


def _spacing(values: Any) -> tuple[float, float] | None:
    """Return (down, across) in millimeters; None if missing, not two values, or 0 (anonymized files)."""
    if values is None or isinstance(values, str | float) or len(values) != 2:
        return None
    down, across = float(values[0]), float(values[1])
    return (down, across) if down > 0 and across > 0 else None


def _right_aligned(path: Path | str, data: "Dataset") -> NDArray[Any]:
    """Return the first frame without the bits below its values; raise MedgroundError for impossible bits.

    pydicom ignores HighBit: it takes the lowest BitsStored bits, whose upper part these values lack.
    """
    stored, high = int(data.BitsStored), data.get("HighBit")
    below = 0 if high is None else int(high) + 1 - stored
    if below == 0:
        return _first_frame(path, data)
    native = not data.file_meta.TransferSyntaxUID.is_encapsulated and int(data.SamplesPerPixel) == 1
    if not native or stored < 1 or not stored <= int(high) < int(data.BitsAllocated):
        raise MedgroundError(
            f"{path}: HighBit: expected BitsStored - 1; the place of the values is not known"
        )
    data.BitsStored = stored + below
    values = _first_frame(path, data) >> below
    data.BitsStored = stored
    return values


def _first_frame(path: Path | str, data: "Dataset") -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    if str(data.file_meta.get("TransferSyntaxUID")) in JPEG_2000:
        with suppress(RuntimeError, ValueError):  # then the other decoders try
            return pixel_array(data, index=0, decoding_plugin="pillow")
    try:
        return pixel_array(data, index=0)
    except RuntimeError as error:
        if "plugin" not in str(error) and "decod" not in str(error):
            raise
        name = data.file_meta.TransferSyntaxUID.name
        way_out = "damaged, or it needs a decoder: pip install medground[dicom]"
        raise MedgroundError(f"{path}: cannot decode {name}; {way_out}") from error


def _windowed(stored: NDArray[Any], data: "Dataset") -> NDArray[Any]:
    """Return the values after rescale and VOI LUT, or after the first window that can be used.

    A window is passed over if the standard does not allow it, or if all values become one grey.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    if not _has_scale(data):
        return stored
    values = apply_modality_lut(stored, data)
    if data.get("VOILUTSequence"):
        return apply_voi(values, data)
    for number, (center, width) in enumerate(_windows(data)):
        shown = _shown(values, data, number, center, width) if width > 0 else None
        if shown is not None and (shown.min() < shown.max() or values.min() == values.max()):
            return shown
    return values


def _shown(values: NDArray[Any], data: "Dataset", number: int, center: float, width: float) -> NDArray[Any]:
    """Return the values after one window, of a width above 0."""
    from pydicom.pixels.processing import apply_windowing

    exact = str(data.get("VOILUTFunction") or "LINEAR").upper() != "LINEAR"
    if width >= 1 or exact:
        return apply_windowing(values, data, index=number)
    # LINEAR is not defined below 1: values rescaled to a small range mean LINEAR_EXACT
    return np.clip((values - center) / width + 0.5, 0, 1)


def _has_scale(data: "Dataset") -> bool:
    """Return whether stored values have a scale: no RescaleSlope of 0, and no number that is not finite."""
    slope, intercept = data.get("RescaleSlope", 1), data.get("RescaleIntercept", 0)
    if slope is None or intercept is None:
        return True
    return bool(np.isfinite(float(intercept)) and np.isfinite(float(slope)) and float(slope) != 0)


def _windows(data: "Dataset") -> list[tuple[float, float]]:
    """Return (center, width) of each window; a value that is not a number gives width 0."""
    if "WindowCenter" not in data or "WindowWidth" not in data:
        return []
    return list(zip(_numbers(data.WindowCenter), _numbers(data.WindowWidth), strict=False))


def _numbers(value: Any) -> list[float]:
    several = [value] if value is None or isinstance(value, str | float) else list(value)
    return [float(each) if each is not None and np.isfinite(float(each)) else 0.0 for each in several]


def _padding(stored: NDArray[Any], data: "Dataset") -> NDArray[np.bool_] | None:
    """Return where the stored values are padding: PixelPaddingValue, or from it to PixelPaddingRangeLimit."""
    first = data.get("PixelPaddingValue")
    if first is None:
        return None
    last = data.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    inside: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return inside if inside.any() and not inside.all() else None


def _is_inverse(data: "Dataset") -> bool:
    """Return whether low values are white: MONOCHROME1, or a presentation LUT of shape INVERSE (the same)."""
    return (
        str(data.get("PhotometricInterpretation")) == "MONOCHROME1"
        or str(data.get("PresentationLUTShape")).upper() == "INVERSE"
    )
