"""Average precision as COCO defines it, on the data and over the draws of the bootstrap.

Letters: N items, C clusters, D draws, G groups, M detections in falling order of score, K IoU levels.
Precision is taken at 101 recall levels 0, .01, ..., 1 on its envelope. That equals the sum of the envelope
over the recall levels that each hit reaches, so misses need no step. `ap_bootstrap` computes it for many
draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.stats.ap_bootstrap import Walk, exact, ties
from medground.evaluation.stats.bootstrap import Array, Column, Draws, Figure, Split

DRAWS = 5_000  # draws at once: fewer cost more calls, more exceed the processor's cache
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Average precision of scored detections, the mean over K IoU levels (or at one of them: `at`).

    items: (M,) the item of each detection; scores: (M,); hits: (K, M); true: (N,) true boxes of each item.
    Detections with equal scores are taken at once, so the order of the items makes no difference. A group
    without a true box has no value.
    """

    items: Numbers
    scores: Array
    hits: Flags
    true: Array
    level: int | None = None
    walked: "_Last" = field(default_factory=lambda: _Last())

    def at(self, level: int) -> "Ranked":
        """Return the figure at one IoU level; shared quantities are computed once."""
        return replace(self, level=level)

    def bind(self, split: Split) -> Figure:
        """Return the figure of each group of the split, given weights of the clusters of the items."""

        def value(draws: Draws, sums: Sequence[Array]) -> Array:
            found = self.walked.over(self, split, draws, sums[0])
            return found.mean(axis=2) if self.level is None else found[:, :, self.level]

        true = [Column(self.true, split)]
        return Figure(true, value, true)


class _Last:
    """A cache of the levels of the latest draws: two figures of one ranking use the same ones."""

    def __init__(self) -> None:
        self.key: tuple[Split, Draws] | None = None
        self.bound: tuple[Split, list[_Group]] | None = None
        self.found: Array = np.zeros((0, 0, 0))

    def over(self, ranked: Ranked, split: Split, draws: Draws, positives: Array) -> Array:
        """Return (D, G, K) average precision at every level; positives: (D, G) true boxes."""
        if self.key is None or self.key[0] is not split or self.key[1] is not draws:
            if self.bound is None or self.bound[0] is not split:
                self.bound = split, _groups(ranked, split)
            parts = [group.over(draws, positives[:, g]) for g, group in enumerate(self.bound[1])]
            self.key, self.found = (split, draws), np.stack(parts, axis=1)
        return self.found


@dataclass(frozen=True, slots=True)
class _Group:
    """The detections of one group: (M,) clusters, (K, M) hits, the ends of ties, and the walk over draws."""

    owners: Numbers
    hits: Flags
    ends: Numbers
    walk: Walk

    def over(self, draws: Draws, positives: Array) -> Array:
        """Return (D, K) average precision, NaN without a true box; exact for a single draw."""
        if len(draws.weights) == 1:
            times = draws.weights[0, self.owners]
            found = np.array([[exact(times, hit, positives[0], self.ends) for hit in self.hits]])
        else:
            starts = range(0, len(positives), DRAWS)
            some = [slice(start, start + DRAWS) for start in starts]
            found = np.vstack([self.walk.over(draws.times[:, each], positives[each]) for each in some])
        return np.where(positives[:, None] > 0, found, np.nan)


def _groups(ranked: Ranked, split: Split) -> list[_Group]:
    order = np.argsort(-ranked.scores, kind="stable")
    items, hits = ranked.items[order], ranked.hits[:, order]
    found = []
    for mask in split.masks:
        inside = mask[items]
        owners, own = split.owners[items[inside]], hits[:, inside]
        ends = ties(ranked.scores[order][inside])
        found.append(_Group(owners, own, ends, Walk.of(owners, own, float(ranked.true[mask].sum()), ends)))
    return found
