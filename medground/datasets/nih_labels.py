"""NIH ChestX-ray14 (Wang et al., CVPR 2017): mined labels of 112,120 images of 30,805 patients.

Data_Entry_2017.csv and Data_Entry_2017_v2020.csv. The header is `Image Index,Finding Labels,Follow-up #,
Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],
OriginalImagePixelSpacing[x,y],`, on one line.
The commas in the brackets part cells, so only the first seven columns have a name; the last is empty. Some
copies write `Patient Sex`, quote the brackets, or lack the last comma. Old copies write an age as `058Y`.

Labels are parted by `|`; `No Finding` excludes all others. NIH's split is a list of images, test_list.txt.
"""

import re
from collections.abc import Callable, Iterator

from medground.datasets import drawn_splits
from medground.datasets.drawn_splits import Drawn, OnePart
from medground.datasets.sources import Row, Source, TakeBad, refuse, rows, sift
from medground.errors import BadRecord
from medground.records import Label, Labels

CLASSES = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
NONE = "No Finding"
NEEDED = {"Image Index", "Finding Labels", "Patient ID"}
SHARES = (0.7, 0.1, 0.2)
AGE = re.compile(r"0*(\d{1,9})\s*Y?")


def read(
    source: Source,
    take: TakeBad = refuse,
    test_list: frozenset[str] | None = None,
    val_share: float = 0.1,
    split_shares: tuple[float, float, float] | None = None,
    seed: int = 0,
) -> Iterator[Label]:
    """Yield the labels of each image, all 14 classes as 1 or 0.

    test_list: names of the test images; a share of the other patients validates. Without it, all patients are
    divided by `split_shares`. Raises MedgroundError for a patient on both sides of the list.
    """
    table = rows(source, NEEDED, "NIH's Data_Entry_2017.csv", take, ragged=True)
    drawn = Drawn(split_shares or SHARES, seed)
    if test_list is None:
        yield from sift(table, lambda row: _label(row, drawn.of, drawn.name), take)
        return
    inside, parts = drawn_splits.validation_of(val_share, seed), OnePart()
    rule = f"NIH test list; of the others {inside.name}"

    def of_listed(row: Row) -> Label:
        is_test, patient = row.text("Image Index") in test_list, row.text("Patient ID")
        parts.check(patient, is_test, row.place)
        return _label(row, (lambda _: "test") if is_test else inside.of, rule)

    yield from sift(table, of_listed, take)


def _label(row: Row, split_of: Callable[[str], str], rule: str) -> Label:
    name, patient = row.text("Image Index"), row.text("Patient ID")
    return Label(
        image_id=name.rpartition(".")[0] or name,
        subject_id=patient,
        path=name,
        view=row.maybe("View Position"),
        labels=_classes(row),
        split=split_of(patient),
        split_by=rule,
        extra=_more(row),
    )


def _classes(row: Row) -> Labels:
    found = {each.strip() for each in row.text("Finding Labels").split("|")}
    if not found <= {NONE, *CLASSES}:
        raise BadRecord("not one of the 14 findings", "Finding Labels")
    if NONE in found and len(found) > 1:
        raise BadRecord("No Finding together with a finding", "Finding Labels")
    return {name: 1 if name in found else 0 for name in CLASSES}


def _more(row: Row) -> dict[str, int | str]:
    """Return age, sex and number of the follow-up, if the file has them."""
    found: dict[str, int | str] = {}
    if age := row.maybe("Patient Age"):
        years = AGE.fullmatch(age)
        if not years:
            raise BadRecord("expected an age in years", "Patient Age")
        found["age"] = int(years[1])
    if sex := row.maybe("Patient Gender") or row.maybe("Patient Sex"):
        found["sex"] = sex
    if number := row.maybe("Follow-up #"):
        if not re.fullmatch(r"\d{1,9}", number):
            raise BadRecord("expected a whole number", "Follow-up #")
        found["follow_up"] = int(number)
    return found
