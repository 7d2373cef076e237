"""Labels and masks of Kaggle's two challenges; `challenges` makes phrases of the same files.

RSNA   stage_2_train_labels.csv, one row per box. As labels, an image is positive or not. As masks, its boxes
       are filled (MGCA); an image without a box has an empty mask.
SIIM   stage 1 train-rle.csv (`ImageId, EncodedPixels`, blanks before the second name and before -1) and stage
       2 stage_2_train.csv (no blanks). Several rows of an image are one mask, their union.

The rows of an image may lie apart, so the whole file is held in memory. RSNA's images are patients; SIIM's
files name no patient, so images are drawn into its splits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from medground import run_lengths
from medground.datasets.challenges import LOCALIZE, NO_MASK, RSNA_NUMBERS, SIDE, Shares
from medground.datasets.drawn_splits import Drawn
from medground.datasets.sources import Row, Source, TakeBad, refuse, rows, sift
from medground.errors import BadRecord
from medground.records import Box, Label, Mask

CLASSIFY = (0.7, 0.15, 0.15)  # MGCA's shares
Part = TypeVar("Part")


@dataclass(slots=True)
class _Image(Generic[Part]):
    """The positive rows of one image; `negative` if a row declares that there is none."""

    parts: list[Part] = field(default_factory=list)
    negative: bool = False


def read_rsna_labels(
    source: Source, take: TakeBad = refuse, split_shares: Shares = None, seed: int = 0
) -> Iterator[Label]:
    """Yield the label "Pneumonia" of each image."""
    drawn = Drawn(split_shares or CLASSIFY, seed)
    for name, image in _rsna(source, take).items():
        yield Label(
            image_id=name,
            subject_id=name,
            path=f"{name}.dcm",
            labels={"Pneumonia": 0 if image.negative else 1},
            split=drawn.of(name),
            split_by=drawn.name,
        )


def read_rsna_masks(
    source: Source, take: TakeBad = refuse, split_shares: Shares = None, seed: int = 0
) -> Iterator[Mask]:
    """Yield the mask "Pneumonia" of each image: its boxes, filled."""
    drawn = Drawn(split_shares or LOCALIZE, seed)
    for name, image in _rsna(source, take).items():
        yield _mask(name, name, "Pneumonia", _filled(image.parts), drawn)


def read_siim_masks(
    source: Source, take: TakeBad = refuse, split_shares: Shares = None, seed: int = 0
) -> Iterator[Mask]:
    """Yield the mask "Pneumothorax" of each image: the union of its rows."""
    drawn = Drawn(split_shares or CLASSIFY, seed, "images")
    table = rows(source, {"ImageId", "EncodedPixels"}, "SIIM's train-rle.csv or stage_2_train.csv", take)
    for name, image in _gathered(table, "ImageId", "EncodedPixels", _of_siim, take).items():
        whole = np.zeros((SIDE, SIDE), bool)
        for text in image.parts:
            whole |= run_lengths.of_gaps(text, SIDE, SIDE)
        yield _mask(name, None, "Pneumothorax", whole, drawn)


def _rsna(source: Source, take: TakeBad) -> dict[str, _Image[Box]]:
    table = rows(source, {"patientId", "Target", *RSNA_NUMBERS}, "RSNA's stage_2_train_labels.csv", take)
    return _gathered(table, "patientId", "Target", _of_rsna, take)


def _gathered(
    table: Iterator[Row], key: str, stating: str, read: Callable[[Row], Part | None], take: TakeBad
) -> dict[str, _Image[Part]]:
    """Return the images by name, in the order of the file; `read` returns None for a negative row.

    A row that contradicts the earlier rows of its image is a bad row of the column `stating`.
    """
    images: dict[str, _Image[Part]] = {}

    def add(row: Row) -> None:
        part, image = read(row), images.get(row.text(key), _Image[Part]())
        if image.negative if part is not None else image.parts:
            raise BadRecord("another row of this image states the opposite", stating)
        image.negative = part is None
        if part is not None and part not in image.parts:
            image.parts.append(part)
        images[row.text(key)] = image

    for _ in sift(table, add, take):
        pass
    return images


def _of_rsna(row: Row) -> Box | None:
    target = row.text("Target")
    if target not in ("0", "1"):
        raise BadRecord("expected 0 or 1", "Target")
    if target == "0":
        if any(row.maybe(name) for name in RSNA_NUMBERS):
            raise BadRecord("a box of an image without pneumonia", "Target")
        return None
    x, y, width, height = (row.number(name) for name in RSNA_NUMBERS)
    if not (0 <= x < x + width <= SIDE and 0 <= y < y + height <= SIDE):
        raise BadRecord(f"expected a box inside {SIDE} x {SIDE} pixels", "x")
    return x, y, x + width, y + height


def _of_siim(row: Row) -> str | None:
    text = row.text("EncodedPixels")
    if text == NO_MASK:
        return None
    try:
        found = run_lengths.of_gaps(text, SIDE, SIDE)
    except ValueError:
        raise BadRecord("expected pairs of a gap and a length inside 1024 x 1024", "EncodedPixels") from None
    if not found.any():
        raise BadRecord("an empty mask", "EncodedPixels")
    return text


def _filled(found: list[Box]) -> run_lengths.Mask:
    """Return the mask of the pixels whose centers lie in one of the boxes."""
    whole = np.zeros((SIDE, SIDE), bool)
    for box in found:
        x1, y1, x2, y2 = (int(np.ceil(each - 0.5)) for each in box)
        whole[y1:y2, x1:x2] = True
    return whole


def _mask(name: str, subject: str | None, category: str, mask: run_lengths.Mask, drawn: Drawn) -> Mask:
    return Mask(
        image_id=name,
        subject_id=subject,
        path=f"{name}.dcm",
        width=SIDE,
        height=SIDE,
        category=category,
        counts=run_lengths.packed(mask),
        split=drawn.of(name),
        split_by=drawn.name,
    )
