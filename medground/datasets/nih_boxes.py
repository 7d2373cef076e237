"""Boxes on images of NIH ChestX-ray14 (Wang et al., CVPR 2017): NIH's own list, and ChestX-Det.

BBox_List_2017.csv  984 boxes of 8 findings on 880 images. Its header is `Image Index,Finding Label,Bbox
    [x,y,w,h],,,`: a row has two names, four numbers and empty cells. "Infiltrate" is Infiltration.
ChestX-Det          radiologists' boxes of 13 findings on 3,578 images (Lian et al., 2021); ChestX-Det10
    has 10 (Liu et al., 2020). A JSON array of {"file_name", "syms": [...], "boxes": [[x1, y1, x2, y2], ...]}
    in which every finding is annotated. Files have NIH's names or numbers of their own.

All coordinates are pixels of images of 1024 x 1024.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from medground.datasets.class_boxes import Finding, phrases
from medground.datasets.json_items import JsonItem, items
from medground.datasets.sources import Row, Source, TakeBad, number, refuse, rows, sift
from medground.errors import BadRecord
from medground.records import Box, Phrase

SIDE = 1024
NUMBERS = ("Bbox [x", "y", "w", "h]")
NIH_NAME = re.compile(r"(\d{8})_\d{3}")


def read_nih(source: Source, take: TakeBad = refuse, **options: Any) -> Iterator[Phrase]:
    """Yield the phrases of BBox_List_2017.csv; the list is not exhaustive, so none is known to be absent."""
    table = rows(source, {"Image Index", "Finding Label", *NUMBERS}, "NIH's BBox_List_2017.csv", take)
    yield from phrases(sift(table, _of_row, take), source, take, **options)


def _of_row(row: Row) -> Finding:
    x, y, w, h = (row.number(name) for name in NUMBERS)
    image, category = row.text("Image Index"), row.text("Finding Label")
    return _finding(row.raw, row.place, image, category, ((x, y, x + w, y + h),))


def _finding(raw: bytes, place: str, name: str, category: str | None, found: tuple[Box, ...]) -> Finding:
    image = PurePosixPath(name).stem
    patient = NIH_NAME.fullmatch(image)
    return Finding(raw, place, image, name, category, found, (SIDE, SIDE), patient[1] if patient else None)


def read_chestx_det(source: Source, take: TakeBad = refuse, **options: Any) -> Iterator[Phrase]:
    """Yield the phrases of ChestX_Det_train.json or _test.json, or of ChestX-Det10's files."""
    found = (each for some in sift(items(source, "ChestX-Det"), _of_item, take) for each in some)
    yield from phrases(found, source, take, **options)


def _of_item(item: JsonItem) -> list[Finding]:
    """Return the findings of one image, and the image itself if it has none."""
    value = item.value if isinstance(item.value, dict) else {}
    name, names, found = (value.get(key) for key in ("file_name", "syms", "boxes"))
    if not isinstance(name, str) or not name.strip():
        raise BadRecord("expected the name of an image", "file_name")
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise BadRecord("expected an array of findings", "syms")
    if not isinstance(found, list) or len(found) != len(names):
        raise BadRecord("expected one box for each finding of `syms`", "boxes")
    image = _finding(item.raw, item.place, name, None, ())
    placed = [(each, _corners(box, n)) for n, (each, box) in enumerate(zip(names, found, strict=True))]
    return [_finding(item.raw, item.place, name, each, (box,)) for each, box in placed] or [image]


def _corners(box: Any, place: int) -> Box:
    if not isinstance(box, list) or len(box) != 4:
        raise BadRecord("expected an array of 4", "boxes", place)
    x1, y1, x2, y2 = (number(each, "boxes", place) for each in box)
    if x2 <= x1 or y2 <= y1:
        raise BadRecord("this box has no area", "boxes", place)
    return x1, y1, x2, y2
