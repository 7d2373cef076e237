"""Flip correction: detect images that are flipped left-right, as copies of X-rays sometimes are.

A network trained on report phrases localizes "right" in the left half of an image. On a flipped image it
therefore localizes the wrong lung. Heart, aorta and stomach reveal the flip. So an image and its flipped copy
are both encoded, and a linear map of their patches scores which of the two is unflipped. The map is fitted
to unflipped images. Its input is only the difference of the two, so no image counts as flipped only
because it is dark, small or abnormal. A heart on the right (dextrocardia) looks like a flipped image.

Flipped images are rare, and a wrong correction is worse than a missing one. So the threshold is beyond
the odds of all but 1 in 1,000 unflipped images, in a cross-validation. A map that fails there is not kept.

Letters: F images, V views of all of them, S side of the square, P patches (h x h), D width, C cells.
"""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground import checkpoints
from medground.errors import MedgroundError
from medground.grounding import backends
from medground.grounding.backends import Model
from medground.grounding.engine import EncodedImage
from medground.model_dir import CHANGED, DIGEST, FLIP_CORRECTION, ModelDir
from medground.models.letterboxed import LetterboxedImage

log = logging.getLogger(__name__)
FORMAT = 2
SIDE = 10  # cells per side that patches are averaged to
THRESHOLD = 3.0  # least log odds of a correction: probability 0.95
SAFETY = 1.25  # the threshold, as a multiple of the odds of the worst unflipped image
MOST_TURNED = 0.001  # share of unflipped images that may be corrected by mistake
MIN_FOUND = 0.5  # share of flipped copies that must be detected
RIDGE = 0.03  # weight of the squared map, for features of unit deviation
VIEWS = 2  # strongly augmented views per image, in addition to the image
MAX_IMAGES = 1_000  # more bring little, and all are held in memory
FOLDS = 5  # of the cross-validation over images
MIN_ACCURACY = 0.95  # share of held-out images that must score as unflipped
Array = NDArray[np.float64]


@dataclass(frozen=True)
class FlipCorrection:
    """The linear map for one model; `model` is the hash of its weights, `weights` are (C D,).

    threshold: the log odds of a flip from which an image is corrected.
    """

    model: str
    weights: NDArray[np.float32]
    threshold: float = THRESHOLD

    def odds(self, image: EncodedImage, mirror_image: EncodedImage) -> float:
        """Return the log odds that the image is unflipped, given it and its flipped copy."""
        return float((features(image) - features(mirror_image)) @ self.weights)

    def is_flipped(self, image: EncodedImage, mirror_image: EncodedImage) -> bool:
        """Return whether the odds of a flip are above the threshold."""
        return self.odds(image, mirror_image) < -self.threshold


def features(image: EncodedImage) -> NDArray[np.float32]:
    """Return (C D,): the patches of an encoded image averaged per cell, 0 for padding."""
    patches, visible = (np.asarray(each.cpu() if hasattr(each, "cpu") else each) for each in image)
    side = round(patches.shape[1] ** 0.5)
    grid = (patches[0] * visible[0, :, None]).astype(np.float32).reshape(side, side, -1)
    shares = _shares(side)
    result: NDArray[np.float32] = np.einsum("rh,cw,hwd->drc", shares, shares, grid, optimize=True).ravel()
    return result


def _shares(side: int) -> NDArray[np.float32]:
    """Return (SIDE, side): the share that each row of patches has in each row of cells."""
    cells = np.arange(SIDE)
    first, last = cells * side // SIDE, -(-(cells + 1) * side // SIDE)
    inside = (np.arange(side) >= first[:, None]) & (np.arange(side) < last[:, None])
    shares: NDArray[np.float32] = (inside / inside.sum(1, keepdims=True)).astype(np.float32)
    return shares


def fit(images: Iterable[LetterboxedImage], model: Model) -> tuple[FlipCorrection, dict[str, Any]]:
    """Return the flip correction fitted to unflipped images, and its cross-validated figures.

    `right`: share of images that score as less flipped than their flipped copy. `turned`: share of images
    that would be corrected by mistake. `found`: share of flipped copies that are detected.
    Raises MedgroundError if there are too few images, or if `right` or `found` is too low.
    """
    views = [
        _differences(image, number, model) for number, image in zip(range(MAX_IMAGES), images, strict=False)
    ]
    if len(views) < FOLDS:
        raise MedgroundError(f"flip correction: {len(views)} images are too few to fit it, expected {FOLDS}")
    odds = np.concatenate(list(_held_out_odds(views)))
    threshold = safe_threshold(odds)
    shares = {"right": odds > 0, "turned": odds < -threshold, "found": odds > threshold}
    figures = {name: round(float(each.mean()), 4) for name, each in shares.items()}
    if figures["right"] < MIN_ACCURACY:
        raise MedgroundError(
            f"flip correction: {figures['right']:.0%} of {len(views)} held-out images are recognized as "
            f"unflipped, expected {MIN_ACCURACY:.0%}; give more images, or a model pre-trained with "
            "--hflip-prob"
        )
    if figures["found"] < MIN_FOUND:
        raise MedgroundError(
            f"flip correction: only {figures['found']:.0%} of flipped copies are detected if at most 1 in "
            "1,000 unflipped images may be corrected by mistake; give more images"
        )
    if len(views) * MOST_TURNED < 1:
        log.warning(
            "flip correction: %d images cannot show that 1 in 1,000 is corrected by mistake", len(views)
        )
    weights = _fit(np.concatenate(views)).astype(np.float32)
    found = FlipCorrection(model.name, weights, round(threshold, 4))
    return found, {"n": len(views), "threshold": found.threshold} | figures


