"""Linear probes: features and labels -> a linear function for each class. Uncertain labels are left out.

published  MGCA's (Wang et al., NeurIPS 2022): features as they are, AdamW with learning rate 5e-4, betas .9
           and .999 and weight decay 1e-6, batches of 48, at most 50 epochs, stopped when the validation loss
           has not fallen for 10; the epoch with the lowest one is kept. Cross-entropy if classes exclude each
           other.
logistic   logistic regression on standardized features, by L-BFGS. The penalty with the highest macro AUROC
           on the validation images is used.
ridge      least squares on standardized features in closed form; the penalty likewise.

A class that the training images all have, or none of them, gets the same score for every image.
Letters: N images, D width, K classes, P penalties.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from medground.downstream.label_table import UNKNOWN
from medground.errors import MedgroundError

Array = NDArray[np.float64]
States = NDArray[np.int8]
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean loss; for ridge, of standardized features
EPOCHS, BATCH, PATIENCE = 50, 48, 10


@dataclass(frozen=True)
class Linear:
    """Scores = features @ weights + bias: (D, K) and (K,)."""

    weights: Array
    bias: Array

    def __call__(self, features: NDArray[np.float32]) -> Array:
        """Return (N, K) scores."""
        return np.asarray(features, dtype=np.float64) @ self.weights + self.bias


@dataclass(frozen=True)
class Given:
    """Training and validation images: (N, D) features and (N, K) states."""

    train: NDArray[np.float32]
    states: States
    val: NDArray[np.float32]
    val_states: States
    exclusive: bool = False


def ridge(given: Given, seed: int) -> Linear:
    """Return the ridge regression of each class; `seed` has no effect."""
    return _tuned(given, _ridge)


def logistic(given: Given, seed: int) -> Linear:
    """Return the logistic regression of each class; `seed` has no effect."""
    return _tuned(given, _logistic)


def _tuned(given: Given, fit: Callable[[Array, Array, float], Array]) -> Linear:
    """Return the linear function of each class with the best penalty on the validation images.

    fit: returns (D + 1,) weights and bias for (N, D) standardized features, (N,) outcomes and a penalty.
    """
    features = np.asarray(given.train, dtype=np.float64)
    mean = features.mean(axis=0)
    scale = np.maximum(features.std(axis=0), 1e-6)
    scaled, count = (features - mean) / scale, given.states.shape[1]
    fitted = np.zeros((len(PENALTIES), features.shape[1] + 1, count))
    for k in range(count):
        known = given.states[:, k] != UNKNOWN
        outcome = given.states[known, k].astype(np.float64)
        if len(np.unique(outcome)) == 2:
            for p, penalty in enumerate(PENALTIES):
                fitted[p, :, k] = fit(scaled[known], outcome, penalty)
    val = (np.asarray(given.val, dtype=np.float64) - mean) / scale
    best = max(
        range(len(PENALTIES)), key=lambda p: _macro(val @ fitted[p, :-1] + fitted[p, -1], given.val_states)
    )
    weights = fitted[best, :-1] / scale[:, None]
    return Linear(weights, fitted[best, -1] - mean @ weights)


def _ridge(features: Array, outcome: Array, penalty: float) -> Array:
    """Return the weights and the bias of least squares with a penalty on the weights."""
    middle, center = features.mean(axis=0), outcome.mean()
    apart = features - middle
    gram = apart.T @ apart + penalty * len(features) * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, apart.T @ (outcome - center))
    return np.append(weights, center - middle @ weights)


def _logistic(features: Array, outcome: Array, penalty: float) -> Array:
    """Return the weights and the bias that minimize the mean logistic loss + penalty |weights|^2 / 2."""
    from scipy.optimize import minimize
    from scipy.special import expit

    sign = 2 * outcome - 1

    def loss(found: Array) -> tuple[float, Array]:
        margin = sign * (features @ found[:-1] + found[-1])
        pull = -sign * expit(-margin) / len(sign)
        value = np.logaddexp(0, -margin).mean() + penalty * found[:-1] @ found[:-1] / 2
        return float(value), np.append(features.T @ pull + penalty * found[:-1], pull.sum())

    start = np.zeros(features.shape[1] + 1)
    result: Array = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return result


def _macro(scores: Array, states: States) -> float:
    """Return the mean AUROC over the classes with both outcomes; 0 without any."""
    each = [auroc(scores[:, k], states[:, k]) for k in range(states.shape[1])]
    found = [value for value in each if value is not None]
    return float(np.mean(found)) if found else 0.0


def auroc(scores: Array, states: States) -> float | None:
    """Return the share of pairs of a positive and a negative that are in order, ties as one half."""
    from scipy.stats import rankdata

    known = states != UNKNOWN
    ranks, true = rankdata(scores[known]), states[known] == 1
    have, lack = int(true.sum()), int((~true).sum())
    if not have or not lack:
        return None
    return float((ranks[true].sum() - have * (have + 1) / 2) / (have * lack))


def published(given: Given, seed: int) -> Linear:
    """Return the linear layer with the lowest validation loss."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(given.train.shape[1], given.states.shape[1])
    optimizer = torch.optim.AdamW(layer.parameters(), lr=5e-4, betas=(0.9, 0.999), weight_decay=1e-6)
    both = [
        (torch.tensor(f), torch.tensor(s))
        for f, s in ((given.train, given.states), (given.val, given.val_states))
    ]
    (features, states), (val, val_states) = both
    best, kept, waited = np.inf, _of(layer), 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features)).split(BATCH):
            optimizer.zero_grad()
            _loss(layer(features[rows]), states[rows], given.exclusive).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            figure = float(_loss(layer(val), val_states, given.exclusive))
        if figure < best:
            best, kept, waited = figure, _of(layer), 0
        elif (waited := waited + 1) >= PATIENCE:
            break
    return kept


def _loss(logits: torch.Tensor, states: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """Return the mean loss of the known labels; 0 without any."""
    if exclusive:
        return functional.cross_entropy(logits, states.argmax(dim=1))
    known = states != UNKNOWN
    wanted = states.clamp(min=0).to(logits.dtype)
    each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def _of(layer: torch.nn.Linear) -> Linear:
    weights, bias = (each.detach().clone().numpy().astype(np.float64) for each in (layer.weight, layer.bias))
    return Linear(weights.T, bias)


FITS: dict[str, Callable[[Given, int], Linear]] = {
    "published": published,
    "logistic": logistic,
    "ridge": ridge,
}


def named(name: str) -> Callable[[Given, int], Linear]:
    """Return the fit of this name; raise MedgroundError if there is none."""
    if name not in FITS:
        raise MedgroundError(f"--fit {name}: expected one of {', '.join(FITS)}")
    return FITS[name]
