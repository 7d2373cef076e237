"""Common parts of DICOM structured reports and segmentations: files, images they refer to, codes.

An object names its image by a SOP instance UID only. `images_by_uid` finds the file. Without it, the image_id
is the one that `render` states, or else the UID, and the path is the image_id with `.dcm`.
"""

import io
import logging
import os
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medground import boxes, dicom, limits
from medground.datasets.sources import File, TakeBad, files, is_unicode, sift, warn_of
from medground.errors import BadRecord, MedgroundError
from medground.records import Box, Phrase

if TYPE_CHECKING:
    from pydicom import Dataset

T = TypeVar("T")
Images = Mapping[str, list["Referenced"]]
OURS = "medground"
PARAMETERS = ("model", "phrase_id", "image_id", "calibrated", "coverage")
# what pydicom raises for damaged files, values of a wrong type, and sequences inside each other
DAMAGED = (
    *(ValueError, TypeError, AttributeError, LookupError, OverflowError, EOFError, RuntimeError),
    *(NotImplementedError, struct.error, OSError, MemoryError, UserWarning),
)
UNDEFINED = 0xFFFFFFFF  # the length of a sequence that ends with a delimiter


@dataclass(frozen=True, slots=True)
class Referenced:
    """An image file that objects may refer to; its size is None if the file was not given."""

    image_id: str
    path: str
    width: int | None = None
    height: int | None = None


def images_by_uid(folder: Path) -> dict[str, list[Referenced]]:
    """Return the DICOM images in a folder, searched recursively, by SOP instance UID; paths are relative."""
    found: dict[str, list[Referenced]] = {}
    for parent, below, names in os.walk(folder):
        below.sort()
        for path in (Path(parent, name) for name in sorted(names)):
            if path.is_file() and (read := _image(path, folder)):
                found.setdefault(read[0], []).append(read[1])
    return found


def _image(path: Path, folder: Path) -> tuple[str, Referenced] | None:
    import pydicom

    if not dicom.is_dicom(path):
        return None
    try:
        with quiet(), path.open("rb") as stream:
            dicom.check_deflated(path, stream)
            data = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "Rows", "Columns"]
            )
            if "Rows" not in data or "Columns" not in data:
                return None
            name = str(path.relative_to(folder))
            return str(data.SOPInstanceUID), Referenced(path.stem, name, int(data.Columns), int(data.Rows))
    except MedgroundError:
        return None  # a damaged image is missed when an object refers to it


@contextmanager
def quiet() -> Iterator[None]:
    """Show no warnings of pydicom, and turn its errors into a BadRecord: both quote values."""
    from pydicom.errors import BytesLengthException, InvalidDicomError  # of no common kind

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="End of file reached")
        try:
            yield
        except MedgroundError:
            raise
        except (*DAMAGED, BytesLengthException, InvalidDicomError):
            raise BadRecord("damaged DICOM") from None


def read(
    source: Path,
    kinds: Mapping[str, str],
    what: str,
    make: "Callable[[Dataset, File], list[T]]",
    take: TakeBad,
    dirt: Counter[str],
) -> Iterator[T]:
    """Yield what `make` returns for each object of these SOP classes: a file, a folder's or a .zip's *.dcm.

    Other DICOM files are left out and counted. Raises MedgroundError if there are no others.
    """
    try:
        import pydicom  # noqa: F401
    except ModuleNotFoundError:
        raise MedgroundError(f"{source}: DICOM needs pydicom: pip install medground[dicom]") from None
    seen = others = 0

    def make_one(file: File) -> list[T]:
        nonlocal seen, others
        with quiet():
            data = _opened(file)
            if str(data.get("SOPClassUID")) not in kinds:
                others += 1
                return []
            made = make(data, file)
        seen += 1
        return made

    def count_and_take(raw: bytes, bad: BadRecord) -> None:
        nonlocal seen
        seen += 1
        take(raw, bad)

    for some in sift(files(source, "*.dcm"), make_one, count_and_take):
        yield from some
    if not seen:
        raise MedgroundError(f"{source}: no {what} in it")
    dirt[f"DICOM files that are no {what}, left out"] += others
    warn_of(dirt, str(source))


def _opened(file: File) -> "Dataset":
    import pydicom
    from pydicom.datadict import keyword_for_tag
    from pydicom.dataelem import RawDataElement

    content = file.content
    if len(content) > limits.MAX_UNPACKED:
        raise BadRecord(limits.TOO_LONG)
    if content[128:132] != b"DICM":
        raise BadRecord("not a DICOM file")
    try:
        dicom.check_deflated(file.name, io.BytesIO(content))
    except MedgroundError:
        raise BadRecord(limits.TOO_LONG) from None
    data = pydicom.dcmread(io.BytesIO(content))
    for tag in list(data.keys()):  # pydicom returns a value that ends early without a warning
        raw = data.get_item(tag)
        if isinstance(raw, RawDataElement) and len(raw.value or b"") < raw.length < UNDEFINED:
            raise BadRecord("ends early: it is truncated", keyword_for_tag(raw.tag) or raw.tag.json_key)
    return data


def need(data: Any, *keywords: str) -> Any:
    """Return the value of the first element that is not empty; raise BadRecord for the last keyword."""
    for each in keywords:
        value = data.get(each)
        if value is not None and value != "" and not (hasattr(value, "__len__") and not len(value)):
            return value
    raise BadRecord("missing or empty", keywords[-1])


def text(value: Any, keyword: str) -> str:
    """Return a value as text in one line; raise BadRecord if it cannot be written as UTF-8."""
    found = " ".join(str(value or "").split())
    if not is_unicode(found):
        raise BadRecord("text in another character set than SpecificCharacterSet states", keyword)
    return found


def code_of(sequence: Any) -> tuple[str, str, str]:
    """Return (value, scheme, meaning) of a code sequence, empty texts if there is none."""
    if not sequence:
        return "", "", ""
    item = sequence[0]
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return (
        str(value),
        str(item.get("CodingSchemeDesignator") or ""),
        text(item.get("CodeMeaning"), "CodeMeaning"),
    )


def image_of(uid: str, stated: str | None, images: Images | None) -> Referenced:
    """Return the image of a SOP instance UID; `stated` is the image_id that the object has for it.

    Raises BadRecord if images are given, and none or several have the UID.
    """
    if images is None:
        name = stated or uid
        return Referenced(name, f"{name}.dcm")
    found = images.get(uid, [])
    if len(found) != 1:
        problem = "several images of --images have it" if found else "no image of --images has it"
        raise BadRecord(problem, "ReferencedSOPInstanceUID")
    each = found[0]
    return Referenced(stated or each.image_id, each.path, each.width, each.height)


def inside(box: Box, image: Referenced, dirt: Counter[str], field: str) -> Box:
    """Return the box clipped to its image; raise BadRecord if it has no area there."""
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2):
        raise BadRecord("a box without area", field)
    if not image.width or not image.height:
        return boxes.rounded(box)
    clipped = boxes.clip(box, image.width, image.height)
    if clipped is None:
        raise BadRecord("lies outside the image", field)
    dirt["boxes beyond the border of their image, clipped"] += clipped != box
    return boxes.rounded(clipped)


def joined(a: Phrase, b: Phrase) -> Phrase:
    """Return one phrase with the boxes of two parts of an object.

    Raises BadRecord if they are on two images.
    """
    if a.image_id != b.image_id:
        raise BadRecord("groups with one tracking UID are on two images", "UID")
    both = None if a.boxes is None and b.boxes is None else [*(a.boxes or ()), *(b.boxes or ())]
    return replace(a, boxes=both)
