"""VinDr-CXR: 22 local findings with boxes on 18,000 chest X-rays (Nguyen et al., Scientific Data 2022).

`annotations_train.csv` has one row per box and reader, three readers per image. `annotations_test.csv` has
their consensus. Columns: image_id, rad_id (also rad_ID; not in the test file), class_name, x_min, y_min,
x_max, y_max; Kaggle's train.csv has class_id too. "No finding" has no box. Boxes are in pixels of the DICOM
file, whose size is not in the tables: --image-sizes gives it.

Three readers become one by weighted box fusion (Solovyev et al., Image and Vision Computing 2021): a box
joins the group whose mean box it overlaps most, if by more than `OVERLAP`, else it begins one. The box of a
group is its mean. RadVLM (Deperrois et al., 2025) fuses with the same threshold.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from medground import boxes
from medground.datasets.class_boxes import Finding, phrases
from medground.datasets.sources import Row, Source, TakeBad, refuse, rows, sift
from medground.errors import BadRecord
from medground.records import Box, Phrase

CORNERS = ("x_min", "y_min", "x_max", "y_max")
COLUMNS = {"image_id", "class_name", *CORNERS}
NOTHING = "no finding"
OVERLAP = 0.1


def read(
    source: Source, take: TakeBad = refuse, readers: Literal["fuse", "keep"] = "fuse", **options: Any
) -> Iterator[Phrase]:
    """Yield the phrases of each image: of all readers together ("fuse"), or of each reader ("keep")."""
    table = rows(source, COLUMNS, "VinDr-CXR's annotations_train.csv or annotations_test.csv", take)
    found = sift(table, _finding, take)
    if readers == "keep":
        yield from phrases(found, source, take, **options)
        return
    for each in phrases(_unnamed(found), source, take, **options):
        yield replace(each, boxes=fuse(each.boxes or []))


def _finding(row: Row) -> Finding:
    image = row.text("image_id")
    category = row.text("class_name")
    reader = row.maybe("rad_id") or row.maybe("rad_ID")
    known = Finding(row.raw, row.place, image, f"{image}.dicom", reader=reader)
    if category.casefold() == NOTHING:
        return known
    if all(row.maybe(name) is None for name in CORNERS):
        raise BadRecord("a finding without a box", CORNERS[0])
    x1, y1, x2, y2 = (row.number(name) for name in CORNERS)
    return replace(known, category=category, found=((x1, y1, x2, y2),))


def _unnamed(found: Iterable[Finding]) -> Iterator[Finding]:
    return (replace(each, reader=None) for each in found)


def fuse(found: list[Box], overlap: float = OVERLAP) -> list[Box]:
    """Return the mean box of each group of boxes that overlap, in the order of their first boxes."""
    groups: list[list[Box]] = []
    for box in found:
        means = np.array([_mean(group) for group in groups], float).reshape(-1, 4)
        shares = boxes.iou(np.array([box], float), means)[0] if groups else np.zeros(0)
        if groups and shares.max() > overlap:
            groups[int(shares.argmax())].append(box)
        else:
            groups.append([box])
    return [boxes.rounded(_mean(group)) for group in groups]


def _mean(group: list[Box]) -> Box:
    x1, y1, x2, y2 = np.mean(group, axis=0).tolist()
    return x1, y1, x2, y2
