"""MIMIC-CXR (Johnson et al., 2019): the reports, and the list of its images as JPEG.

Reports lie in a tree `files/p10/p10000032/s50414267.txt`, or derived from it in `mimic_cxr_sectioned.csv`
with the columns study, impression, findings, last_paragraph, comparison. MIMIC-CXR-JPG lists its images in
`mimic-cxr-2.0.0-metadata.csv` and their splits in `mimic-cxr-2.0.0-split.csv`.
"""

import logging
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from medground.datasets.sources import File, Row, Source, TakeBad, files, refuse, rows, sift
from medground.encodings import Decoder, text_of
from medground.errors import BadRecord
from medground.records import Anatomy, Report

log = logging.getLogger(__name__)
R = TypeVar("R", Report, Anatomy)
SECTIONS = ("impression", "findings", "last_paragraph", "comparison")
METADATA = {"dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns"}
KNOWN = {
    *METADATA,
    "PerformedProcedureStepDescription",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
}


def subject_id(value: str) -> str:
    """Return `p10000032` for 10000032, "10000032.0" or "p10000032"; other text unchanged."""
    return _id("p", value)


def study_id(value: str) -> str:
    """Return `s50414267` for 50414267, "50414267.0" or "s50414267"; other text unchanged."""
    return _id("s", value)


def _id(letter: str, value: str) -> str:
    found = re.fullmatch(rf"{letter}?(\d+)(?:\.0)?", str(value).strip())
    return letter + found[1] if found else str(value).strip()


def ids_in(path: str) -> tuple[str | None, str | None]:
    """Return (subject_id, study_id) from the folders or the stem of a path, None if absent."""
    words = re.split(r"[/\\.]", path)
    subject = next((word for word in words if re.fullmatch(r"p\d{3,}", word)), None)
    return subject, next((word for word in words if re.fullmatch(r"s\d+", word)), None)


def jpg_path(subject: str, study: str, image: str) -> str:
    """Return the path of an image in MIMIC-CXR-JPG, from its root."""
    return f"files/{subject[:3]}/{subject}/{study}/{image}.jpg"


def read_reports(
    root: Path, take: TakeBad = refuse, splits: Mapping[str, str] | None = None
) -> Iterator[Report]:
    """Yield the reports under a folder, in a .zip, or the file itself, sorted by name.

    The study is the file's stem, the patient comes from the folder name. Text files with other names
    (LICENSE.txt) are skipped. `splits` by study go to `extra["split"]`.
    """
    found, decode = files(root, "*.txt"), Decoder("such reports")
    reports = (each for each in found if not root.is_dir() or re.fullmatch(r"s\d+", each.stem))
    yield from _counted(sift(reports, lambda file: _report(file, splits or {}, decode), take), splits)


def _report(file: File, splits: Mapping[str, str], decode: Decoder) -> Report:
    text = text_of(file.content, decode, file.name)
    subject, _ = ids_in("/".join(file.folders))
    study = study_id(file.stem)
    return Report(study_id=study, subject_id=subject, text=text, extra=_split(splits, study))


def read_sectioned(
    source: Source, take: TakeBad = refuse, splits: Mapping[str, str] | None = None
) -> Iterator[Report]:
    """Yield a report for each row of `mimic_cxr_sectioned.csv`; an empty cell gives no section."""
    table = rows(source, {"study", "impression", "findings"}, "mimic_cxr_sectioned.csv", take)
    yield from _counted(sift(table, lambda row: _sections(row, splits or {}), take), splits)


def _sections(row: Row, splits: Mapping[str, str]) -> Report:
    study = study_id(row.text("study"))
    sections = {name: row.maybe(name) for name in SECTIONS}
    carried = row.others({"study", "subject_id", *SECTIONS})
    subject = row.maybe("subject_id")
    return Report(
        study_id=study,
        subject_id=subject and subject_id(subject),
        extra=_split(splits, study) | carried,
        **sections,
    )


def read_images(
    source: Source,
    take: TakeBad = refuse,
    splits: Mapping[str, str] | None = None,
    frontal: bool = False,
) -> Iterator[Anatomy]:
    """Yield every image of the metadata table without regions: detect-anatomy adds them.

    The view is ViewPosition, or the meaning of ViewCodeSequence if that is empty. With `frontal`, only AP and
    PA views. Images of unknown view are counted in a warning.

    `path` is that of the JPEG from the root of MIMIC-CXR-JPG; `splits` by image go to `extra["split"]`.
    """
    table = rows(source, METADATA, "mimic-cxr-2.0.0-metadata.csv", take)
    unknown, known = 0, set[str]()
    for each in _counted(sift(table, lambda row: _image(row, splits or {}, known), take), splits):
        unknown += each.view is None
        if (each.view and each.is_frontal) or not frontal:
            yield each
    if unknown:
        consequence = "left out by --frontal-only" if frontal else "taken as frontal"
        log.warning("%d images have no view and are %s", unknown, consequence)


def _image(row: Row, splits: Mapping[str, str], known: set[str]) -> Anatomy:
    """Return the image of a row, and add its id to the known ones; raise BadRecord if it is one of them."""
    image, subject = row.text("dicom_id"), subject_id(row.text("subject_id"))
    study = study_id(row.text("study_id"))
    if image in known:
        raise BadRecord("the second row of this image", "dicom_id")
    found = Anatomy(
        image_id=image,
        study_id=study,
        subject_id=subject,
        path=jpg_path(subject, study, image),
        width=_pixels(row, "Columns"),
        height=_pixels(row, "Rows"),
        view=row.maybe("ViewPosition") or row.maybe("ViewCodeSequence_CodeMeaning"),
        regions=[],
        extra=_split(splits, image) | row.others(KNOWN),
    )
    known.add(image)
    return found


def _pixels(row: Row, column: str) -> int:
    pixels = int(row.number(column))
    if pixels < 1:
        raise BadRecord("expected a number of pixels above 0", column)
    return pixels


def _counted(records: Iterable[R], splits: Mapping[str, str] | None) -> Iterator[R]:
    """Yield the records; warn of those that are not in the table of splits, if there is one."""
    missing = 0
    for each in records:
        missing += "split" not in each.extra
        yield each
    if splits is not None and missing:
        log.warning("%d records are not in the table of splits and have no split", missing)


def _split(splits: Mapping[str, str], key: str) -> dict[str, str]:
    return {"split": splits[key]} if key in splits else {}


def read_splits(source: Source, take: TakeBad = refuse) -> dict[str, str]:
    """Return the split of each image and of each study, by either id, of `mimic-cxr-2.0.0-split.csv`.

    A row with another split than an earlier row of its image or study is invalid.
    """
    table = rows(source, {"dicom_id", "study_id", "split"}, "mimic-cxr-2.0.0-split.csv", take)
    splits: dict[str, str] = {}

    def keep(row: Row) -> None:
        split = sys.intern(row.text("split"))
        for key in (row.text("dicom_id"), study_id(row.text("study_id"))):
            if splits.setdefault(key, split) != split:
                raise BadRecord("another split than in an earlier row of this image or study", "split")

    deque(sift(table, keep, take), maxlen=0)
    return splits
