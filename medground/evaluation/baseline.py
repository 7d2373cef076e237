"""The image-free baseline: the score of a model that ignores the image.

Its prediction for a phrase is the medoid of the training boxes of the same category and side word. The medoid
is the box with the highest mean IoU with the others. Boxes are normalized by the width and height of
their image: `[x1 / W, y1 / H, x2 / W, y2 / H]`. IoU is the same in these units as in pixels.

The anatomy-relative baseline (`Placed`) normalizes boxes by the box around both lungs instead. It uses the
image only to find the lungs.

A cell with fewer than `MIN_BOXES` boxes is not used. The phrase then gets the medoid of its category, or, if
that has too few boxes as well, of all training boxes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medground import boxes
from medground.errors import MedgroundError
from medground.records import Anatomy, Box, Phrase
from medground.reports.laterality import side_of

LUNGS = ("right lung", "left lung")
MIN_BOXES = 3
MOST = 2_000  # most boxes of a cell among which the medoid is searched: the search is quadratic
Cell = tuple[str, ...]  # from coarse to fine: (category, side)


def cell_of(phrase: Phrase) -> Cell:
    """Return the cell whose medoid is predicted for the phrase."""
    return (phrase.category or "", side_of(phrase.text))


@dataclass(frozen=True, slots=True)
class Prior:
    """One normalized box for each cell with enough boxes; () has the medoid of all."""

    medoids: dict[Cell, Box]

    def answer(self, cell: Cell, width: float, height: float) -> Box:
        """Return the medoid of the cell, or of the finest coarser cell with one, in pixels of the image."""
        while cell not in self.medoids:
            cell = cell[:-1]
        x1, y1, x2, y2 = self.medoids[cell]
        return (x1 * width, y1 * height, x2 * width, y2 * height)

    def box_of(self, phrase: Phrase, width: int | None = None, height: int | None = None) -> Box:
        """Return the box for a phrase, in pixels of its image (of width x height pixels, if given)."""
        return self.answer(cell_of(phrase), width or phrase.width or 1, height or phrase.height or 1)


@dataclass(frozen=True, slots=True)
class Placed:
    """The anatomy-relative baseline: one box for each cell, in shares of the box around both lungs.

    lungs: that box, by image_id. An image without one gets the box of the image-free baseline.
    """

    relative: Prior
    free: Prior
    lungs: Mapping[str, Box]

    def box_of(self, phrase: Phrase) -> Box:
        """Return the box for a phrase, in pixels of its image."""
        frame = self.lungs.get(phrase.image_id)
        if frame is None:
            return self.free.box_of(phrase)
        x1, y1, x2, y2 = frame
        box = self.relative.answer(cell_of(phrase), x2 - x1, y2 - y1)
        moved = (box[0] + x1, box[1] + y1, box[2] + x1, box[3] + y1)
        return boxes.clip(moved, phrase.width or 1, phrase.height or 1) or self.free.box_of(phrase)


def fit_placed(phrases: Sequence[Phrase], lungs: Mapping[str, Box]) -> Placed:
    """Return the anatomy-relative baseline of training phrases with the boxes around their images' lungs.

    Raises MedgroundError if no training phrase with a box is on an image with lungs.
    """
    entries = [
        (cell_of(phrase), _relative(box, lungs[phrase.image_id]))
        for phrase in phrases
        for box in phrase.boxes or ()
        if phrase.image_id in lungs
    ]
    if not entries:
        raise MedgroundError("--anatomy has no lungs on any image of the training phrases")
    return Placed(fit(entries), fit_phrases(phrases), lungs)


def _relative(box: Box, frame: Box) -> Box:
    x1, y1, x2, y2 = frame
    return normalised((box[0] - x1, box[1] - y1, box[2] - x1, box[3] - y1), x2 - x1, y2 - y1)


def lungs_of(anatomies: Iterable[Anatomy]) -> dict[str, Box]:
    """Return the box around both lungs by image_id, of the images on which both are known."""
    found = {}
    for anatomy in anatomies:
        both = [region.box for region in anatomy.regions if region.name in LUNGS]
        if len(both) == len(LUNGS):
            low, high = (np.array(both)[:, part] for part in (slice(0, 2), slice(2, 4)))
            found[anatomy.image_id] = boxes.rounded((*low.min(axis=0).tolist(), *high.max(axis=0).tolist()))
    return found


def fit(entries: Iterable[tuple[Cell, Box]]) -> Prior:
    """Return the baseline of normalized training boxes and cells. Raises MedgroundError without boxes."""
    boxes_of: dict[Cell, list[Box]] = defaultdict(list)
    for cell, box in entries:
        for end in range(len(cell) + 1):
            boxes_of[cell[:end]].append(box)
    if not boxes_of:
        raise MedgroundError("no training phrase has a box that this protocol scores: no prior can be fitted")
    trusted = {cell: each for cell, each in boxes_of.items() if len(each) >= MIN_BOXES or not cell}
    return Prior({cell: medoid(each) for cell, each in trusted.items()})


def fit_phrases(phrases: Iterable[Phrase]) -> Prior:
    """Return the baseline of training phrases, which must all have width, height and boxes."""
    return fit(
        (cell_of(phrase), normalised(box, phrase.width or 1, phrase.height or 1))
        for phrase in phrases
        for box in phrase.boxes or ()
    )


def fit_anatomies(anatomies: Iterable[Anatomy]) -> Prior:
    """Return the baseline of named regions: the cell of a region is its name."""
    return fit(
        ((region.name,), normalised(region.box, anatomy.width, anatomy.height))
        for anatomy in anatomies
        for region in anatomy.regions
    )


def normalised(box: Box, width: float, height: float) -> Box:
    """Return the box as fractions of the image's width and height."""
    return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)


def medoid(found: list[Box]) -> Box:
    """Return the first box with the highest mean IoU with all boxes; needs at least one box.

    Of more than `MOST` boxes, only `MOST` at even distances in the list are used.
    """
    some = found if len(found) <= MOST else [found[i * len(found) // MOST] for i in range(MOST)]
    array = np.array(some, dtype=float)
    overlap = np.concatenate([boxes.iou(part, array).mean(axis=1) for part in np.array_split(array, 8)])
    return some[int(np.argmax(overlap.round(12)))]  # rounded: the first of equal boxes, on every machine
