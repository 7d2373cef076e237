"""The cohort on disk, in the layouts of MIMIC-CXR, MIMIC-CXR-JPG, Chest ImaGenome and MS-CXR.

    mimic-cxr/files/p90/p90000000/s60000000.txt
    mimic-cxr-jpg/files/p90/p90000000/s60000000/<image>.jpg, mimic-cxr-2.0.0-{metadata,split}.csv
    chest-imagenome/silver_dataset/scene_graph/<image>_SceneGraph.json, splits/*.csv
    ms-cxr/MS_CXR_Local_Alignment_v1.1.0.{csv,json}
    reports.csv, truth/{triplets,findings,regions}.jsonl, phantom.json (the settings)
    layouts/, with --layouts: see `phantom.layouts`

The process that renders a patient writes its files; one process writes the tables at the end. Each file is
renamed to its final name when it is complete. `phantom.json` comes last: a cohort without it is unfinished,
and the same command completes it.
"""

import io
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

import medground
from medground import locks, output_files
from medground.console import progress
from medground.errors import MedgroundError
from medground.parallel import ordered_map
from medground.phantom import layouts, tables
from medground.phantom.cohort import render

log = logging.getLogger(__name__)
SETTINGS, STARTED = "phantom.json", "phantom.unfinished.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that identify a cohort."""

    patients: int
    seed: int
    size: int
    laterals: float = 0.0
    version: str = medground.__version__
    layouts: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the content of phantom.json; without layouts it is that of earlier versions."""
        return _dump({key: value for key, value in asdict(self).items() if key != "layouts" or value})


def write_cohort(root: Path, settings: Settings, workers: int = 1) -> int:
    """Write the whole cohort under `root` and return the number of images (of patients if it existed).

    A folder with other content is refused; a cohort with the same settings is completed or left unchanged.
    """
    if _is_complete(root, settings):
        log.warning("%s: already complete, nothing to do", root)
        return settings.patients
    layouts.check(settings.layouts)
    _claim(root, settings)
    rows = list(progress(_patients(root, settings, workers), "patients", settings.patients))
    for path, content in (
        *tables.tables(rows),
        *layouts.tables([each["layouts"] for each in rows], settings.layouts),
    ):
        _put(root / path, content)
    _put(root / SETTINGS, settings.to_json())
    (root / STARTED).unlink()
    return sum(1 + (each["lateral"] is not None) for each in rows)


def _is_complete(root: Path, settings: Settings) -> bool:
    mark = root / SETTINGS
    return mark.exists() and mark.read_bytes() == settings.to_json()


def _claim(root: Path, settings: Settings) -> None:
    mark = root / STARTED
    if mark.exists() and mark.read_bytes() == settings.to_json():
        return
    if root.exists() and any(each.name != locks.OF_FOLDER for each in root.iterdir()):
        raise MedgroundError(f"{root}: not empty, and not a cohort with these settings; choose a new folder")
    root.mkdir(parents=True, exist_ok=True)
    _put(mark, settings.to_json())


def _patients(root: Path, settings: Settings, workers: int) -> Iterator[dict[str, Any]]:
    """Return an iterator over the table rows of each patient, in order, for any number of processes."""
    make = partial(write_patient, root, settings)
    return ordered_map(make, range(settings.patients), workers)


def write_patient(root: Path, settings: Settings, patient: int) -> dict[str, Any]:
    """Render one patient, write report, image and scene graph; return its rows for the tables."""
    study = render(settings.seed, patient, settings.size, settings.laterals)
    subject = f"{study.subject_id[:3]}/{study.subject_id}"
    _put(root / f"mimic-cxr/files/{subject}/{study.study_id}.txt", study.report.text.encode())
    _put(root / "mimic-cxr-jpg" / tables.image_path(study, study.image_id), _jpeg(study.image))
    if side := study.lateral:
        _put(root / "mimic-cxr-jpg" / tables.image_path(study, side.image_id), _jpeg(side.image))
    for path, content in layouts.images(study, settings.layouts):
        _put(root / path, content)
    graph = _dump(tables.scene_graph(study))
    _put(root / f"chest-imagenome/silver_dataset/scene_graph/{study.image_id}_SceneGraph.json", graph)
    return tables.row(study) | {"layouts": layouts.row(study, settings.layouts)}


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _put(path: Path, content: bytes) -> None:
    """Write the file with this content atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with output_files.replacing(path, sync=False) as stream:
        stream.write(content)
