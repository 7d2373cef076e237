"""Phrases with their predicted boxes, and the quantities that all protocols need, computed once.

Letters: N cases, F predicted boxes and T true boxes of a case, K IoU levels, P pairs of a predicted and a
true box.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medground import boxes
from medground.evaluation import metrics
from medground.evaluation.stats.average_precision import Ranked
from medground.evaluation.stats.bootstrap import Array
from medground.records import Box, Phrase, ScoredBox

LEVELS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # IoU thresholds of COCO
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Case:
    """A phrase with its true boxes, its predicted boxes, best first, and the predicted presence."""

    phrase: Phrase
    found: Sequence[ScoredBox]
    present: float = 0.0

    @property
    def boxes(self) -> Array:
        """(F, 4) predicted boxes."""
        return as_array([each.box for each in self.found])

    @property
    def true(self) -> Array:
        """(T, 4) true boxes."""
        return as_array(self.phrase.boxes or [])


def as_array(found: Sequence[Box]) -> Array:
    """Return the (N, 4) array of boxes; N may be 0."""
    return np.array(found, dtype=float).reshape(-1, 4)


class Cases(Sequence[Case]):
    """Cases in order, with their boxes as flat arrays. Slow quantities are computed on first use."""

    def __init__(self, cases: Sequence[Case]):
        self._cases = cases
        self.found = as_array([each.box for case in cases for each in case.found])
        self.scores = np.array([each.score for case in cases for each in case.found], dtype=float)
        self.true = as_array([box for case in cases for box in case.phrase.boxes or ()])
        self.counts = np.array([len(case.found) for case in cases], dtype=np.int64)
        self.true_counts = np.array([len(case.phrase.boxes or ()) for case in cases], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]  # a case, or a list of them for a slice
        return self._cases[place]

    @cached_property
    def pairs(self) -> tuple[Array, Numbers, Numbers]:
        """((P,) IoU, (P,) case of each pair, (N,) first pair of each case), by true box, then by predicted
        box.
        """
        sizes = self.counts * self.true_counts
        starts = np.cumsum(sizes) - sizes
        owner = np.repeat(np.arange(len(self)), sizes)
        inside = np.arange(len(owner)) - starts[owner]
        wide = self.counts[owner]
        first, first_true = self.begin(self.counts), self.begin(self.true_counts)
        found = self.found[first[owner] + inside % np.maximum(wide, 1)]
        true = self.true[first_true[owner] + inside // np.maximum(wide, 1)]
        return boxes.paired_iou(found, true), owner, starts

    @staticmethod
    def begin(counts: Numbers) -> Numbers:
        """Return the (N,) start of each case's boxes in a flat array."""
        return np.cumsum(counts) - counts

    def overlap(self, place: int) -> Array:
        """Return the (F, T) IoU of the boxes of one case."""
        ious, _, starts = self.pairs
        f, t = int(self.counts[place]), int(self.true_counts[place])
        return ious[starts[place] : starts[place] + f * t].reshape(t, f).T

    @cached_property
    def areas(self) -> tuple[Array, Array]:
        """((N,) intersection, (N,) union) of the areas that the predicted and the true boxes cover."""
        return self.covered(np.full(len(self.found), True))

    def covered(self, kept: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return `areas` with only those predicted boxes that `kept` marks."""
        owner = np.repeat(np.arange(len(self)), self.counts)
        counts = np.bincount(owner[kept], minlength=len(self))
        return metrics.union_overlaps(self.found[kept], counts, self.true, self.true_counts)

    @cached_property
    def best(self) -> Array:
        """(N,) mean over the true boxes of the best IoU with a predicted box; NaN without a pair."""
        ious, owner, _ = self.pairs
        wide = self.counts[owner]
        rows = np.flatnonzero((np.arange(len(owner)) - self.pairs[2][owner]) % np.maximum(wide, 1) == 0)
        tops = np.maximum.reduceat(ious, rows) if len(rows) else np.zeros(0)
        total = np.bincount(owner[rows], weights=tops, minlength=len(self))
        return np.where(self.counts * self.true_counts > 0, total / np.maximum(self.true_counts, 1), np.nan)

    @cached_property
    def ranked(self) -> Ranked:
        """Average precision of all predicted boxes in one ranking by score, the mean over `LEVELS`."""
        return self.ranked_by(self.hits(LEVELS))

    def ranked_by(self, hits: NDArray[np.bool_]) -> Ranked:
        """Return the average precision of all predicted boxes for their (K, all F) hits at K levels."""
        return Ranked(
            items=np.repeat(np.arange(len(self)), self.counts),
            scores=self.scores,
            hits=hits,
            true=self.true_counts.astype(float),
        )

    def hits(self, levels: Sequence[float]) -> NDArray[np.bool_]:
        """Return (K, all F): whether each predicted box is a hit at each of K levels.

        A single pair needs no matching.
        """
        ious, _, starts = self.pairs
        hits = np.zeros((len(levels), len(self.found)), dtype=bool)
        alone = (self.counts == 1) & (self.true_counts == 1)
        first = self.begin(self.counts)
        hits[:, first[alone]] = ious[starts[alone]] >= np.array(levels)[:, None]
        for place in np.flatnonzero((self.counts * self.true_counts > 0) & ~alone).tolist():
            own = slice(first[place], first[place] + self.counts[place])
            hits[:, own] = greedy_hits(self.overlap(place), self.scores[own], levels)
        return hits


def greedy_hits(overlap: Array, scores: Array, levels: Sequence[float]) -> NDArray[np.bool_]:
    """Return (K, F): whether each predicted box is a hit, from (F, T) IoU.

    Each box, best score first, takes the free true box that it overlaps most, if the IoU reaches the level.
    As in COCO, the last of equally good true boxes is taken.
    """
    hits = np.zeros((len(levels), len(scores)), dtype=bool)
    rows, order = overlap.tolist(), np.argsort(-scores, kind="stable").tolist()
    tops = [max(row, default=0.0) for row in rows]
    for k, level in enumerate(levels):
        free = set(range(overlap.shape[1]))
        for f in (each for each in order if tops[each] >= level):  # others cannot be hits
            best = max(free, key=lambda t: (rows[f][t], t), default=None)
            if best is not None and rows[f][best] >= level:
                hits[k, f] = True
                free.remove(best)
    return hits
