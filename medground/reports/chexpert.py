"""The CheXpert 14 of a report: one row with 1 (present), 0 (absent), -1 (uncertain) or empty (not
mentioned).
"""

from collections.abc import Sequence

from medground.records import Sentence
from medground.reports.lexicon import Finding

COLUMNS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
HEADER = ("study_id", "subject_id", *COLUMNS)
WEIGHT = {"absent": 0, "uncertain": 1, "present": 2}
CELL = {None: "", 0: "0", 1: "-1", 2: "1"}


def to_row(
    study_id: str, subject_id: str | None, sentences: Sequence[Sentence], findings: dict[str, Finding]
) -> list[str]:
    """Return the cells of HEADER for one report.

    If a column has several existences, present takes precedence over uncertain, and uncertain over absent.
    "No Finding" is 1 if only devices are present or uncertain. Without sentences, all labels are empty.
    """
    said: dict[str, int] = {}
    for sentence in sentences:
        for triplet in sentence.triplets:
            column = findings[triplet.finding].chexpert if triplet.finding in findings else None
            if column:
                said[column] = max(said.get(column, 0), WEIGHT[triplet.existence])
    if sentences and not any(weight for column, weight in said.items() if column != "Support Devices"):
        said["No Finding"] = 2
    return [study_id, subject_id or "", *(CELL[said.get(column)] for column in COLUMNS)]
