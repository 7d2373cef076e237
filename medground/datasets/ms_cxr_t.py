"""MS-CXR-T: progression of five findings between two images of a patient (Bannur et al., 2023); no boxes.

`MS_CXR_T_temporal_image_classification_v1.0.0.csv` has one row per pair of images: `dicom_id`,
`previous_dicom_id`, and `<finding>_progression` in improving, stable, worsening, or blank. The ids are plain,
or paths without a suffix. A plain id needs the columns `subject_id` and `study_id`, which
give the path.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from medground.datasets.mimic_cxr import ids_in, jpg_path, study_id, subject_id
from medground.datasets.sources import Row, Source, TakeBad, refuse, rows, sift
from medground.errors import BadRecord
from medground.records import Phrase

SUFFIX = "_progression"
FINDINGS = ("consolidation", "edema", "pleural_effusion", "pneumonia", "pneumothorax")
PROGRESSIONS = ("improving", "stable", "worsening")
COLUMNS = {"dicom_id", "previous_dicom_id", *(f"{each}{SUFFIX}" for each in FINDINGS)}


def read(source: Source, take: TakeBad = refuse) -> Iterator[Phrase]:
    """Yield a phrase for each finding with a progression, such as "worsening edema"; its boxes are unknown.

    Further keys: `progression`, `previous_image_id` and, if it is known, `previous_path`.
    """
    table = rows(source, COLUMNS, "MS_CXR_T_temporal_image_classification_v1.0.0.csv", take)
    for some in sift(table, _phrases, take):
        yield from some


def _phrases(row: Row) -> list[Phrase]:
    name, path, subject, study = _image(row)
    previous = row.text("previous_dicom_id").removesuffix(".jpg")
    extra: dict[str, Any] = {"previous_image_id": PurePosixPath(previous).name}
    extra |= {"previous_path": f"{previous}.jpg"} if "/" in previous else {}
    extra |= {"study_id": study} if study else {}
    found = []
    for finding in FINDINGS:
        progression = (row.maybe(f"{finding}{SUFFIX}") or "").lower()
        if progression and progression not in PROGRESSIONS:
            raise BadRecord(f"expected {', '.join(PROGRESSIONS)} or nothing", f"{finding}{SUFFIX}")
        words = finding.replace("_", " ")
        if progression:
            found.append(
                Phrase(
                    image_id=name,
                    phrase_id=f"{name}|{finding}",
                    subject_id=subject,
                    path=path,
                    text=f"{progression} {words}",
                    category=words,
                    extra=extra | {"progression": progression},
                )
            )
    return found


def _image(row: Row) -> tuple[str, str, str | None, str | None]:
    """Return the image_id, path, subject_id and study_id of the current image."""
    given = row.text("dicom_id").removesuffix(".jpg")
    subject, study = ids_in(given)
    subject = subject_id(row.maybe("subject_id") or subject or "") or None
    study = study_id(row.maybe("study_id") or study or "") or None
    if "/" in given:
        return PurePosixPath(given).name, f"{given}.jpg", subject, study
    if not (subject and study):
        raise BadRecord("expected a path, or the columns subject_id and study_id", "dicom_id")
    return given, jpg_path(subject, study, given), subject, study
