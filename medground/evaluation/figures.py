"""Figures that are sums over sums: means, shares, pooled IoU; for all draws of the bootstrap at once.

Letters: N items, C clusters, D draws, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.intervals import Array, Figure

Masks = NDArray[np.bool_]  # (G, N): which items are in which group


@dataclass(frozen=True, slots=True)
class Ratio:
    """The mean over its parts of sum(numerators) / sum(denominators); one pair of (N,) arrays a part."""

    parts: Sequence[tuple[Array, Array]]

    def bind(self, owners: NDArray[np.int64], masks: Masks) -> Figure:
        """The figure of each group under given weights of the clusters that own the items."""
        sums = [(_sums(top, owners, masks), _sums(bottom, owners, masks)) for top, bottom in self.parts]

        def figure(weights: Array) -> Array:
            total = np.zeros((len(weights), len(masks)))
            for top, bottom in sums:
                total += _divide(weights @ top, weights @ bottom)
            return total / len(sums)

        return figure


def mean_over(values: Sequence[float | None] | Array) -> Ratio:
    """The mean of one value an item; None or NaN leaves the item out."""
    array = np.array([np.nan if value is None else value for value in values], dtype=float)
    known = ~np.isnan(array)
    return Ratio([(np.where(known, array, 0.0), known.astype(float))])


def _sums(values: Array, owners: NDArray[np.int64], masks: Masks) -> Array:
    """(C, G) sums of the values over each cluster's items in each group."""
    clusters = int(owners.max()) + 1 if len(owners) else 0
    columns = [np.bincount(owners, weights=values * mask, minlength=clusters) for mask in masks]
    return np.stack(columns, axis=1) if columns else np.zeros((clusters, 0))


def _divide(top: Array, bottom: Array) -> Array:
    """The quotient, NaN where the denominator is 0."""
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    bottom = np.broadcast_to(bottom, shape)
    return np.divide(top, bottom, out=np.full(shape, np.nan), where=bottom > 0)
