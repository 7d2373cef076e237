"""Figures of one answer: boxes found against boxes drawn, and heat maps against boxes.

Letters: N items, F boxes found, T true boxes, H x W cells of a heat map. Boxes are pixel
[x1, y1, x2, y2]; (0, 4) arrays stand for "no box". Every figure is in [0, 1] but the contrast-to-noise ratio.
"""

import numpy as np
from numpy.typing import NDArray

from medground import boxes
from medground.boxes import Array

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # of heat maps (BioViL) and of box scores (ChEX)


def union_area(found: Array) -> float:
    """Area that (F, 4) boxes cover together, each point counted once."""
    return _covered(found, found)[0]


def union_overlap(found: Array, true: Array) -> tuple[float, float]:
    """(intersection, union) of the areas that (F, 4) and (T, 4) boxes cover, exact for any overlap."""
    own, other, both = _covered(found, true)
    return both, own + other - both


def union_iou(found: Array, true: Array) -> float:
    """Intersection over union of the covered areas; 1 where both sides have no box, 0 where one has none."""
    if not len(found) and not len(true):
        return 1.0
    both, either = union_overlap(found, true)
    return both / either if either else 0.0


def _covered(a: Array, b: Array) -> tuple[float, float, float]:
    """Areas covered by a, by b, and by both, on the grid that all their edges span."""
    x, y = (np.unique(np.concatenate([a[:, axis::2].ravel(), b[:, axis::2].ravel()])) for axis in (0, 1))
    if len(x) < 2 or len(y) < 2:
        return 0.0, 0.0, 0.0
    cells = np.diff(y)[:, None] * np.diff(x)[None, :]
    in_a, in_b = _cells_of(a, x, y), _cells_of(b, x, y)
    return float(cells[in_a].sum()), float(cells[in_b].sum()), float(cells[in_a & in_b].sum())


def _cells_of(found: Array, x: Array, y: Array) -> NDArray[np.bool_]:
    """Which cells between the edges x and y lie in one of the boxes."""
    across = (found[:, None, 0] <= x[None, :-1]) & (x[None, 1:] <= found[:, None, 2])  # (F, cells)
    down = (found[:, None, 1] <= y[None, :-1]) & (y[None, 1:] <= found[:, None, 3])
    return np.any(down[:, :, None] & across[:, None, :], axis=0)


def coverage(found: Array, true: Array) -> float:
    """Mean over the true boxes of the best IoU that a found box has with it; 0 without a found box.

    Without a true box: 1 if nothing was found either, else 0.
    """
    if not len(true):
        return float(not len(found))
    return float(boxes.iou(found, true).max(axis=0).mean()) if len(found) else 0.0


def all_pairs(found: Array, true: Array) -> float:
    """Mean IoU over every pair of a found and a true box; 0 where there is no pair."""
    return float(boxes.iou(found, true).mean()) if len(found) and len(true) else 0.0


def set_f1(found: Array, true: Array, threshold: float = 0.5) -> float:
    """F1 of a one-to-one matching of found and true boxes with IoU >= threshold, the largest there is.

    1 where there is neither a true nor a found box.
    """
    if not len(found) and not len(true):
        return 1.0
    return 2 * matched(boxes.iou(found, true) >= threshold) / (len(found) + len(true))


def matched(may: NDArray[np.bool_]) -> int:
    """The size of the largest one-to-one matching of rows and columns that may go together (Kuhn, 1955)."""
    row_of: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column in np.flatnonzero(may[row]).tolist():
            if column not in tried:
                tried.add(column)
                if column not in row_of or place(row_of[column], tried):
                    row_of[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(may)))


def covered_shares(true: Array, width: float, height: float, shape: tuple[int, int]) -> Array:
    """(H, W) share of each cell of a heat map over a whole width x height image that the (T, 4) boxes cover.

    Exact for any overlap of the boxes and any resolution of the heat map.
    """
    shares = np.zeros(shape)
    x, y = np.unique(true[:, 0::2]), np.unique(true[:, 1::2])
    for row, column in np.argwhere(_cells_of(true, x, y)):
        down = _overlap(y[row], y[row + 1], height, shape[0])
        shares += down[:, None] * _overlap(x[column], x[column + 1], width, shape[1])[None, :]
    return shares


def _overlap(low: float, high: float, length: float, cells: int) -> Array:
    """(cells,) the share of each of the equal parts of a length that lies between low and high."""
    edges = np.linspace(0, length, cells + 1)
    return np.diff(np.clip(edges, low, high)) * cells / length


def heatmap_iou(heatmap: Array, shares: Array) -> float:
    """Mean over `THRESHOLDS` of IoU({heat map > t}, boxes); shares: of each cell, covered by the boxes.

    A heat map that is nowhere above .1 gives 0.
    """
    total, found = shares.sum(), []
    for threshold in THRESHOLDS:
        hot = heatmap > threshold
        both = shares[hot].sum()
        either = hot.sum() + total - both
        found.append(both / either if either else 0.0)
    return float(np.mean(found))


def contrast_to_noise(heatmap: Array, shares: Array) -> float | None:
    """|mean inside - mean outside| / sqrt(variance inside + variance outside), population variances.

    A cell counts as inside by its share. 0 for a flat heat map, None where nothing is
    inside or outside and for a heat map that is just the boxes (no noise).
    """
    within, without = shares.sum(), (1 - shares).sum()
    if min(within, without) < 1e-9:
        return None
    spread, means = 0.0, []
    for weights, total in ((shares, within), (1 - shares, without)):
        mean = float((weights * heatmap).sum() / total)
        spread += float((weights * (heatmap - mean) ** 2).sum() / total)
        means.append(mean)
    return noise_ratio(abs(means[0] - means[1]), spread)


def noise_ratio(contrast: float, spread: float) -> float | None:
    """contrast / sqrt(spread): 0 without contrast, None (infinite) where there is contrast and no noise."""
    if spread > 1e-18:
        return contrast / float(np.sqrt(spread))
    return 0.0 if contrast < 1e-9 else None
