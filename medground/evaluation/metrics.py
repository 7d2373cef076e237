"""Figures of one prediction: predicted boxes against ground-truth boxes, and heat maps against boxes.

Letters: N items, F predicted boxes, T true boxes, H x W cells of a heat map. Boxes are pixel [x1, y1, x2,
y2]; a (0, 4) array means "no box". Every figure is in [0, 1] except the contrast-to-noise ratio.
"""

import numpy as np
from numpy.typing import NDArray

from medground.boxes import Array

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # of heat maps (BioViL) and of box scores (ChEX)
CELLS = 400_000  # grid cells computed at once: cases x squared number of boxes


def union_overlaps(
    found: Array, counts: NDArray[np.int64], true: Array, true_counts: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Return ((N,) intersection, (N,) union) of the areas that the predicted and the true boxes cover, exact.

    The boxes of all cases follow one another; `counts` and `true_counts` are the numbers of boxes of each
    case.
    """
    first, first_true = np.cumsum(counts) - counts, np.cumsum(true_counts) - true_counts
    both, either = np.zeros(len(counts)), np.zeros(len(counts))
    for f, t in sorted(set(zip(counts.tolist(), true_counts.tolist(), strict=True))):
        alike = np.flatnonzero((counts == f) & (true_counts == t))
        for some in np.array_split(alike, max(1, len(alike) * (f + t) ** 2 // CELLS)):
            a, b = found[first[some, None] + np.arange(f)], true[first_true[some, None] + np.arange(t)]
            own, other, both[some] = _covered(a, b)
            either[some] = own + other - both[some]
    return both, either


def union_overlap(found: Array, true: Array) -> tuple[float, float]:
    """Return (intersection, union) of the areas that (F, 4) and (T, 4) boxes cover, exact for any overlap."""
    own, other, both = (float(each[0]) for each in _covered(found[None], true[None]))
    return both, own + other - both


def union_area(found: Array) -> float:
    """Return the area that (F, 4) boxes cover together, each point counted once."""
    return float(_covered(found[None], found[None])[0][0])


def union_iou(found: Array, true: Array) -> float:
    """Return the intersection over union of the covered areas.

    It is 1 if neither side has a box, and 0 if only one has.
    """
    if not len(found) and not len(true):
        return 1.0
    both, either = union_overlap(found, true)
    return both / either if either else 0.0


def _covered(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Return the (N,) areas covered by (N, F, 4) boxes a, by (N, T, 4) boxes b, and by both.

    They are computed on the grid of the edges of the boxes.
    """
    if not a.shape[1] + b.shape[1]:
        return (np.zeros(len(a)),) * 3
    x, y = (np.sort(np.concatenate([_edges(a, axis), _edges(b, axis)], axis=1)) for axis in (0, 1))
    cells = np.diff(y)[:, :, None] * np.diff(x)[:, None, :]
    in_a, in_b = _cells_of(a, x, y), _cells_of(b, x, y)
    own, other, both = (np.where(mask, cells, 0.0).sum(axis=(1, 2)) for mask in (in_a, in_b, in_a & in_b))
    return own, other, both


def _edges(found: Array, axis: int) -> Array:
    return found[:, :, axis::2].reshape(len(found), -1)


def _cells_of(found: Array, x: Array, y: Array) -> NDArray[np.bool_]:
    """Return (N, Y, X): whether each cell between the edges x and y (N, .) lies in a box (N, F, 4)."""
    inside = np.zeros((len(found), max(0, y.shape[1] - 1), max(0, x.shape[1] - 1)), dtype=bool)
    for x1, y1, x2, y2 in np.moveaxis(found, (1, 2), (0, 1))[..., None]:
        across = (x1 <= x[:, :-1]) & (x[:, 1:] <= x2)
        down = (y1 <= y[:, :-1]) & (y[:, 1:] <= y2)
        inside |= down[:, :, None] & across[:, None, :]
    return inside


def matched(may: NDArray[np.bool_]) -> int:
    """Return the size of the largest one-to-one matching of rows and columns (Kuhn, 1955).

    may: whether a row and a column may be matched.
    """
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
    """Return (H, W): the share of each cell of a heat map that the (T, 4) boxes cover.

    The heat map covers a whole image of width x height pixels. Exact for any overlap of the boxes and any
    resolution of the heat map.
    """
    shares = np.zeros(shape)
    x, y = np.unique(true[:, 0::2]), np.unique(true[:, 1::2])
    for row, column in np.argwhere(_cells_of(true[None], x[None], y[None])[0]):
        down = _overlap(y[row], y[row + 1], height, shape[0])
        shares += down[:, None] * _overlap(x[column], x[column + 1], width, shape[1])[None, :]
    return shares


def _overlap(low: float, high: float, length: float, cells: int) -> Array:
    """Return (cells,): the share of each of the equal parts of a length that lies between low and high."""
    edges = np.linspace(0, length, cells + 1)
    return np.diff(np.clip(edges, low, high)) * cells / length


def heatmap_iou(heatmap: Array, shares: Array) -> float:
    """Return the mean over `THRESHOLDS` of IoU({heat map > t}, boxes).

    shares: share of each cell that the boxes cover. A heat map that is nowhere above .1 gives 0. NaN is never
    above a threshold.
    """
    total, found = shares.sum(), []
    for threshold in THRESHOLDS:
        hot = heatmap > threshold
        both = shares[hot].sum()
        either = hot.sum() + total - both
        found.append(both / either if either else 0.0)
    return float(np.mean(found))


def contrast_to_noise(heatmap: Array, shares: Array) -> float | None:
    """Return |mean inside - mean outside| / sqrt(variance inside + variance outside), population variances.

    A cell counts as inside by its share; NaN cells do not count. 0 for a flat heat map. None if nothing is
    inside or outside, and for a heat map that equals the boxes (no noise).
    """
    seen = ~np.isnan(heatmap)
    heatmap, shares = heatmap[seen], shares[seen]
    within, without = shares.sum(), (1 - shares).sum()
    if min(within, without) < 1e-9:
        return None
    spread, means = 0.0, []
    for weights, total in ((shares, within), (1 - shares, without)):
        mean = float((weights * heatmap).sum() / total)
        spread += float((weights * (heatmap - mean) ** 2).sum() / total)
        means.append(mean)
    return noise_ratio(abs(means[0] - means[1]), spread)


def pointing(heatmap: Array, true: Array, width: float, height: float) -> float:
    """Return the share of the highest cells whose center lies in one of the (T, 4) boxes; usually 0 or 1."""
    rows, columns = np.nonzero(heatmap == np.nanmax(heatmap))
    x, y = (columns + 0.5) * width / heatmap.shape[1], (rows + 0.5) * height / heatmap.shape[0]
    return float(points_inside(x[:, None], y[:, None], true).mean())


def points_inside(x: Array, y: Array, true: Array) -> NDArray[np.bool_]:
    """Return (N,): whether each point (N, 1) lies in one of the (T, 4) boxes."""
    inside = (true[:, 0] <= x) & (x < true[:, 2]) & (true[:, 1] <= y) & (y < true[:, 3])
    result: NDArray[np.bool_] = np.asarray(inside.any(axis=1))
    return result


def noise_ratio(contrast: float, spread: float) -> float | None:
    """Return contrast / sqrt(spread): 0 without contrast, None (infinite) for contrast without noise."""
    if spread > 1e-18:
        return contrast / float(np.sqrt(spread))
    return 0.0 if contrast < 1e-9 else None
