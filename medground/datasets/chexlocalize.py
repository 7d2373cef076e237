"""CheXlocalize: radiologists' masks of 10 findings on CheXpert's images (Saporta et al., 2022).

`gt_segmentations_val.json` and `_test.json`: {id: {finding: {"size": [H, W], "counts": text}}}, COCO's packed
run lengths. The id `patient64622_study1_view1_frontal` is the image `patient64622/study1/view1_frontal.jpg`
below the folder of its split. A finding without a mask is absent. Each connected piece of a mask becomes a
box.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from medground import run_lengths
from medground.datasets.class_boxes import TABLE, Finding, phrases, read_templates
from medground.datasets.json_items import JsonItem, members
from medground.datasets.sources import Source, TakeBad, refuse, sift
from medground.errors import BadRecord
from medground.records import Phrase

ID = re.compile(r"(patient\d+)_(study\d+)_(view\d+_(frontal|lateral))")


def read(source: Source, take: TakeBad = refuse, **options: Any) -> Iterator[Phrase]:
    """Yield the phrases of each frontal image; a warning counts the lateral ones, which are left out."""
    dirt: Counter[str] = Counter()
    images = members(source, "gt_segmentations_val.json")
    found = (each for some in sift(images, lambda image: _findings(image, dirt), take) for each in some)
    yield from phrases(found, source, take, dirt, **options)


def _findings(image: JsonItem, dirt: Counter[str]) -> list[Finding]:
    parts = ID.fullmatch(str(image.key))
    if not parts:
        raise BadRecord("expected a name like patient64622_study1_view1_frontal")
    if not isinstance(image.value, dict) or not image.value:
        raise BadRecord("expected an object of masks")
    if parts[4] == "lateral":
        dirt["lateral images, left out"] += 1
        return []
    path = f"{parts[1]}/{parts[2]}/{parts[3]}.jpg"
    return [_finding(image, path, parts[1], *item) for item in image.value.items()]


def _finding(image: JsonItem, path: str, patient: str, category: str, mask: Any) -> Finding:
    try:
        pixels = run_lengths.mask_of(mask["size"], mask["counts"])
    except (KeyError, TypeError, ValueError):
        known = category.casefold() in read_templates(TABLE)  # a message quotes no other key of the file
        step = category if known else [*image.value].index(category)
        raise BadRecord("expected a size and packed run lengths of that size", step) from None
    found, size = tuple(run_lengths.pieces(pixels)), (pixels.shape[1], pixels.shape[0])
    named = category if found else None
    return Finding(image.raw, image.place, str(image.key), path, named, found, size, patient)
