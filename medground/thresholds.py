"""Thresholds of scores. Letter: N items."""

import numpy as np
from numpy.typing import NDArray


def best_threshold(scores: NDArray[np.float64], true: NDArray[np.bool_]) -> float:
    """Return the threshold with the largest F1 of the items with at least that score; infinity without any.

    scores, true: (N,). Of several thresholds, the highest one.
    """
    if not true.any():
        return np.inf
    order = np.argsort(-scores, kind="stable")
    right, taken = np.cumsum(true[order]), np.arange(1, len(scores) + 1)
    last = np.diff(scores[order], append=-np.inf) != 0  # a threshold takes all items of its score
    f1 = np.where(last, 2 * right / (taken + true.sum()), -1.0)
    return float(scores[order][int(np.argmax(f1))])
