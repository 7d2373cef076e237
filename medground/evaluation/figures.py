"""Two kinds of figure over a test set, each computed for all draws of the bootstrap at once.

`Ratio`: sums over sums, which holds means, shares and pooled IoU. `Ranked`: average precision.
Letters: N items, C clusters, D draws, G groups, M detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.evaluation.intervals import Array, Figure

Masks = NDArray[np.bool_]  # (G, N): which items are in which group
RECALLS = 100  # COCO reads precision at recall 0, 0.01, ..., 1


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


@dataclass(frozen=True, slots=True)
class Ranked:
    """Average precision of scored detections, as COCO defines it.

    items: (M,) the item each detection belongs to; scores and hits: (M,), for each of the IoU thresholds one
    row of hits (K, M); true: (N,) true boxes of each item. Detections with equal scores keep their order.
    A group without a true box has no value. The mean over the K thresholds is the figure.
    """

    items: NDArray[np.int64]
    scores: Array
    hits: NDArray[np.bool_]
    true: Array

    def bind(self, owners: NDArray[np.int64], masks: Masks) -> Figure:
        """The figure of each group under given weights of the clusters that own the items."""
        order = np.argsort(-self.scores, kind="stable")
        items, hits = self.items[order], self.hits[:, order]
        true = _sums(self.true, owners, masks)
        groups = [(owners[items[mask[items]]], hits[:, mask[items]]) for mask in masks]

        def figure(weights: Array) -> Array:
            positives = weights @ true
            columns = [
                np.mean([_precision(weights, own, hit, positives[:, g]) for hit in each], axis=0)
                for g, (own, each) in enumerate(groups)
            ]
            return np.stack(columns, axis=1) if columns else np.zeros((len(weights), 0))

        return figure


def _precision(weights: Array, owners: NDArray[np.int64], hits: NDArray[np.bool_], positives: Array) -> Array:
    """(D,) average precision of detections in falling order of score; NaN without a true box.

    A detection drawn k times counts k times. Summing the precision envelope over the recall levels that each
    detection reaches is the same as looking the precision up at each level.
    """
    rows = max(1, 4_000_000 // max(1, len(owners)))
    return np.concatenate(
        [_precision_block(weights[i : i + rows], owners, hits, positives[i : i + rows])
         for i in range(0, len(weights), rows)]
    )  # fmt: skip


def _precision_block(
    weights: Array, owners: NDArray[np.int64], hits: NDArray[np.bool_], positives: Array
) -> Array:
    known = positives > 0
    if not len(owners):
        return np.where(known, 0.0, np.nan)
    times = weights[:, owners]
    taken = times.cumsum(axis=1)
    right = (times * hits).cumsum(axis=1)
    envelope = np.divide(right, taken, out=np.zeros_like(taken), where=taken > 0)
    envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
    recall = _divide(right, positives[:, None])
    levels = np.floor(np.where(known[:, None], recall, 0) * RECALLS + 1e-9)
    steps = np.diff(levels, axis=1, prepend=0)
    total = envelope[:, 0] + (steps * envelope).sum(axis=1)
    return np.where(known, total / (RECALLS + 1), np.nan)


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
