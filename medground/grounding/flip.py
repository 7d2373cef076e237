"""Whether a film hangs the wrong way round, left and right changed, as copies of films sometimes do.

A network that is taught the words of reports takes "right" for the left half of a film; on a mirrored one it
then looks at the wrong lung. What it sees of heart, aorta and stomach tells nevertheless. So a film and its
mirror image are both encoded, and a linear map of their patches, fitted to films that hang right, says which
of the two looks like those. The map sees their difference alone, so no film looks wrong by being dark, small
or ill. A heart on the right (dextrocardia) looks like a mirrored film.

Mirrored films are rare, and one that is turned by mistake is worse than one that is not turned: a film is
taken for mirrored from odds of `SURE` on, and a map that cannot tell films it was not fitted to is not kept.

Letters: F films, V views of all of them, S side of the square, P patches (h x h), D width, C cells.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medground import checkpoints
from medground.anatomy import augment
from medground.errors import MedgroundError
from medground.grounding import backends
from medground.grounding.backends import Model, EncodedImage
from medground.models.letterboxed import LetterboxedImage

FILE = backends.ORIENTATION
FORMAT = 1
SIDE = 10  # patches are averaged to so many cells a side
SURE = 3.0  # log odds: 95 %
RIDGE = 0.03  # of the map's squared weights, for features of unit deviation
VIEWS = 2  # strong views of each film beside itself
MOST = 1_000  # films: more bring little, and all are held at once
PARTS = 5  # of the films, each left out once to be told by the others
ENOUGH = 0.95  # share of films left out that must be told right
Array = NDArray[np.float64]


@dataclass(frozen=True)
class FlipCorrection:
    """The map for one model; `model` is the hash of its weights, `weights` are (C D,)."""

    model: str
    weights: Tensor

    def odds(self, as_it_is: EncodedImage, mirrored: EncodedImage) -> float:
        """The log odds that a film, encoded as it is and mirrored, hangs the right way round."""
        return float((features(as_it_is) - features(mirrored)) @ self.weights)

    def is_mirrored(self, as_it_is: EncodedImage, mirrored: EncodedImage) -> bool:
        """Whether the film hangs the wrong way round, almost surely."""
        return self.odds(as_it_is, mirrored) < -SURE


def features(shown: EncodedImage) -> Tensor:
    """(C D,) what the patches of an encoded film hold, where in the square; 0 where there is no film."""
    patches, seen = (each.detach().cpu() for each in shown)
    side = round(patches.shape[1] ** 0.5)
    grid = (patches.float() * seen[..., None]).transpose(1, 2).unflatten(2, (side, side))
    return functional.adaptive_avg_pool2d(grid, SIDE).flatten()


def fit(films: Iterable[LetterboxedImage], model: Model) -> tuple[FlipCorrection, dict[str, Any]]:
    """The map for films that all hang right, and how well it tells films that it was not fitted to: `right`,
    the share that looks less mirrored than its mirror image; `turned` and `found`, the shares of films and of
    mirror images that are taken for mirrored.

    Raises MedgroundError where too few are told right to be of use.
    """
    views = [_differences(film, number, model) for number, film in zip(range(MOST), films, strict=False)]
    if len(views) < PARTS:
        raise MedgroundError(f"{len(views)} films are too few to learn which way round films hang")
    odds = np.concatenate(list(_odds_left_out(views)))
    shares = {"right": odds > 0, "turned": odds < -SURE, "found": odds > SURE}
    figures = {name: round(float(each.mean()), 4) for name, each in shares.items()}
    if figures["right"] < ENOUGH:
        raise MedgroundError(
            f"which way round films hang: {figures['right']:.0%} of {len(views)} films are told right by "
            "the others, too few to keep that (give more films, or a model pre-trained with --mirror)"
        )
    weights = torch.from_numpy(_fit(np.concatenate(views))).float()
    return FlipCorrection(model.name, weights), {"n": len(views)} | figures


@torch.inference_mode()
def _differences(film: LetterboxedImage, number: int, model: Model) -> NDArray[np.float32]:
    """(1 + VIEWS, C D) how the film, and strong views of it, differ from their mirror images."""
    pictures = [film.picture(), *_strong(film.picture(), number)]
    both = [[features(backends.encode(model, each)) for each in (one, one.flip(2))] for one in pictures]
    return torch.stack([one - other for one, other in both]).numpy()


def _strong(picture: Tensor, number: int) -> Iterable[Tensor]:
    """Views as the detector learns from, none of them spoilt: (2, S, S) each."""
    film = (picture[:1].clamp(min=1 / 255) * picture[1:])[None]  # black is where no film is
    nothing = augment.Views(film, torch.zeros(1, 0, 4), torch.zeros(1, 0), torch.zeros(1, 0))
    for view in range(VIEWS):
        generator = torch.Generator().manual_seed(VIEWS * number + view)
        seen = augment.views(nothing, augment.Ranges(spoilt=0.0), generator).images[0]
        yield torch.cat([seen, (seen > 0).float()])


def _odds_left_out(views: list[NDArray[np.float32]]) -> Iterable[Array]:
    """The log odds of hanging right of each film itself, told by a map fitted to the films of other parts."""
    part = np.arange(len(views)) % PARTS
    for left_out in range(PARTS):
        weights = _fit(
            np.concatenate([each for each, own in zip(views, part, strict=True) if own != left_out])
        )
        yield np.stack([each[0] for each, own in zip(views, part, strict=True) if own == left_out]) @ weights


def _fit(differences: NDArray[np.float32]) -> Array:
    """(C D,) weights w of least mean log(1 + exp(-d w)) over (V, C D) differences d, with a ridge."""
    from scipy.optimize import minimize
    from scipy.special import expit

    scale = np.sqrt((differences**2).mean(axis=0)) + 1e-6
    scaled = differences / scale

    def loss(weights: Array) -> tuple[float, Array]:
        odds = scaled @ weights.astype(np.float32)
        pull = -scaled.T @ expit(-odds) / len(odds)
        value = np.mean(np.logaddexp(0, -odds)) + RIDGE / 2 * weights @ weights
        return float(value), pull.astype(np.float64) + RIDGE * weights

    return minimize(loss, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B").x / scale


def save(folder: Path, found: FlipCorrection) -> None:
    """Write orientation.safetensors into the model's folder; it appears only when all is written."""
    config = {"format": FORMAT, "model": found.model}
    checkpoints.save(folder / FILE, {"weights": found.weights}, config)


def load(folder: Path, model: str) -> FlipCorrection | None:
    """The orientation in a model's folder, None where there is none; raises where it is another model's."""
    if not (folder / FILE).is_file():
        return None
    tensors, config = checkpoints.load(folder / FILE)
    if config.get("format") != FORMAT or "weights" not in tensors:
        raise MedgroundError(
            f"{folder / FILE}: written by another version; run medground calibrate --orientation again"
        )
    if config.get("model") != model:
        raise MedgroundError(
            f"{folder / FILE}: fitted for other weights than these; run medground calibrate --orientation "
            "again, or delete it"
        )
    return FlipCorrection(model, tensors["weights"])
