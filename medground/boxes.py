"""Boxes: overlap, and coordinates before and after resizing and letterboxing.

Letters: N, M boxes. Pixel boxes are [x1, y1, x2, y2]. Normalized boxes are [cx, cy, w, h] in [0, 1] of a
letterboxed square, and exist only inside tensors. A pixel's left edge is its index, so a whole image of width
W and height H has the box [0, 0, W, H].
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.errors import BadRecord
from medground.records import Anatomy, Box, Pair, Phrase

Array = NDArray[np.float64]


def area(boxes: Array) -> Array:
    """Return the (N,) areas of (N, 4) boxes; 0 for a box with x2 < x1 or y2 < y1."""
    return np.clip(boxes[:, 2] - boxes[:, 0], 0, None) * np.clip(boxes[:, 3] - boxes[:, 1], 0, None)


def iou(a: Array, b: Array) -> Array:
    """Return the (N, M) intersection over union of (N, 4) and (M, 4) boxes, in [0, 1]; 0 if both have no
    area.
    """
    both = _shared(a[:, None, 0], a[:, None, 2], b[None, :, 0], b[None, :, 2])
    both *= _shared(a[:, None, 1], a[:, None, 3], b[None, :, 1], b[None, :, 3])
    either = area(a)[:, None] + area(b)[None, :] - both
    result: Array = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return result


def _shared(begin: Array, end: Array, other_begin: Array, other_end: Array) -> Array:
    """Return the lengths that intervals share; one axis at a time, so that memory is read in order."""
    length: Array = np.minimum(end, other_end)
    length -= np.maximum(begin, other_begin)
    return np.maximum(length, 0, out=length)


def paired_iou(a: Array, b: Array) -> Array:
    """Return the (N,) intersection over union of row i of `a` with row i of `b`."""
    size = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    both = size[:, 0] * size[:, 1]
    either = area(a) + area(b) - both
    result: Array = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return result


def union(boxes: list[Box]) -> Box:
    """Return the smallest box that contains all of them; needs at least one."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return (min(x1), min(y1), max(x2), max(y2))


def clip(box: Box, width: float, height: float) -> Box | None:
    """Return the part of the box inside the image; None if no area is left."""
    x1, y1 = max(0.0, box[0]), max(0.0, box[1])
    x2, y2 = min(float(width), box[2]), min(float(height), box[3])
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def refuse_outside(boxes: Iterable[Box], width: int | None, height: int | None, *path: str) -> None:
    """Raise BadRecord for `path` if a box lies outside the image. An unknown size has no outside."""
    for number, box in enumerate(boxes):
        if width and height and clip(box, width, height) is None:
            raise BadRecord("lies outside the image", *path, number)


def check_phrase(phrase: Phrase) -> None:
    """Raise BadRecord if a box of the phrase lies outside its image."""
    refuse_outside(phrase.boxes or (), phrase.width, phrase.height, "boxes")


def check_pair(pair: Pair) -> None:
    """Raise BadRecord if the box of the pair, or of one of its regions, lies outside its image."""
    x1, y1, x2, y2 = pair.box
    if not (x1 < pair.width and y1 < pair.height and x2 > 0 and y2 > 0):
        raise BadRecord("lies outside the image", "box")
    refuse_outside(pair.region_boxes, pair.width, pair.height, "region_boxes")


def check_anatomy(anatomy: Anatomy) -> None:
    """Raise BadRecord if the box of a region lies outside the image."""
    refuse_outside((each.box for each in anatomy.regions), anatomy.width, anatomy.height, "regions")


def rounded(box: Box) -> Box:
    """Return the box rounded to 0.1 px, as files store it, never without area."""
    x1, y1, x2, y2 = (round(float(each), 1) for each in box)
    return (x1, y1, max(x2, round(x1 + 0.1, 1)), max(y2, round(y1 + 0.1, 1)))


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A whole image of width x height, resized to fit and centered in a square of `size` pixels.

    If the square contains a `copy` (width, height) of the image in another size, boxes are still in pixels of
    the image.
    """

    width: int
    height: int
    size: int
    copy: tuple[int, int] | None = None

    @property
    def inner(self) -> tuple[int, int]:
        """(width, height) of the resized image inside the square; at least one pixel each."""
        width, height = self.copy or (self.width, self.height)
        scale = self.size / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def offset(self) -> tuple[int, int]:
        """(x, y) of the resized image's top left corner inside the square."""
        width, height = self.inner
        return (self.size - width) // 2, (self.size - height) // 2

    def to_square(self, boxes: Array) -> Array:
        """Return (N, 4) original pixels as pixels of the square."""
        return boxes * self._scale() + self._shift()

    def to_original(self, boxes: Array) -> Array:
        """Return (N, 4) pixels of the square as original pixels; the exact inverse of `to_square`."""
        return (boxes - self._shift()) / self._scale()

    def normalise(self, boxes: Array) -> Array:
        """Return (N, 4) original pixels as (N, 4) normalized [cx, cy, w, h] of the square."""
        corners = self.to_square(boxes) / self.size
        return np.concatenate(
            [(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1
        )

    def restore(self, boxes: Array) -> Array:
        """Return (N, 4) normalized [cx, cy, w, h] as original pixels; the exact inverse of `normalise`."""
        half = boxes[:, 2:] / 2
        return self.to_original(
            np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1) * self.size
        )

    def _scale(self) -> Array:
        width, height = self.inner
        return np.tile([width / self.width, height / self.height], 2)

    def _shift(self) -> Array:
        return np.tile(np.array(self.offset, dtype=float), 2)
