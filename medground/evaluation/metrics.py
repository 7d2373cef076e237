"""Figures of one answer: boxes found against boxes drawn, and heat maps against boxes.

Letters: N items, F boxes found, T true boxes, H x W pixels. Boxes are pixel [x1, y1, x2, y2]; (0, 4) arrays
stand for "no box". Every figure is in [0, 1] but the contrast-to-noise ratio.
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


def inside(true: Array, width: int, height: int) -> NDArray[np.bool_]:
    """(H, W) which pixels have their centre in one of the boxes."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    mask = np.zeros((height, width), dtype=bool)
    for x1, y1, x2, y2 in true:
        mask[np.ix_((y >= y1) & (y < y2), (x >= x1) & (x < x2))] = True
    return mask


def heatmap_iou(heatmap: Array, mask: NDArray[np.bool_]) -> float:
    """Mean over `THRESHOLDS` of IoU({heat map > t}, mask); a heat map at or below .1 everywhere gives 0."""
    hot = [heatmap > threshold for threshold in THRESHOLDS]
    return float(np.mean([np.sum(each & mask) / max(1, int(np.sum(each | mask))) for each in hot]))


def contrast_to_noise(heatmap: Array, mask: NDArray[np.bool_]) -> float | None:
    """|mean inside - mean outside| / sqrt(variance inside + variance outside), population variances.

    None where the mask is empty or full, and for a flat heat map.
    """
    if mask.all() or not mask.any():
        return None
    within, without = heatmap[mask], heatmap[~mask]
    noise = float(np.sqrt(within.var() + without.var()))
    return float(abs(within.mean() - without.mean())) / noise if noise > 0 else None
