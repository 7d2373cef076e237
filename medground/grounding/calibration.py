"""Calibrated scores, and boxes with a guaranteed coverage: fitted on phrases with known boxes.

`present`  P(the finding is visible), from the network's logit by Platt's method
`score`    P(a box reaches IoU .5 with a true one), by the same method, from the box's logit and the
           logarithm of the share of the image that it covers. Large findings are easier, and the logit of
           a network with one box per phrase does not depend on the quality of the box.
`margin`   a share of a box's width and height, added on every side, with which the stated share of true
           boxes lies wholly inside a predicted box. Split conformal prediction: the ceil((n + 1) c)-th
           smallest of the n margins that the validation boxes need (Vovk et al. 2005; Angelopoulos and
           Bates 2023; for boxes, Timans et al., ECCV 2024)

The phrases must not be among the model's training phrases, on which its confidence is higher. The coverage
holds on average over draws of validation and test boxes, if both come from the same population. The coverage
of one test set varies: with n validation boxes by about sqrt(c (1 - c) / n) from those only. Platt: A. Platt,
Probabilistic outputs for support vector machines (1999), with smoothed targets, so that few or separable
phrases do not give certainty.

Letters: n validation items, c the required coverage.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground import checkpoints, output_files
from medground.errors import MedgroundError
from medground.model_dir import CALIBRATION, DIGEST, ModelDir

FORMAT = 1
UNNAMED = "unnamed data"
Array = NDArray[np.float64]


def raw_probability(logit: float) -> float:
    """Return the logistic function of a logit: the probability without calibration."""
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


@dataclass(frozen=True)
class Curve:
    """The logistic function of slope x logit + size x ln(share) + offset."""

    slope: float = 1.0
    offset: float = 0.0
    size: float = 0.0

    def __call__(self, logit: float, share: float = 1.0) -> float:
        return raw_probability(self.slope * logit + self.size * math.log(share) + self.offset)


AS_IT_IS = Curve()


@dataclass(frozen=True)
class Events:
    """(n,) logits, outcomes, and the share of the image that each box covers, 1 without a box."""

    logits: Array
    true: NDArray[np.bool_]
    shares: Array

    def said(self, curve: Curve) -> Array:
        """Return the (n,) probabilities of the curve."""
        pairs = zip(self.logits.tolist(), self.shares.tolist(), strict=True)
        return np.array([curve(*each) for each in pairs], dtype=float)


@dataclass(frozen=True)
class Calibration:
    """The fitted curves and margins of one model; `model` is the hash of its weights.

    A curve that is `AS_IT_IS` was not fitted. `data` is the name of the data that the others were fitted on.

    margins: the margin that covers each true box of the validation phrases, ascending. None, at the end, is
    for boxes of phrases without a predicted box. `min_score` is the minimum score of further boxes. `figures`
    has the quality before and after calibration.
    """

    model: str
    present_curve: Curve
    score_curve: Curve
    margins: Sequence[float | None]
    min_score: float
    figures: dict[str, Any]
    data: str = UNNAMED

    def fitted(self, coverage: float | None = None) -> dict[str, str]:
        """Return the data that `score`, `present` and, if boxes are widened, `coverage` were fitted on.

        A part that was not fitted is missing.
        """
        parts = {
            "score": self.score_curve != AS_IT_IS,
            "present": self.present_curve != AS_IT_IS,
            "coverage": coverage is not None,
        }
        return {name: self.data for name, is_fitted in parts.items() if is_fitted}

    def present(self, logit: float) -> float:
        """Return the calibrated probability that the finding is visible."""
        return self.present_curve(logit)

    def score(self, logit: float, share: float) -> float:
        """Return the calibrated probability that the box reaches IoU .5 with a true box.

        share: the share of the image that the box covers.
        """
        return self.score_curve(logit, share)

    def margin(self, coverage: float) -> float:
        """Return the margin for this coverage.

        Raises MedgroundError if the validation set is too small for it.
        """
        n = len(self.margins)
        rank = conformal_rank(n, coverage)
        found = self.margins[rank - 1] if rank <= n else None
        if found is None:
            reach = bisect_left([each is None for each in self.margins], True) / (n + 1)
            most = math.floor(100 * reach) / 100
            raise MedgroundError(
                f"--coverage {coverage:g}: {n} validation boxes support at most {most:g}; "
                "calibrate on more phrases, or lower --coverage"
            )
        return found


def conformal_rank(n: int, coverage: float) -> int:
    """Return ceil((n + 1) c), at least 1: the rank of the margin with this coverage.

    Above n there is no such margin.
    """
    return max(1, math.ceil(round((n + 1) * coverage, 9)))


def fit_curve(events: Events) -> Curve:
    """Return Platt's curve for the events, or the logistic function if all outcomes are equal.

    The slope is never negative. Sizes are used only if they differ.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    true, size = events.true, np.log(events.shares)
    hits, misses = int(true.sum()), int((~true).sum())
    if not hits or not misses:
        return AS_IT_IS
    target = np.where(true, (hits + 1) / (hits + 2), 1 / (misses + 2))
    columns = np.stack([events.logits, np.ones(len(true)), size], axis=1)

    def loss(values: Array) -> tuple[float, Array]:
        at = columns @ values
        return float(np.sum(np.logaddexp(0, at) - target * at)), columns.T @ (expit(at) - target)

    bounds = [(0, None), (None, None), (None, None) if np.ptp(size) else (0, 0)]
    found = minimize(loss, np.array([1.0, 0.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds)
    return Curve(*(round(float(each), 6) for each in found.x))


def needed_margin(box: Array, found: Array) -> float | None:
    """Return the smallest margin with which a predicted box (F, 4) covers the box (4,).

    0 if a box already covers it, None without a predicted box.
    """
    if not len(found):
        return None
    size = np.tile(found[:, 2:] - found[:, :2], 2)
    out = np.concatenate([found[:, :2] - box[:2], box[2:] - found[:, 2:]], axis=1) / size
    return float(max(0.0, out.max(axis=1).min()))


def brier(curve: Curve, events: Events) -> float | None:
    """Return the mean squared distance of probability and outcome, 0 is best; None without events."""
    if not len(events.logits):
        return None
    return round(float(np.mean((events.said(curve) - events.true) ** 2)), 4)


def calibration_error(curve: Curve, events: Events, bins: int = 10) -> float | None:
    """Return the expected calibration error over bins of equal count; None without events.

    It is the mean distance of the predicted probability from the observed frequency. Equal probabilities have
    their common frequency, so the order of the events makes no difference.
    """
    if not len(events.logits):
        return None
    said = events.said(curve)
    _, ties = np.unique(said, return_inverse=True)
    true = (np.bincount(ties, weights=events.true) / np.bincount(ties))[ties]
    parts = np.array_split(np.argsort(said, kind="stable"), min(bins, len(said)))
    gaps = [len(part) * abs(said[part].mean() - true[part].mean()) for part in parts]
    return round(float(sum(gaps) / len(said)), 4)


def save(folder: Path, found: Calibration) -> None:
    """Write calibration.json into the model folder; it appears only when it is complete."""
    values = json.loads(json.dumps({"format": FORMAT} | asdict(found)))
    text = json.dumps(values | {DIGEST: checkpoints.digest_of(values)}, indent=1) + "\n"
    with output_files.locked(folder / CALIBRATION) as target, output_files.replacing(target) as stream:
        stream.write(text.encode())


def load(folder: Path, model: str) -> Calibration | None:
    """Return the calibration in a model folder, None if there is none.

    Raises MedgroundError if it was fitted for another model than the one of this name.
    """
    values, path = ModelDir(folder).calibration(), folder / CALIBRATION
    if values is None:
        return None
    try:
        curves: dict[str, Any] = {n: Curve(**values.pop(n)) for n in ("present_curve", "score_curve")}
        if values.pop("format") != FORMAT:
            raise MedgroundError(f"{path}: written by another version; run medground calibrate again")
        found = Calibration(**values, **curves)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise MedgroundError(f"{path}: not a calibration; run medground calibrate again") from None
    if found.model != model:
        raise MedgroundError(
            f"{path}: fitted for other weights than these; run medground calibrate again, or delete it"
        )
    return found
