"""Training data of a detector: images decoded once, at its size, with the boxes of their regions.

Letters: N images, S side, Q regions. Boxes are [x1, y1, x2, y2] in shares of the square's side.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medground import boxes, images
from medground.errors import MedgroundError
from medground.parallel import in_threads
from medground.records import Anatomy

SAME_SHAPE = 0.01  # maximum relative difference of the aspect ratios of a record and its file
Item = TypeVar("Item")
Result = TypeVar("Result")
Reject = Callable[[Anatomy, MedgroundError], None]


@dataclass(frozen=True)
class ImageSet:
    """squares (N, S, S) bytes; boxes (N, Q, 4); present (N, Q) 1 present, 0 absent, -1 box unusable."""

    squares: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    present: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.squares)

    def digest(self) -> str:
        """Return 12 hex digits over all contents."""
        digest = hashlib.sha256()
        for each in (self.squares, self.boxes, self.present):
            digest.update(np.ascontiguousarray(each).data)
        return digest.hexdigest()[:12]


def read_images(
    anatomies: Iterable[Anatomy],
    folder: Path,
    names: Sequence[str],
    size: int,
    reject: Reject,
    use: str = "train on",
) -> ImageSet:
    """Return all images of the records, in order; a record with an unusable image goes to `reject`.

    A region missing in a record is absent. A known non-frontal image has no regions. Raises MedgroundError
    if nothing is left to `use`.
    """
    rows = list(_rows(anatomies, folder, names, size, reject))
    if not rows:
        raise MedgroundError(f"no images to {use}")
    squares, regions, present = zip(*rows, strict=True)
    return ImageSet(np.stack(squares), np.stack(regions), np.stack(present))


Row = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int8]]


def _rows(
    anatomies: Iterable[Anatomy], folder: Path, names: Sequence[str], size: int, reject: Reject
) -> Iterator[Row]:
    def read(anatomy: Anatomy) -> Row | MedgroundError:
        try:
            return _row(anatomy, folder, names, size)
        except MedgroundError as error:
            return error

    for anatomy, row in in_threads(read, anatomies):
        if isinstance(row, MedgroundError):
            reject(anatomy, row)
        else:
            yield row


def _row(anatomy: Anatomy, folder: Path, names: Sequence[str], size: int) -> Row:
    path = folder / anatomy.path
    square, place = images.letterbox(images.load_shown(path), size)
    said, found = anatomy.width / anatomy.height, place.width / place.height
    if abs(said / found - 1) > SAME_SHAPE:
        raise MedgroundError(
            f"{path}: is {place.width} x {place.height}, its record says {anatomy.width} x {anatomy.height}"
        )
    regions, present = _regions(anatomy, names, size)
    return np.rint(square * 255).astype(np.uint8), regions, present


def _regions(
    anatomy: Anatomy, names: Sequence[str], size: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return (Q, 4) boxes in shares of the square, (Q,) presence; unknown names are skipped."""
    place = boxes.Letterbox(anatomy.width, anatomy.height, size)
    row = {name: n for n, name in enumerate(names)}
    found, present = np.zeros((len(names), 4), np.float32), np.zeros(len(names), np.int8)
    for region in anatomy.regions if anatomy.is_frontal else ():
        if region.name in row:
            inside = boxes.clip(region.box, anatomy.width, anatomy.height)
            present[row[region.name]] = -1 if inside is None else 1
            if inside is not None:
                found[row[region.name]] = place.to_square(np.array([inside]))[0] / size
    return found, present
