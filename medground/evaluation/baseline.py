"""The image-free prior: what a model would score that never looks at the image.

It answers a phrase with the medoid of the training boxes of the same category and side word: the box that
overlaps the others most, by mean IoU. Boxes are normalised by the width and height of their image,
[x1 / W, y1 / H, x2 / W, y2 / H]; IoU is the same there as in pixels.

A cell with fewer than `MIN_BOXES` boxes is not trusted: the phrase then gets the medoid of its category, and
where that is small too, of all training boxes.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medground import boxes
from medground.errors import MedgroundError
from medground.records import Anatomy, Box, Phrase
from medground.reports.laterality import side_of

MIN_BOXES = 3
MOST = 2_000  # boxes of one cell that the medoid is sought among: the search is quadratic
Cell = tuple[str, ...]  # from the coarse to the fine: (category, side)


def cell_of(phrase: Phrase) -> Cell:
    """The cell whose medoid answers the phrase."""
    return (phrase.category or "", side_of(phrase.text))


@dataclass(frozen=True, slots=True)
class Prior:
    """One normalised box for each cell that has enough of them; () holds the medoid of all."""

    medoids: dict[Cell, Box]

    def answer(self, cell: Cell, width: float, height: float) -> Box:
        """The medoid of the cell, or of the finest coarser one that has a medoid, in pixels of the image."""
        while cell not in self.medoids:
            cell = cell[:-1]
        x1, y1, x2, y2 = self.medoids[cell]
        return (x1 * width, y1 * height, x2 * width, y2 * height)

    def box_of(self, phrase: Phrase, width: int | None = None, height: int | None = None) -> Box:
        """Return the box for a phrase, in pixels of its image (of width x height pixels, if given)."""
        return self.answer(cell_of(phrase), width or phrase.width or 1, height or phrase.height or 1)


def fit(entries: Iterable[tuple[Cell, Box]]) -> Prior:
    """The prior of normalised training boxes with their cells; raises MedgroundError where there is none."""
    boxes_of: dict[Cell, list[Box]] = defaultdict(list)
    for cell, box in entries:
        for end in range(len(cell) + 1):
            boxes_of[cell[:end]].append(box)
    if not boxes_of:
        raise MedgroundError("no training phrase has a box that this protocol scores: no prior can be fitted")
    trusted = {cell: each for cell, each in boxes_of.items() if len(each) >= MIN_BOXES or not cell}
    return Prior({cell: medoid(each) for cell, each in trusted.items()})


def fit_phrases(phrases: Iterable[Phrase]) -> Prior:
    """The prior of training phrases, which must all have width, height and boxes."""
    return fit(
        (cell_of(phrase), normalised(box, phrase.width or 1, phrase.height or 1))
        for phrase in phrases
        for box in phrase.boxes or ()
    )


def fit_anatomies(anatomies: Iterable[Anatomy]) -> Prior:
    """The prior of named regions: a region's cell is its name."""
    return fit(
        ((region.name,), normalised(region.box, anatomy.width, anatomy.height))
        for anatomy in anatomies
        for region in anatomy.regions
    )


def normalised(box: Box, width: float, height: float) -> Box:
    """The box as shares of the image's width and height."""
    return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)


def medoid(found: list[Box]) -> Box:
    """The box with the largest mean IoU with all of them, the first such; needs at least one.

    Of more than `MOST` boxes, as many at even distances in the list stand for all.
    """
    some = found if len(found) <= MOST else [found[i * len(found) // MOST] for i in range(MOST)]
    array = np.array(some, dtype=float)
    overlap = np.concatenate([boxes.iou(part, array).mean(axis=1) for part in np.array_split(array, 8)])
    return some[int(np.argmax(overlap.round(12)))]  # rounded: the first of equals, on every machine
