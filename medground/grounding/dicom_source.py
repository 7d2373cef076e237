"""DICOM objects about images: the header they refer to, boxes in its pixels, and one file per image.

Coordinates need no conversion: the origin of DICOM's (column, row) is the top left corner of the top left
pixel, as in our boxes. An object has the time of its creation and its own identifiers, as DICOM requires
(PS3.3 C.17.2, C.12.1). Only these differ between two runs.
"""

import itertools
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medground import dicom, output_files
from medground.errors import MedgroundError
from medground.grounding import names, stated
from medground.records import Box, Grounding, Phrase

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)
Answered = tuple[Phrase, Grounding]
NAME = "medground"
SERIES_NUMBER = 1
SERIES_DESCRIPTION = "medground: findings of a report, predicted boxes"
LONGEST = 64  # characters of a label in viewers
UTF8 = "ISO_IR 192"  # phrases are in any language
# Type 2 in DICOM: required, but may be empty. Anonymization empties them.
MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def refuse_other(path: Path) -> None:
    """Raise MedgroundError unless the file is DICOM and highdicom is installed."""
    if not dicom.is_dicom(path):
        raise MedgroundError(f"{path}: not a DICOM file; dicom-sr and dicom-seg are for DICOM images")
    try:
        import highdicom  # noqa: F401
    except ModuleNotFoundError:
        raise MedgroundError("dicom-sr and dicom-seg need highdicom: pip install medground[dicom]") from None


def write_each(
    answers: Iterable[Answered],
    folder: Path,
    out: Path,
    build: Callable[[Path, Sequence[Answered]], "Dataset | None"],
) -> None:
    """Write OUT/<image_id>.dcm (`names.of_image`) for each image; a file appears only when it is complete.

    An image for which `build` returns None has no file. Raises MedgroundError for an image that is not a
    DICOM file or whose phrases are not consecutive.
    """
    out.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    for (path, image_id), group in itertools.groupby(answers, key=_image):
        refuse_other(folder / path)
        if image_id in written:
            raise MedgroundError(f"{folder / path}: for DICOM its phrases must be on consecutive lines")
        written.add(image_id)
        made = build(folder / path, list(group))
        if made is not None:
            target = str(out / f"{names.of_image(image_id)}.dcm")
            with (
                output_files.locked(target) as locked,
                output_files.replacing(locked) as stream,
                quiet(folder / path),
            ):
                made.save_as(stream, enforce_file_format=True)


def _image(answer: Answered) -> tuple[str, str]:
    return answer[0].path, answer[0].image_id


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """Show no warnings, and turn errors about header values into a MedgroundError: both quote values."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            log.debug("traceback:", exc_info=True)
            problem = "a DICOM object about it cannot take a value of its header"
            raise MedgroundError(f"{path}: {problem}") from error


def read(path: Path) -> "Dataset":
    """Return the image's header, with elements removed by anonymization as empty ones."""
    import pydicom
    from pydicom import DataElement

    source = pydicom.dcmread(path, stop_before_pixels=True)
    if missing := [name for name in NEEDED if not source.get(name)]:
        raise MedgroundError(f"{path}: has no {missing[0]}, by which a DICOM object refers to it")
    for name in MAY_BE_EMPTY:
        if not _is_valid(source, name):
            log.warning("%s: %s is malformed; it is empty in the DICOM object", path, name)
            source[name] = DataElement(name, source[name].VR, None)
        elif name not in source:
            setattr(source, name, None)
    return source


def _is_valid(source: "Dataset", name: str) -> bool:
    """Return whether the element is missing, empty, or a single value that its type allows."""
    from pydicom import valuerep

    if not source.get(name):
        return True
    value, kind = source[name].value, source[name].VR
    checks = {"DA": valuerep.DA, "TM": valuerep.TM, "PN": str}
    try:
        checks.get(kind, str)(value)
    except (ValueError, TypeError):
        return False
    return isinstance(value, str | valuerep.PersonName | valuerep.DA | valuerep.TM)


def on_source(phrase: Phrase, found: Grounding, source: "Dataset") -> Grounding:
    """Return the grounding with boxes in pixels of the source.

    The source may be a scaled copy of the phrase's image.
    """
    size = source.get("Columns"), source.get("Rows")
    if not (phrase.width and phrase.height and all(size)) or size == (phrase.width, phrase.height):
        return found
    across, down = size[0] / phrase.width, size[1] / phrase.height
    boxes = [replace(each, box=_times(each.box, across, down)) for each in found.boxes]
    return replace(found, boxes=boxes)


def _times(box: Box, across: float, down: float) -> Box:
    x1, y1, x2, y2 = box
    return (x1 * across, y1 * down, x2 * across, y2 * down)


def named(made: "Dataset") -> "Dataset":
    """Return the object with its text in UTF-8 and a description for lists of series."""
    made.SpecificCharacterSet = UTF8
    made.SeriesDescription = SERIES_DESCRIPTION
    return made


def label(found: Grounding) -> str:
    """Return the phrase as a label of viewers, cut if it is too long; the phrase_id if it is empty."""
    text = " ".join(found.text.split()).replace("\\", "/")  # in a label, \\ parts values
    return text[:LONGEST] or found.phrase_id[:LONGEST]


def parameters(found: Grounding) -> dict[str, Any]:
    """Return what DICOM states as parameters of the algorithm: the model, its options, and the ids.

    `datasets.dicom_objects` reads them.
    """
    said: dict[str, Any] = {"model": found.model, "phrase_id": found.phrase_id, "image_id": found.image_id}
    if "calibrated" in found.extra:
        said["calibrated"] = stated.described(found.extra)
    if "coverage" in found.extra:
        said["coverage"] = found.extra["coverage"]
    return said
