"""Files of Kaggle's two challenges on chest X-rays: RSNA pneumonia, and SIIM-ACR pneumothorax.

RSNA   stage_2_train_labels.csv: patientId, x, y, width, height, Target. One row per box; Target 0 has none.
       30,227 rows of 26,684 images (Shih et al., Radiology: Artificial Intelligence 2019).
SIIM   train-rle.csv: `ImageId, EncodedPixels`, with a space before the second name, one row per mask; -1 is
       no mask. Masks are run lengths (`run_lengths.of_gaps`); each connected piece of them becomes a box.

The images are DICOM files of 1024 x 1024.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from medground import run_lengths
from medground.datasets.class_boxes import Finding, phrases
from medground.datasets.drawn_splits import Drawn
from medground.datasets.sources import Row, Source, TakeBad, refuse, rows, sift
from medground.errors import BadRecord
from medground.records import Phrase

SIDE = 1024
RSNA_NUMBERS = ("x", "y", "width", "height")
NO_MASK = "-1"
LOCALIZE = (0.6, 0.2, 0.2)  # MGCA's shares of RSNA for detection and segmentation
Shares = tuple[float, float, float] | None


def read_rsna(
    source: Source, take: TakeBad = refuse, split_shares: Shares = None, seed: int = 0, **options: Any
) -> Iterator[Phrase]:
    """Yield the phrases of each image: "lung opacity", with all its boxes; the splits are those of masks."""
    table = rows(source, {"patientId", "Target", *RSNA_NUMBERS}, "RSNA's stage_2_train_labels.csv", take)
    drawn = Drawn(split_shares or LOCALIZE, seed)
    for phrase in phrases(sift(table, _of_rsna, take), source, take, **options):
        split = drawn.of(phrase.image_id)
        yield replace(phrase, split=split, extra=phrase.extra | {"split_by": drawn.name})


def _of_rsna(row: Row) -> Finding:
    image = _image(row, row.text("patientId"))
    target = row.text("Target")
    if target not in ("0", "1"):
        raise BadRecord("expected 0 or 1", "Target")
    if target == "0":
        return image
    x, y, width, height = (row.number(name) for name in RSNA_NUMBERS)
    return replace(image, category="Lung Opacity", found=((x, y, x + width, y + height),))


def _image(row: Row, name: str) -> Finding:
    return Finding(row.raw, row.place, name, f"{name}.dcm", size=(SIDE, SIDE), subject_id=name)


def read_siim(source: Source, take: TakeBad = refuse, **options: Any) -> Iterator[Phrase]:
    """Yield the phrases of each image: "pneumothorax", with a box around each piece of its masks."""
    table = rows(source, {"ImageId", "EncodedPixels"}, "SIIM's train-rle.csv", take)
    yield from phrases(sift(table, _of_siim, take), source, take, **options)


def _of_siim(row: Row) -> Finding:
    image = replace(_image(row, row.text("ImageId")), subject_id=None)
    text = row.text("EncodedPixels")
    if text == NO_MASK:
        return image
    try:
        found = run_lengths.pieces(run_lengths.of_gaps(text, SIDE, SIDE))
    except ValueError:
        raise BadRecord("expected pairs of a gap and a length inside 1024 x 1024", "EncodedPixels") from None
    if not found:
        raise BadRecord("an empty mask", "EncodedPixels")
    return replace(image, category="Pneumothorax", found=tuple(found))
