"""Average precision of one group under many draws: one pass over its detections, all draws at once.

The forward pass sums the detections so far, and a matrix product the hits. The backward pass, from the last
hit, computes the envelope of the precision and the recall levels that each hit reaches. Counts are whole
numbers in float32, so no sum loses precision. A detection that hits at one IoU level usually hits at all
lower ones, so its levels are processed together.

Detections with the same score are taken at once: the precision is that after all of them.

Letters: C clusters, D draws, M detections in falling order of score, K IoU levels, B blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.stats.bootstrap import Array

RECALLS = 100
MOST = 2_000  # more detections than this are processed in `BLOCKS` blocks, whose detections count as tied
BLOCKS = 500
TINY = np.float32(1e-30)  # lost in any count, but its reciprocal is still finite
Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def ties(scores: Array) -> Numbers:
    """Return (M,): the last detection with the score of each; scores fall.

    Tied detections are taken at once: their order is that of the file and has no meaning.
    """
    return np.searchsorted(-scores, -scores, side="right") - 1


def exact(times: Array, hit: Flags, positives: float, ends: Numbers) -> float:
    """Return the average precision of (M,) detections, each counted `times` times, of which some are hits."""
    if not positives:
        return np.nan
    right, taken = (times * hit).cumsum(), times.cumsum()[ends]
    envelope = np.divide(right, taken, out=np.zeros_like(taken), where=taken > 0)
    envelope = np.maximum.accumulate(envelope[::-1])[::-1]
    levels = np.floor(right / positives * RECALLS + 1e-9)
    first = envelope[0] if len(envelope) else 0.0
    return float(first + np.diff(levels, prepend=0) @ envelope) / (RECALLS + 1)


@dataclass(frozen=True, slots=True)
class Walk:
    """(M,) clusters of the detections, (K, M) hits, and (M,) `ties`; `shift` corrects the effect of blocks.

    shift: difference between exact and block result if each cluster counts once. runs: for each detection or
    block with hits, its number and the runs of levels of its hits.
    """

    owners: Numbers
    hits: Flags
    ends: Numbers
    bounds: Numbers  # start of each block, and the end; empty without blocks
    runs: Sequence[tuple[int, list[slice]]]
    shift: Array

    @classmethod
    def of(cls, owners: Numbers, hits: Flags, positives: float, ends: Numbers) -> "Walk":
        """Return the walk along these detections of a group with `positives` true boxes."""
        if len(owners) <= MOST:
            return cls(owners, hits, ends, np.zeros(0, dtype=np.int64), _runs(hits), np.zeros(len(hits)))
        even = np.arange(1, BLOCKS + 1) * len(owners) // BLOCKS
        bounds = np.append(0, np.unique(ends[even - 1] + 1))  # no block splits ties
        some = np.logical_or.reduceat(hits, bounds[:-1], axis=1)
        rough = cls(owners, hits, ends, bounds, _runs(some), np.zeros(len(hits)))
        once = np.ones((int(owners.max()) + 1, 1), dtype=np.float32)
        found = rough.over(once, np.array([positives]))[0]
        times = np.ones(len(owners))
        shift = np.array([exact(times, hit, positives, ends) for hit in hits]) - found
        return cls(owners, hits, ends, bounds, rough.runs, shift)

    def over(self, times: Floats, positives: Array) -> Array:
        """Return (D, K) average precision.

        times: (C, D) draws of each cluster. positives: (D,) true boxes.
        """
        state = _State.of(len(self.hits), positives)
        if len(self.bounds):
            self._by_block(times, state)
        else:
            self._one_by_one(times, state)
        found = (state.total + state.envelope) / np.float32(RECALLS + 1)
        return found.T.astype(np.float64) + self.shift

    def _one_by_one(self, times: Floats, state: "_State") -> None:
        owners, ends = self.owners.tolist(), self.ends.tolist()
        shares, rows = [], [times[owner] for owner in owners]
        taken, begin = np.full(times.shape[1], TINY), 0
        for place, _ in self.runs:
            for row in rows[begin : ends[place] + 1]:
                np.add(taken, row, out=taken)
            shares.append(np.reciprocal(taken))
            begin = max(begin, ends[place] + 1)
        np.matmul(self._hits_of_clusters(len(times)), times, out=state.right)
        state.start()
        for (place, runs), share in zip(reversed(self.runs), reversed(shares), strict=True):
            for run in runs:
                state.back(run, rows[place], share)

    def _hits_of_clusters(self, clusters: int) -> Floats:
        """Return (K, C): the hits of each cluster at each level."""
        return np.stack([np.bincount(self.owners[hit], minlength=clusters) for hit in self.hits]).astype(
            np.float32
        )

    def _by_block(self, times: Floats, state: "_State") -> None:
        gains = np.stack(list(self._gains(times)))
        taken = np.maximum(np.cumsum(gains[:, -1], axis=0), 1)
        state.right[:] = gains[:, :-1].sum(axis=0)
        state.start()
        for block, runs in reversed(self.runs):
            for run in runs:
                state.back(run, gains[block, run], 1 / taken[block])

    def _gains(self, times: Floats) -> Iterator[Floats]:
        """Yield the (K + 1, D) hits at each level, and detections, of each block."""
        for begin, end in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True):
            counted = np.vstack([self.hits[:, begin:end], np.ones((1, end - begin), dtype=bool)])
            yield counted.astype(np.float32) @ times[self.owners[begin:end]]


def _runs(hits: Flags) -> list[tuple[int, list[slice]]]:
    """Return the columns with hits, each with the runs of rows that hold them."""
    padded = np.zeros((hits.shape[1], len(hits) + 2), dtype=bool)
    padded[:, 1:-1] = hits.T
    places, edges = np.nonzero(padded[:, 1:] != padded[:, :-1])  # each run has two edges
    found: dict[int, list[slice]] = {}
    for place, a, b in zip(places[::2].tolist(), edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        found.setdefault(place, []).append(slice(a, b))
    return list(found.items())


@dataclass(frozen=True, slots=True)
class _State:
    """(K, D) each: hits so far, recall levels reached, envelope of the precision from here on, sum so far.

    The scale is slightly too large, so that rounding does not lose a recall level that is just reached.
    """

    scale: Floats
    right: Floats
    reached: Floats
    envelope: Floats
    total: Floats
    spare: Floats = field(repr=False)
    below: Floats = field(repr=False)

    @classmethod
    def of(cls, levels: int, positives: Array) -> "_State":
        scale = RECALLS * (1 + 1e-6) / np.maximum(positives, 1)
        arrays = (np.zeros((levels, len(positives)), dtype=np.float32) for _ in range(6))
        return cls(scale.astype(np.float32), *arrays)

    def start(self) -> None:
        """Set the state after the last hit."""
        np.floor(self.right * self.scale, out=self.reached)

    def back(self, run: slice, gain: Floats, share: Floats) -> None:
        """Step back over a detection or block with hits at these levels; share: 1 / detections so far."""
        right, reached, below, spare = self.right[run], self.reached[run], self.below[run], self.spare[run]
        envelope, total = self.envelope[run], self.total[run]
        np.multiply(right, share, out=spare)
        np.maximum(envelope, spare, out=envelope)
        np.subtract(right, gain, out=right)
        np.multiply(right, self.scale, out=below)
        np.floor(below, out=below)
        np.subtract(reached, below, out=spare)
        np.multiply(spare, envelope, out=spare)
        np.add(total, spare, out=total)
        reached[:] = below
