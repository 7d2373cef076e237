"""The stage of `medground segment`: images with masks -> predicted masks of validation and test images."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medground import run_lengths
from medground.boxes import Letterbox
from medground.downstream.image_encoders import ImageEncoder
from medground.downstream.segment import fit, images
from medground.downstream.segment.decoders import Shape
from medground.downstream.segment.fit import Segmenter, Settings
from medground.downstream.segment.images import MaskedImages, Progress
from medground.downstream.splits import Rows
from medground.errors import MedgroundError
from medground.models import letterboxed
from medground.models.letterboxed import LetterboxedImage
from medground.records import Image, Mask

log = logging.getLogger(__name__)
OF_THE_TRUTH = ("width", "height", "category", "counts")  # keys of a mask that a prediction does not keep


@dataclass(frozen=True, kw_only=True)
class Job:
    """The common parts of all runs: an encoder, the shape of its decoder, images, settings and further keys.

    negatives: training images without a mask for each one with a mask; None for all of them.
    """

    encoder: ImageEncoder
    shape: Shape
    data: MaskedImages
    settings: Settings
    device: str = "cpu"
    threshold: float = 0.5
    negatives: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def rows(self, share: float, seed: int) -> Rows:
        """Return the training images of a run; raise MedgroundError if none of them has a mask."""
        rows = self.data.share(share, seed)
        positive = self.data.positive()[rows]
        if not positive.any():
            raise MedgroundError(
                f"--share {share:g}, seed {seed}: no training mask has a pixel; give a larger share"
            )
        if self.negatives is None:
            return rows
        absent = np.flatnonzero(~positive)
        count = min(len(absent), round(self.negatives * int(positive.sum())))
        chosen = np.random.default_rng([seed, 2]).permutation(absent)[:count]
        positive[chosen] = True
        return rows[positive]


def maps_of(encoder: ImageEncoder) -> list[tuple[int, int]]:
    """Return (width, side) of each feature map of an encoder, fine to coarse."""
    device = next(encoder.network.parameters()).device
    square = torch.zeros(1, 1, encoder.size, encoder.size, device=device)
    with torch.inference_mode():
        return [(each.shape[1], each.shape[-1]) for each in encoder.maps(square, torch.ones_like(square))]


def run(job: Job, share: float, seed: int, progress: Progress = iter) -> tuple[Segmenter, list[Mask]]:
    """Return the trained segmenter of a run, and its masks of the validation and test images."""
    rows = job.rows(share, seed)
    segmenter = fit.build(job.encoder, job.shape, job.settings, seed, job.device)
    epoch = fit.fit(segmenter, job.data, rows, job.settings, seed, progress)
    log.info("share %g, seed %d: %d training images, epoch %d is kept", share, seed, len(rows), epoch)
    keys = {"share": share, "seed": seed, "train_images": len(rows), "epoch": epoch} | job.extra
    return segmenter, list(_of_rows(segmenter, job, keys))


def _of_rows(segmenter: Segmenter, job: Job, keys: dict[str, Any]) -> Iterator[Mask]:
    data, count = job.data, job.settings.batch_size
    rows = np.sort(np.concatenate([data.rows["val"], data.rows["test"]]))
    for start in range(0, len(rows), count):
        own = rows[start : start + count]
        found = probabilities(segmenter, [data.images[row] for row in own])
        for row, each in zip(own, found, strict=True):
            masks = images.original_of(each, data.images[row].letterbox, job.threshold)
            for true, mask in zip(data.records[row], masks, strict=True):
                extra = true.extra | {"model": job.encoder.name} | keys
                yield replace(true, counts=run_lengths.packed(mask), extra=extra)


@torch.inference_mode()
def probabilities(segmenter: Segmenter, shown: Sequence[LetterboxedImage]) -> Tensor:
    """Return (B, K, S, S) probabilities of B images."""
    segmenter.eval()
    planes = torch.stack([each.picture() for each in shown])
    logits: Tensor = segmenter(planes.to(segmenter.device))
    return logits.float().sigmoid().cpu()


def apply(
    segmenter: Segmenter,
    classes: Sequence[str],
    records: Iterable[Image],
    folder: Path,
    threshold: float,
    reject: Callable[[Image, MedgroundError], None],
    extra: dict[str, Any],
    batch_size: int = 8,
) -> Iterator[Mask]:
    """Yield the mask of each class on each image, in order; records of unreadable images go to `reject`.

    A mask has the size that the record states (`width`, `height`), otherwise that of the image.
    """
    stream = iter(records)
    while batch := list(islice(stream, batch_size)):
        loaded = [(each, _load(each, folder, segmenter.encoder.size, reject)) for each in batch]
        good = [(record, image) for record, image in loaded if image is not None]
        if not good:
            continue
        found = probabilities(segmenter, [image for _, image in good])
        for (record, image), each in zip(good, found, strict=True):
            masks = images.original_of(each, image.letterbox, threshold)
            for name, mask in zip(classes, masks, strict=True):
                yield _predicted(record, image.letterbox, name, mask, extra)


def _load(
    record: Image, folder: Path, size: int, reject: Callable[[Image, MedgroundError], None]
) -> LetterboxedImage | None:
    path = folder / record.path
    try:
        found = letterboxed.read(path, size)
        sides = [record.extra.get(key) for key in ("width", "height")]
        width, height = (each if isinstance(each, int) else None for each in sides)
        return found.sized(width, height, path, "its record")
    except MedgroundError as error:
        reject(record, error)
        return None


def _predicted(
    record: Image, place: Letterbox, name: str, mask: run_lengths.Mask, extra: dict[str, Any]
) -> Mask:
    kept = {key: each for key, each in record.extra.items() if key not in OF_THE_TRUTH}
    split = kept.get("split")
    return Mask(
        image_id=record.image_id,
        subject_id=record.subject_id,
        path=record.path,
        width=place.width,
        height=place.height,
        category=name,
        counts=run_lengths.packed(mask),
        split=split if isinstance(split, str) else None,
        extra=kept | extra,
    )
