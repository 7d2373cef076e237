"""Average precision as COCO defines it, on the data and over the draws of the bootstrap.

Letters: N items, C clusters, D draws, G groups, M detections in falling order of score, K IoU levels.
Precision is looked up at 101 recall levels 0, .01, ..., 1 on its envelope; that is the same as summing the
envelope over the recall levels that each hit reaches, so misses need no step of their own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.intervals import CELLS, Array, Figure

RECALLS = 100
BLOCKS = 2_000  # more detections than this are ranked in so many blocks over the draws (never for the value)
DRAWS = 2_500  # draws at once
Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Average precision of scored detections, the mean over K IoU levels.

    items: (M,) the item of each detection; scores: (M,); hits: (K, M); true: (N,) true boxes of each item.
    Detections with equal scores keep their order. A group without a true box has no value.
    """

    items: Numbers
    scores: Array
    hits: Flags
    true: Array

    def bind(self, owners: Numbers, masks: Flags) -> Figure:
        """The figure of each group under given weights of the clusters that own the items."""
        order = np.argsort(-self.scores, kind="stable")
        items, hits = self.items[order], self.hits[:, order]
        groups = [(owners[items[mask[items]]], hits[:, mask[items]], self.true * mask) for mask in masks]

        def figure(weights: Array) -> Array:
            if len(weights) == 1:
                return np.array([[_value(weights[0], owners, *group) for group in groups]]).reshape(1, -1)
            most = min(DRAWS, max(1, CELLS // max(1, len(items))))
            parts = (weights[first : first + most] for first in range(0, len(weights), most))
            rows = (np.ascontiguousarray(part.T, dtype=np.float32) for part in parts)
            found = [np.array([_over_draws(row, owners, *group) for group in groups]).T for row in rows]
            return np.vstack(found)

        return figure


def _value(weights: Array, owners: Numbers, detected: Numbers, hits: Flags, true: Array) -> float:
    """The average precision under one row of weights, exact."""
    positives = float(weights[owners] @ true)
    if not positives:
        return np.nan
    times = weights[detected]
    return float(np.mean([_exact(times, hit, positives) for hit in hits]))


def _exact(times: Array, hit: Flags, positives: float) -> float:
    right, taken = (times * hit).cumsum(), times.cumsum()
    envelope = np.divide(right, taken, out=np.zeros_like(taken), where=taken > 0)
    envelope = np.maximum.accumulate(envelope[::-1])[::-1]
    levels = np.floor(right / positives * RECALLS + 1e-9)
    first = envelope[0] if len(envelope) else 0.0
    return float(first + np.diff(levels, prepend=0) @ envelope) / (RECALLS + 1)


def _over_draws(times: Floats, owners: Numbers, detected: Numbers, hits: Flags, true: Array) -> Floats:
    """(D,) average precision, the mean over the levels, from (C, D) times that each cluster was drawn."""
    holding = np.flatnonzero(true)
    positives = true[holding].astype(np.float32) @ times[owners[holding]]
    total = np.zeros_like(positives)
    if len(detected):
        blocks = np.arange(len(detected)) * min(len(detected), BLOCKS) // len(detected)
        rows = times[detected]
        shares = _shares(_block_sums(rows, blocks))
        for hit in hits:
            if len(chosen := np.flatnonzero(hit)):
                gained = _block_sums(rows[chosen], blocks[chosen])
                total += _level(gained, shares, np.unique(blocks[chosen]), positives)
    return np.where(positives > 0, total / len(hits), np.nan)


def _block_sums(rows: Floats, blocks: Numbers) -> Floats:
    """The sum of the rows of each block, whose detections are taken as tied; blocks in rising order."""
    starts = np.flatnonzero(np.diff(blocks, prepend=-1))
    return rows if len(starts) == len(rows) else np.add.reduceat(rows, starts, axis=0)


def _shares(rows: Floats) -> Floats:
    """1 / the sum of the rows up to each; a loop, for numpy's cumsum down the columns is ten times slower."""
    sums = np.empty_like(rows)
    total = np.zeros_like(rows[0])
    for row, out in zip(rows, sums, strict=True):
        np.add(total, row, out=total)
        np.maximum(total, 1, out=out)
    return np.reciprocal(sums, out=sums)


def _level(gained: Floats, shares: Floats, blocks: Numbers, positives: Floats) -> Floats:
    """(D,) average precision at one IoU level, from the last block with a hit to the first.

    gained: hits in each of these blocks; shares: 1 / detections up to the end of every block. Walking back
    from the sums needs no memory of what was on the way; hits are whole numbers, so nothing is lost by it.
    The scale is a trifle too large, so that a recall level that is just reached is not lost to rounding.
    """
    scale = np.float32(RECALLS * (1 + 1e-6)) / np.maximum(positives, 1)
    right = gained.sum(axis=0)
    reached = np.floor(right * scale)
    envelope, total, below, step = (np.zeros_like(right) for _ in range(4))
    for gain, block in zip(gained[::-1], blocks[::-1].tolist(), strict=True):
        np.multiply(right, shares[block], out=step)
        np.maximum(envelope, step, out=envelope)
        np.subtract(right, gain, out=right)
        np.multiply(right, scale, out=below)
        np.floor(below, out=below)
        np.subtract(reached, below, out=step)
        np.multiply(step, envelope, out=step)
        np.add(total, step, out=total)
        reached, below = below, reached
    return (total + envelope) / np.float32(RECALLS + 1)
