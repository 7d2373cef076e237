"""Figures that are sums over sums: means, shares, pooled IoU; for all draws of the bootstrap at once.

Letters: N items, C clusters, D draws, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.stats.bootstrap import Array, Column, Draws, Figure, Split


@dataclass(frozen=True, slots=True)
class Ratio:
    """The mean over its parts of sum(numerators) / sum(denominators); one pair of (N,) arrays per part."""

    parts: Sequence[tuple[Array, Array]]

    def bind(self, split: Split) -> Figure:
        """Return the figure of each group of the split, given weights of the clusters of the items."""

        def value(_: Draws, sums: Sequence[Array]) -> Array:
            return sum(map(_divide, sums[::2], sums[1::2]), np.zeros(1)) / len(self.parts)

        columns = [Column(values, split) for part in self.parts for values in part]
        return Figure(columns, value, kinds=columns[1::2])


def mean_over(values: Sequence[float | None] | Array) -> Ratio:
    """Return the mean of one value per item; None or NaN leaves the item out."""
    array = np.array([np.nan if value is None else value for value in values], dtype=float)
    known = ~np.isnan(array)
    return Ratio([(np.where(known, array, 0.0), known.astype(float))])


def _divide(top: Array, bottom: NDArray[np.float64]) -> Array:
    """Return the quotient, NaN if the denominator is 0."""
    result: Array = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return result
