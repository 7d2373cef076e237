"""The 14 labels of CheXpert for a report: 1 (present), 0 (absent), -1 (uncertain) or empty (not mentioned).

Labels follow the phrases and rules of the published labeler (Irvin et al. 2019), applied to our triplets. So
vascular congestion is Edema, a scar is Lung Opacity, and a calcified nodule or a blunted angle has no label.
There are two differences. The labeler uses impressions only; here all parsed sections count. It calls a
nodular density or opacity a Lung Lesion, too; here it keeps the label of its finding.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from medground.records import Sentence, Triplet
from medground.reports.lexicon import DEVICES, Finding

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
    DEVICES,
)
HEADER = ("study_id", "subject_id", *COLUMNS)
WEIGHT = {"absent": 0, "uncertain": 1, "present": 2}
CELL = {None: "", 0: "0", 1: "-1", 2: "1"}

# Labels that depend on the words of a finding; the first match counts.
BY_WORDS = {
    "bronchial wall thickening": ((re.compile("thicken"), "Lung Opacity"),),
    "lung density": ((re.compile("increased"), "Lung Opacity"),),
    "pleural/parenchymal scarring": ((re.compile("pleur|fibro"), "Pleural Other"),),
}
HEART_FAILURE = re.compile(r"\b(chf|heart failure)\b", re.IGNORECASE)  # also an uncertain Cardiomegaly
# Remarks on the image and traces of operations. They are no findings for "No Finding".
HARMLESS = frozenset(
    (
        "artifact", "breast/nipple shadows", "cabg grafts", "device tip", "epicardial fat",
        "low lung volumes", "rotated", "skin fold", "sternotomy wires", "stimulator",
        "surgical clips", "aortic graft/repair",
    )
)  # fmt: skip


def to_row(
    study_id: str, subject_id: str | None, sentences: Sequence[Sentence], findings: Mapping[str, Finding]
) -> list[str]:
    """Return the cells of HEADER for one report.

    If a column has several existences, present takes precedence over uncertain, and uncertain over absent.
    "No Finding" is 1 if only devices are present or uncertain. Without sentences, all labels are empty.
    """
    labels: dict[str, int] = {}
    found = False
    for sentence in sentences:
        for triplet in sentence.triplets:
            weight = WEIGHT[triplet.existence]
            for label, most in _labels(sentence, triplet, findings):
                labels[label] = max(labels.get(label, 0), min(weight, most))
            found |= weight > 0 and not _is_harmless(triplet.finding, findings)
    if sentences and not found:
        labels["No Finding"] = 2
    return [study_id, subject_id or "", *(CELL[labels.get(column)] for column in COLUMNS)]


def _labels(
    sentence: Sentence, triplet: Triplet, findings: Mapping[str, Finding]
) -> Iterator[tuple[str, int]]:
    """Yield the labels of a triplet, each with the highest weight that it may give."""
    start, end = triplet.finding_span
    words = sentence.text[start - sentence.start : end - sentence.start].lower()
    by_words = (label for each, label in BY_WORDS.get(triplet.finding, ()) if each.search(words))
    finding = findings.get(triplet.finding)
    if label := next(by_words, finding.chexpert if finding else None):
        yield label, WEIGHT["present"]
    if triplet.existence != "absent" and HEART_FAILURE.search(words):
        yield "Cardiomegaly", WEIGHT["uncertain"]


def _is_harmless(name: str, findings: Mapping[str, Finding]) -> bool:
    return name in HARMLESS or (name in findings and findings[name].chexpert == DEVICES)
