"""CheXpert (Irvin et al., AAAI 2019): 14 classes of 224,316 images of 65,240 patients, from reports.

train.csv and valid.csv: `Path,Sex,Age,Frontal/Lateral,AP/PA`, then the classes. A class is `1.0`, `0.0`,
`-1.0` (uncertain) or blank (not mentioned). A path begins with the folder of the release, such as
CheXpert-v1.0-small, and has `patientNNNNN`. valid.csv is the test set (MGCA, Wang et al., NeurIPS 2022).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from medground.datasets import drawn_splits
from medground.datasets.drawn_splits import Drawn
from medground.datasets.sources import Row, Source, TakeBad, refuse, rows, sift
from medground.errors import BadRecord
from medground.records import Label, Labels

CLASSES = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other"),
    *("Fracture", "Support Devices"),
)
# the five classes of the competition, and what an uncertain label of each counts as in MGCA
COMPETITION: Labels = {
    "Atelectasis": 1,
    "Cardiomegaly": 0,
    "Consolidation": 0,
    "Edema": 1,
    "Pleural Effusion": 1,
}
VALUES: Mapping[str, Literal[1, 0, -1] | None] = {
    "": None,
    "1.0": 1,
    "0.0": 0,
    "-1.0": -1,
    "1": 1,
    "0": 0,
    "-1": -1,
}
PATH = re.compile(r"(?:[^/]+/)?((train|valid|test)/(patient\d+)/(study\d+)/([^/]+))")


def read(
    source: Source,
    take: TakeBad = refuse,
    frontal: bool = False,
    competition: bool = False,
    val_share: float = 0.1,
    seed: int = 0,
) -> Iterator[Label]:
    """Yield the labels of each image; `path` starts below the folder of the release.

    frontal: only frontal views. competition: only the five classes, blank as 0 and uncertain as in MGCA.
    Images of valid.csv and test.csv are the test part; a share of the training patients validates.
    """
    table = rows(source, {"Path", "Frontal/Lateral", *CLASSES}, "CheXpert's train.csv or valid.csv", take)
    inside = drawn_splits.validation_of(val_share, seed)
    for label in sift(table, lambda row: _label(row, competition, inside), take):
        if not frontal or label.view != "LATERAL":
            yield label


def _label(row: Row, competition: bool, inside: Drawn) -> Label:
    found = PATH.fullmatch(row.text("Path"))
    if not found:
        raise BadRecord("expected RELEASE/train or valid/patientN/studyN/NAME", "Path")
    path, part, patient, study, name = found.groups()
    return Label(
        image_id=f"{patient}_{study}_{name.partition('.')[0]}",
        study_id=f"{patient}_{study}",
        subject_id=patient,
        path=path,
        view=_view(row),
        labels=_competition(row) if competition else {each: _value(row, each) for each in CLASSES},
        split=inside.of(patient) if part == "train" else "test",
        split_by=f"CheXpert valid.csv as test; of the others {inside.name}",
    )


def _view(row: Row) -> str:
    view = row.text("Frontal/Lateral")
    if view not in ("Frontal", "Lateral"):
        raise BadRecord("expected Frontal or Lateral", "Frontal/Lateral")
    return (row.maybe("AP/PA") or "FRONTAL") if view == "Frontal" else "LATERAL"


def _value(row: Row, name: str) -> Literal[1, 0, -1] | None:
    text = row.values[name].strip()
    if text not in VALUES:
        raise BadRecord("expected 1.0, 0.0, -1.0 or nothing", name)
    return VALUES[text]


def _competition(row: Row) -> Labels:
    found = {name: _value(row, name) or 0 for name in COMPETITION}
    return {name: COMPETITION[name] if value == -1 else value for name, value in found.items()}
