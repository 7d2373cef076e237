"""R2Gen's annotation.json of IU X-ray and of MIMIC-CXR (Chen et al., EMNLP 2020): reports with their images.

`{"train": [...], "val": [...], "test": [...]}`, each item `{"id", "report", "image_path": [...], "split"}`.
MIMIC-CXR's file has `study_id` and `subject_id` too. IU X-ray has two views of a study and names no patient.
"""

from collections.abc import Iterator
from typing import Any

from medground.datasets import mimic_cxr
from medground.datasets.drawn_splits import PARTS
from medground.datasets.json_items import JsonItem, items_of, read_json
from medground.datasets.sources import Source, TakeBad, name_of, refuse, sift
from medground.errors import BadRecord, MedgroundError
from medground.records import Report


def read(source: Source, take: TakeBad = refuse) -> Iterator[Report]:
    """Yield the reports part by part; `extra` has `image_paths`, `split` and `split_by`.

    Raises MedgroundError for a study in two parts.
    """
    held, name = read_json(source), name_of(source)
    if not isinstance(held, dict) or not all(isinstance(held.get(part, []), list) for part in PARTS):
        raise MedgroundError(f"{name}: expected an object with train, val and test; is this annotation.json?")
    if not any(part in held for part in PARTS):
        raise MedgroundError(f"{name}: no key train, val or test; is this annotation.json?")
    part_of: dict[str, str] = {}
    for part in PARTS:
        for report in sift(items_of(held.get(part, []), name, part), lambda i: _report(i, part), take):  # noqa: B023
            if part_of.setdefault(report.study_id, part) != part:
                raise MedgroundError(f"{name}: {part}: a study that another part has too")
            yield report


def _report(item: JsonItem, part: str) -> Report:
    value: dict[str, Any] = item.value if isinstance(item.value, dict) else {}
    text, paths = value.get("report"), value.get("image_path")
    study = value.get("study_id", value.get("id"))
    if not isinstance(study, str | int) or not str(study).strip():
        raise BadRecord("expected the name of a study", "id")
    if not isinstance(text, str) or not text.strip():
        raise BadRecord("expected a text", "report")
    if not isinstance(paths, list) or not paths or not all(isinstance(each, str) for each in paths):
        raise BadRecord("expected an array of files", "image_path")
    if value.get("split", part) != part:
        raise BadRecord("differs from the part that has this item", "split")
    subject = value.get("subject_id")
    known = "study_id" in value
    return Report(
        study_id=mimic_cxr.study_id(str(study)) if known else str(study),
        subject_id=None if subject is None else mimic_cxr.subject_id(str(subject)),
        text=text,
        extra={"image_paths": paths, "split": part, "split_by": "annotation.json"},
    )
