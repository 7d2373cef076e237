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
                columns = [_value(weights[0], owners, *group) for group in groups]
                return np.array(columns, dtype=float).reshape(1, len(groups))
            times = np.ascontiguousarray(weights.T, dtype=np.float32)
            return np.stack([_in_parts(times, owners, *group) for group in groups], axis=1)

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


def _in_parts(times: Floats, owners: Numbers, detected: Numbers, hits: Flags, true: Array) -> Array:
    """`_over_draws`, on so many draws at once that a number for each of them and each detection fits."""
    parts = -(-len(detected) * times.shape[1] // CELLS) or 1
    each = np.array_split(times, parts, axis=1)
    return np.concatenate([_over_draws(part, owners, detected, hits, true) for part in each])


def _over_draws(times: Floats, owners: Numbers, detected: Numbers, hits: Flags, true: Array) -> Array:
    """(D,) average precision from (C, D) times that each cluster was drawn.

    The detections of a block, where there are `BLOCKS` of them, are taken as tied.
    """
    holding = np.flatnonzero(true)
    positives = true[holding].astype(np.float32) @ times[owners[holding]]
    total = np.zeros(times.shape[1])
    if len(detected):
        blocks = np.arange(len(detected)) * min(len(detected), BLOCKS) // len(detected)
        taken = _block_sums(times[detected], blocks).cumsum(axis=0)
        for hit in hits:
            chosen = np.flatnonzero(hit)
            if len(chosen):
                gained = _block_sums(times[detected[chosen]], blocks[chosen])
                total += _level(gained, taken[np.unique(blocks[chosen])], positives)
    return np.where(positives > 0, total / len(hits), np.nan)


def _block_sums(rows: Floats, blocks: Numbers) -> Floats:
    """The sum of the rows of each block; the blocks stand in rising order."""
    starts = np.flatnonzero(np.diff(blocks, prepend=-1))
    return rows if len(starts) == len(rows) else np.add.reduceat(rows, starts, axis=0)


def _level(gained: Floats, taken: Floats, positives: Floats) -> Floats:
    """(D,) average precision at one IoU level, from the last block with a hit to the first.

    gained: hits in each block; taken: detections up to its end. Walking back from the sums needs no memory
    of what was on the way; the weights are whole numbers, so nothing is lost by it.
    """
    scale = RECALLS / np.maximum(positives, 1)
    right = gained.sum(axis=0)
    reached = np.floor(right * scale + 1e-4)
    envelope, total = np.zeros_like(right), np.zeros_like(right)
    for gain, seen in zip(gained[::-1], taken[::-1], strict=True):
        np.maximum(envelope, right / np.maximum(seen, 1), out=envelope)
        right -= gain
        below = np.floor(right * scale + 1e-4)
        total += (reached - below) * envelope
        reached = below
    return (total + envelope) / (RECALLS + 1)
