"""Images with their masks, decoded once and held in memory as small squares.

An image takes S * S bytes, and S * S / 8 for each class. Letters: N images, K classes, S side of the square,
B images of a batch, H, W of the original image.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medground import jsonl, mask_records, run_lengths
from medground.boxes import Letterbox
from medground.data.prefetch import Prefetched
from medground.downstream import splits
from medground.downstream.splits import Rows
from medground.errors import BadRecord, MedgroundError
from medground.models import letterboxed
from medground.models.letterboxed import LetterboxedImage
from medground.records import Mask

SAME = ("path", "width", "height", "subject_id", "split")  # of all masks of an image
Reject = Callable[[Mask, MedgroundError], None]
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class MaskedImages:
    """N images with the masks of K classes; `rows` of each split.

    records: the K masks of each image, in the order of the classes. packed: (N, K, S * S / 8) bits.
    """

    records: list[list[Mask]]
    classes: list[str]
    images: list[LetterboxedImage]
    packed: NDArray[np.uint8]
    rows: dict[str, Rows]
    size: int

    def batch(self, rows: Sequence[int] | Rows) -> tuple[Tensor, Tensor]:
        """Return (B, 2, S, S), images in [0, 1] and their insides, and (B, K, S, S) masks, 0 or 1."""
        planes = np.stack([self.images[row].planes() for row in rows])
        bits = np.unpackbits(self.packed[rows], axis=-1, count=self.size**2)
        masks = bits.reshape(len(rows), len(self.classes), self.size, self.size)
        return torch.from_numpy(planes), torch.from_numpy(masks.astype(np.float32))

    def positive(self) -> NDArray[np.bool_]:
        """Return (N,) whether an image has a mask with a pixel."""
        return np.array([any(map(_has_pixels, own)) for own in self.records], dtype=bool)

    def share(self, share: float, seed: int) -> Rows:
        """Return the rows of a share of the training patients; see `splits.share_of`."""
        return splits.share_of([own[0] for own in self.records], self.rows["train"], share, seed)

    def digest(self) -> str:
        """Return a hash of the masks, in their order."""
        whole = hashlib.sha256()
        for own in self.records:
            for each in own:
                whole.update(jsonl.dumps(each))
        return whole.hexdigest()[:12]


def _has_pixels(mask: Mask) -> bool:
    return any(run_lengths.unpacked(mask.counts)[1::2])


def grouped(masks: Iterable[Mask], reject: Reject) -> list[list[Mask]]:
    """Return the masks of each image, in the order of the classes; images in the order of the file.

    Masks of an image that contradict each other, and those of an image without a mask of each class, go to
    `reject`.
    """
    images: dict[str, list[Mask]] = {}
    classes: dict[str, int] = {}
    for mask in masks:
        own = images.setdefault(mask.image_id, [])
        if own and (other := [key for key in SAME if getattr(own[0], key) != getattr(mask, key)]):
            reject(mask, BadRecord(f"{mask.path}: another mask of this image differs in it", other[0]))
            continue
        own.append(mask)
        classes.setdefault(mask.category, len(classes))
    kept = []
    for own in images.values():
        if missing := sorted(classes.keys() - {each.category for each in own}):
            problem = f"{own[0].path}: has no mask of the class {missing[0]}; an absent one is an empty mask"
            for each in own:
                reject(each, MedgroundError(problem))
            continue
        kept.append(sorted(own, key=lambda each: classes[each.category]))
    return kept


def read(
    grouped: Sequence[Sequence[Mask]],
    folder: Path,
    size: int,
    reject: Reject,
    allow_leakage: bool = False,
    progress: Progress = iter,
) -> tuple[MaskedImages, bool]:
    """Return the images below `folder` with their masks, and whether patients leak between splits.

    Masks of an image that is unreadable, or of another size, go to `reject`. Raises MedgroundError without an
    image of each split, and for patients in two splits unless leakage is allowed.
    """
    if not allow_leakage:  # refused before the images are read; leaks that are allowed are logged once
        splits.rows_of([own[0] for own in grouped], "segment")
    records, images, packed = [], [], []
    for own, found in progress(_loaded(grouped, folder, size)):
        if isinstance(found, MedgroundError):
            for each in own:
                reject(each, found)
            continue
        records.append(list(own))
        images.append(found)
        packed.append([np.packbits(square_of(each, found.letterbox)) for each in own])
    classes = [each.category for each in records[0]] if records else []
    bits = np.array(packed, dtype=np.uint8).reshape(len(records), len(classes), -(-(size**2) // 8))
    rows, leaks = splits.rows_of([own[0] for own in records], "segment", allow_leakage)
    return MaskedImages(records, classes, images, bits, rows, size), leaks


def _loaded(
    grouped: Sequence[Sequence[Mask]], folder: Path, size: int
) -> Iterator[tuple[Sequence[Mask], LetterboxedImage | MedgroundError]]:
    def load(number: int) -> LetterboxedImage | MedgroundError:
        first = grouped[number][0]
        path = folder / first.path
        try:
            found = letterboxed.read(path, size)
            return found.sized(first.width, first.height, path, "its mask")
        except MedgroundError as error:
            return error

    for number, found in Prefetched(load, range(len(grouped))):
        yield grouped[number], found


def square_of(mask: Mask, letterbox: Letterbox) -> run_lengths.Mask:
    """Return the (S, S) mask in the square of its image, resized to the nearest pixel."""
    from PIL import Image

    whole = Image.fromarray(mask_records.pixels(mask).astype(np.uint8))
    square = np.zeros((letterbox.size, letterbox.size), bool)
    (width, height), (left, top) = letterbox.inner, letterbox.offset
    inner = whole.resize((width, height), Image.Resampling.NEAREST)
    square[top : top + height, left : left + width] = np.asarray(inner, bool)
    return square


def original_of(probabilities: Tensor, letterbox: Letterbox, threshold: float) -> NDArray[np.bool_]:
    """Return (K, H, W) masks of (K, S, S) probabilities: at least the threshold, after bilinear resizing."""
    (width, height), (left, top) = letterbox.inner, letterbox.offset
    inner = probabilities[None, :, top : top + height, left : left + width]
    sides = (letterbox.height, letterbox.width)
    whole = torch.nn.functional.interpolate(inner, size=sides, mode="bilinear")[0]
    found: NDArray[np.bool_] = (whole >= threshold).numpy()
    return found