def safe_threshold(odds: Array) -> float:
    """Return the threshold for (F,) held-out odds: all but `MOST_TURNED` of the images are within it."""
    worst = np.sort(odds)[int(len(odds) * MOST_TURNED)]
    return max(THRESHOLD, SAFETY * -float(worst))


def _differences(image: LetterboxedImage, number: int, model: Model) -> NDArray[np.float32]:
    """Return (1 + VIEWS, C D): features of the image and its views, minus those of their flipped copies."""
    pictures = [image.planes(), *_strong_views(image, number)]
    both = [
        [features(backends.encode(model, each)) for each in (one, np.flip(one, 2).copy())] for one in pictures
    ]
    return np.stack([one - other for one, other in both])


def _strong_views(image: LetterboxedImage, number: int) -> Iterable[NDArray[np.float32]]:
    """Yield strongly augmented views, (2, S, S) each, without corruptions."""
    import torch

    from medground.anatomy import augment

    picture = image.picture()
    shown = (picture[:1].clamp(min=1 / 255) * picture[1:])[None]  # black marks the padding
    nothing = augment.Views(shown, torch.zeros(1, 0, 4), torch.zeros(1, 0), torch.zeros(1, 0))
    for view in range(VIEWS):
        generator = torch.Generator().manual_seed(VIEWS * number + view)
        made = augment.views(nothing, augment.Ranges(spoilt=0.0), generator).images[0]
        yield torch.cat([made, (made > 0).float()]).numpy()


def _held_out_odds(views: list[NDArray[np.float32]]) -> Iterable[Array]:
    """Yield the log odds of each image by a map that was fitted to the other folds."""
    fold = np.arange(len(views)) % FOLDS
    for held_out in range(FOLDS):
        weights = _fit(
            np.concatenate([each for each, own in zip(views, fold, strict=True) if own != held_out])
        )
        yield np.stack([each[0] for each, own in zip(views, fold, strict=True) if own == held_out]) @ weights


def _fit(differences: NDArray[np.float32]) -> Array:
    """Return (C D,) weights w of least mean log(1 + exp(-d w)) over (V, C D) differences d, with ridge."""
    from scipy.optimize import minimize
    from scipy.special import expit

    scale = np.sqrt((differences**2).mean(axis=0)) + 1e-6
    scaled = differences / scale

    def loss(weights: Array) -> tuple[float, Array]:
        odds = scaled @ weights.astype(np.float32)
        pull = -scaled.T @ expit(-odds) / len(odds)
        value = np.mean(np.logaddexp(0, -odds)) + RIDGE / 2 * weights @ weights
        return float(value), pull.astype(np.float64) + RIDGE * weights

    result: Array = minimize(loss, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B").x / scale
    return result


def save(folder: Path, found: FlipCorrection) -> None:
    """Write orientation.safetensors into the model folder; it appears only when it is complete."""
    from torch import from_numpy

    config = {"format": FORMAT, "model": found.model, "threshold": found.threshold, DIGEST: _digest(found)}
    checkpoints.save(folder / FLIP_CORRECTION, {"weights": from_numpy(found.weights)}, config)


def _digest(found: FlipCorrection) -> str:
    content = found.weights.tobytes()
    return hashlib.sha256(content + repr(found.threshold).encode()).hexdigest()[:12]


def load(folder: Path, model: str) -> FlipCorrection | None:
    """Return the flip correction in a model folder, None if there is none.

    Raises MedgroundError if it was fitted for another model than the one of this name.
    """
    held, path = ModelDir(folder).flip_correction(), folder / FLIP_CORRECTION
    if held is None:
        return None
    tensors, config = held
    again = "run medground calibrate --fit-flip-correction again"
    if config.get("format") != FORMAT or "weights" not in tensors:
        raise MedgroundError(f"{path}: written by another version; {again}")
    if config.get("model") != model:
        raise MedgroundError(f"{path}: fitted for other weights than these; {again}, or delete it")
    try:
        found = FlipCorrection(model, tensors["weights"], float(config["threshold"]))
    except (KeyError, TypeError, ValueError):
        raise MedgroundError(f"{path}: {CHANGED}; {again}") from None
    if config.get(DIGEST) not in (None, _digest(found)):
        raise MedgroundError(f"{path}: {CHANGED}; {again}")
    return found
