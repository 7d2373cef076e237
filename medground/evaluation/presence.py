"""The protocol "presence": does `present` tell images with a finding from images without it?

All annotated phrases are scored; a phrase with `boxes` `[]` is absent. A missing prediction counts as 0.

auc             share of pairs of a present and an absent phrase in which the present one scores higher
ap              average precision of `present`, as for boxes: 101 recall levels
ece             expected calibration error: the mean distance of `present` from the share of phrases that are
                present, over `BINS` bins of equal width, weighted by their phrases
sensitivity@.5  share of present phrases with `present` of at least .5
specificity@.5  share of absent phrases with less

The category is the finding, and `macro` is the mean over findings. A group without present or without absent
phrases has no `auc`.

Letters: N cases, C clusters, D draws, G groups, M items of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.cases import Cases
from medground.evaluation.protocols import PhraseProtocol
from medground.evaluation.stats.average_precision import Ranked
from medground.evaluation.stats.bootstrap import Array, Column, Draws, Figure, Split
from medground.evaluation.stats.figures import mean_over
from medground.evaluation.stats.scoring import Figures

BINS = 10
ROWS = 1_000  # draws at once, to bound memory
YES = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Auc:
    """The area under the ROC curve of (N,) scores and outcomes; equal scores count one half."""

    scores: Array
    true: NDArray[np.bool_]

    def bind(self, split: Split) -> Figure:
        """Return the figure of each group of the split, given weights of the clusters of the items."""
        order = np.argsort(self.scores, kind="stable")
        groups = [order[mask[order]] for mask in split.masks]

        def value(draws: Draws, _: Sequence[Array]) -> Array:
            return np.stack([self._of(items, split, draws.weights) for items in groups], axis=1)

        kinds = [Column(kind.astype(float), split) for kind in (self.true, ~self.true)]
        return Figure(kinds, value, kinds)

    def _of(self, items: NDArray[np.int64], split: Split, weights: Array) -> Array:
        """Return the (D,) areas of (M,) items in rising order of score; NaN without a pair."""
        starts = np.flatnonzero(np.diff(self.scores[items], prepend=-np.inf))
        true, owners, found = self.true[items], split.owners[items], []
        for first in range(0, len(weights), ROWS):
            times = weights[first : first + ROWS, owners]
            there, not_there = (summed(np.where(kind, times, 0.0), starts) for kind in (true, ~true))
            below = not_there.cumsum(axis=1) - not_there / 2
            pairs = there.sum(axis=1) * not_there.sum(axis=1)
            wins = (there * below).sum(axis=1)
            found.append(np.divide(wins, pairs, out=np.full(len(times), np.nan), where=pairs > 0))
        return np.concatenate(found)


def summed(values: Array, starts: NDArray[np.int64]) -> Array:
    """Return the sums over the columns from each start to the next."""
    result: Array = np.add.reduceat(values, starts, axis=1) if len(starts) else np.zeros((len(values), 0))
    return result


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationError:
    """The expected calibration error of (N,) probabilities and outcomes."""

    said: Array
    true: NDArray[np.bool_]

    def bind(self, split: Split) -> Figure:
        """Return the figure of each group of the split, given weights of the clusters of the items."""
        which = np.minimum((self.said * BINS).astype(int), BINS - 1)
        gaps = [Column(np.where(which == b, self.said - self.true, 0.0), split) for b in range(BINS)]

        def value(_: Draws, sums: Sequence[Array]) -> Array:
            *errors, count = sums
            total = np.sum(np.abs(errors), axis=0)
            result: Array = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
            return result

        return Figure([*gaps, Column(np.ones(len(self.said)), split)], value)


def _figures(cases: Cases) -> Figures:
    said = np.array([case.present for case in cases], dtype=float)
    true = np.array([bool(case.phrase.boxes) for case in cases], dtype=bool)
    yes = said >= YES
    return {
        "auc": Auc(said, true),
        "ap": Ranked(np.arange(len(said)), said, true[None], true.astype(float)),
        "ece": CalibrationError(said, true),
        "sensitivity@.5": mean_over(np.where(true, yes, np.nan)),
        "specificity@.5": mean_over(np.where(true, np.nan, ~yes)),
    }


PRESENCE = PhraseProtocol(
    "presence", lambda phrase: phrase.boxes is not None, _figures, "auc", has_baselines=False
)
