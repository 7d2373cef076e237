"""Figures of scores and outcomes with ties as scikit-learn treats them, and means of figures over runs.

Letters: N items, C clusters, D draws, G groups, M items of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.presence import ROWS, summed
from medground.evaluation.stats.bootstrap import Array, Column, Draws, Figure, Split
from medground.evaluation.stats.scoring import Bindable


@dataclass(frozen=True, slots=True, eq=False)
class AveragePrecision:
    """The sum of precision times gain of recall over falling thresholds, of (N,) scores and outcomes.

    That is scikit-learn's average_precision_score: no interpolation. (`average_precision` has COCO's.)
    """

    scores: Array
    true: NDArray[np.bool_]

    def bind(self, split: Split) -> Figure:
        """Return the figure of each group of the split, given weights of the clusters of the items."""
        order = np.argsort(-self.scores, kind="stable")
        groups = [order[mask[order]] for mask in split.masks]

        def value(draws: Draws, _: Sequence[Array]) -> Array:
            return np.stack([self._of(items, split, draws.weights) for items in groups], axis=1)

        true = [Column(self.true.astype(float), split)]
        return Figure(true, value, true)

    def _of(self, items: NDArray[np.int64], split: Split, weights: Array) -> Array:
        """Return the (D,) values of (M,) items in falling order of score; NaN without a positive."""
        starts = np.flatnonzero(np.diff(-self.scores[items], prepend=-np.inf))
        true, owners, found = self.true[items], split.owners[items], []
        for first in range(0, len(weights), ROWS):
            times = weights[first : first + ROWS, owners]
            gains = summed(np.where(true, times, 0.0), starts)
            right, taken = gains.cumsum(axis=1), summed(times, starts).cumsum(axis=1)
            precision = np.divide(right, taken, out=np.zeros_like(right), where=taken > 0)
            total = gains.sum(axis=1)
            area = (gains * precision).sum(axis=1)
            found.append(np.divide(area, total, out=np.full(len(times), np.nan), where=total > 0))
        return np.concatenate(found)


@dataclass(frozen=True, slots=True, eq=False)
class MeanOf:
    """The mean of figures of the same items, such as those of several runs of one setting."""

    parts: Sequence[Bindable]

    def bind(self, split: Split) -> Figure:
        """Return the figure of each group of the split, given weights of the clusters of the items."""
        figures = [part.bind(split) for part in self.parts]
        ends = np.cumsum([len(each.columns) for each in figures]).tolist()

        def value(draws: Draws, sums: Sequence[Array]) -> Array:
            starts = [0, *ends[:-1]]
            found = [f.value(draws, sums[a:b]) for f, a, b in zip(figures, starts, ends, strict=True)]
            result: Array = np.mean(found, axis=0)
            return result

        kinds = [kind for each in figures for kind in each.kinds]
        return Figure([column for each in figures for column in each.columns], value, kinds)
