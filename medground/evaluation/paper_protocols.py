"""Protocols of papers, each equal to its public implementation on the same boxes.

rodeo     RoDeO (Meissen et al. 2023; FeliMe/RoDeO): the boxes of a phrase are matched one to one by GIoU.
          `localization` is the mean of exp(-ln 2 d^2) over matched boxes, with d the distance of the centers
          in units of the true box's width and height. `shape` is the mean IoU of matched boxes moved to one
          corner. Boxes without a partner, predicted or true, count as 0. Phrases have no classes, so there is
          no classification score and no total.
radfact   RadFact's box scores (microsoft/RadFact) with each phrase as a pair of sentences: the phrase as
          predicted (if `present` >= .5) and as annotated. A sentence is spatially entailed if more than half
          of the pixels of its boxes lie in the other's boxes, on a grid of 224 x 224. `grounding_precision`
          and `grounding_recall` are shares of the entailed sentences with boxes, `spatial_precision` and
          `spatial_recall` of all sentences with boxes; means over images.
chex      ChEX's sentence grounding (philip-mueller/chex, sg_mscxr): non-maximum suppression at IoU .25, then
          boxes with a score above t, as fractions of the image on a grid of 1024 x 1024. `miou` is the mean
          over t = .1, ..., .5 of the summed intersections over the summed unions, `iou@.3` that of t = .3.
pointing  the pointing game: the share of phrases for which the center of the best box lies in a true box.
rsna      the IoU levels .4, .45, ..., .75 of Kaggle's RSNA challenge. `ap@.4:.75` is COCO's average precision
          over them, on all phrases: that of torchmetrics' MeanAveragePrecision with these `iou_thresholds`.
          `kaggle@.4:.75` is the challenge's own score: hits / (hits + other predicted boxes + other true
          boxes) of each phrase, the mean over levels and phrases. Boxes are matched best first. A phrase with
          neither true nor predicted boxes does not count in it, and one with predicted boxes only counts 0.
"""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medground import boxes
from medground.evaluation import metrics
from medground.evaluation.cases import Case, Cases, Numbers
from medground.evaluation.phrases import need_sizes
from medground.evaluation.protocols import PhraseProtocol
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Figures

RSNA_LEVELS = tuple(round(0.4 + 0.05 * step, 2) for step in range(8))  # IoU thresholds of the challenge
PRESENT = 0.5  # `present` of a phrase that counts as stated
RADFACT_GRID, CHEX_GRID = 224, 1024
SUPPRESSED = 0.25  # IoU with a better box at which ChEX drops a box
CHEX_SCORE = 0.3  # of iou@.3


def _rodeo(cases: Cases) -> Figures:
    found = np.array([_rodeo_sums(case) for case in cases]).reshape(-1, 3)
    return {
        "localization": Ratio([(found[:, 0], found[:, 2])]),
        "shape": Ratio([(found[:, 1], found[:, 2])]),
    }


def _rodeo_sums(case: Case) -> tuple[float, float, int]:
    """Return the sums of localization and shape over matched boxes, and the number of all boxes or pairs."""
    found, true = case.boxes, case.true
    rows, columns = _assigned(found, true)
    found, true = found[rows], true[columns]
    size, other = _sizes(true), _sizes(found)
    away = ((found[:, :2] + found[:, 2:]) / 2 - (true[:, :2] + true[:, 2:]) / 2) / size
    near = np.exp(-math.log(2) * (away**2).sum(axis=1))
    both = np.minimum(size, other).prod(axis=1)
    alike = both / (size.prod(axis=1) + other.prod(axis=1) - both)
    pairs = len(rows)
    return float(near.sum()), float(alike.sum()), len(case.found) + len(case.phrase.boxes or ()) - pairs


def _assigned(found: Array, true: Array) -> tuple[Array, Array]:
    """Return the rows and columns of the one-to-one assignment with the highest sum of GIoU."""
    if not (len(found) and len(true)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if len(found) == len(true) == 1:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-_giou(found, true))
    return rows, columns


def _giou(a: Array, b: Array) -> Array:
    """Return the (N, M) generalized IoU of (N, 4) and (M, 4) boxes."""
    overlap = boxes.iou(a, b)
    areas = boxes.area(a)[:, None] + boxes.area(b)[None, :]
    either = areas / (1 + overlap)
    low = np.minimum(a[:, None, :2], b[None, :, :2])
    around = (np.maximum(a[:, None, 2:], b[None, :, 2:]) - low).prod(axis=2)
    result: Array = overlap - (around - either) / around
    return result


def _sizes(some: Array) -> Array:
    size: Array = some[:, 2:] - some[:, :2]
    return size


def _radfact(cases: Cases) -> Figures:
    own, other = _radfact_pixels(cases)
    entailed = np.array([case.present >= PRESENT for case in cases], dtype=bool)
    stated, true = entailed & (cases.counts > 0), cases.true_counts > 0
    return {
        "grounding_precision": _over_images(cases, own, stated & true),
        "grounding_recall": _over_images(cases, other, entailed & true),
        "spatial_precision": _over_images(cases, own * true, stated),
        "spatial_recall": _over_images(cases, other * entailed, true),
    }


def _radfact_pixels(cases: Cases) -> tuple[Array, Array]:
    """Return (N,) whether most pixels of the predicted boxes are in the true ones, and the reverse."""
    found = _on_grid(cases, cases.found, cases.counts, RADFACT_GRID)
    true = _on_grid(cases, cases.true, cases.true_counts, RADFACT_GRID)
    both, either = metrics.union_overlaps(*found, *true)
    nothing = np.zeros((0, 4)), np.zeros(len(cases), np.int64)
    own = metrics.union_overlaps(*found, *nothing)[1]
    other = either + both - own
    return tuple((both > area / 2).astype(float) for area in (own, other))  # type: ignore[return-value]


def _over_images(cases: Cases, values: Array, counted: NDArray[np.bool_]) -> Ratio:
    """Return the mean over images of the mean over the counted phrases of an image."""
    number = Counter(case.phrase.image_id for case, each in zip(cases, counted, strict=True) if each)
    weights = np.array([1 / max(1, number[case.phrase.image_id]) for case in cases]) * counted
    return Ratio([(values * weights, weights)])


def _on_grid(cases: Cases, flat: Array, counts: Numbers, cells: int) -> tuple[Array, Numbers]:
    """Return boxes as whole cells of a square grid over each image, and their number for each case.

    Boxes without a cell are left out.
    """
    owner = np.repeat(np.arange(len(cases)), counts)
    placed = np.floor(flat / _image_sides(cases)[owner] * cells + 1e-9)
    kept = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
    return placed[kept], np.bincount(owner[kept], minlength=len(cases))


def _image_sides(cases: Cases) -> Array:
    """Return (N, 4): width, height, width, height of each image; raise MedgroundError if one is unknown."""
    need_sizes([case.phrase for case in cases], "this protocol")
    sides = [(case.phrase.width, case.phrase.height) * 2 for case in cases]
    return np.array(sides, dtype=float).reshape(-1, 4)


def _chex(cases: Cases) -> Figures:
    kept, owner = _suppressed(cases), np.repeat(np.arange(len(cases)), cases.counts)
    true = _on_grid(cases, cases.true, cases.true_counts, CHEX_GRID)
    pairs = {}
    for threshold in metrics.THRESHOLDS:
        shown = kept & (cases.scores > threshold)
        counts = np.bincount(owner[shown], minlength=len(cases))
        found = _on_grid(cases, cases.found[shown], counts, CHEX_GRID)
        pairs[threshold] = metrics.union_overlaps(*found, *true)
    return {"miou": Ratio(list(pairs.values())), "iou@.3": Ratio([pairs[CHEX_SCORE]])}


def _suppressed(cases: Cases) -> NDArray[np.bool_]:
    """Return (all F,) whether a box remains after non-maximum suppression."""
    kept = np.full(len(cases.found), True)
    sides, first = _image_sides(cases), cases.begin(cases.counts)
    for place in np.flatnonzero(cases.counts > 1).tolist():
        own = slice(first[place], first[place] + int(cases.counts[place]))
        kept[own] = _best_ones(cases.found[own] / sides[place], cases.scores[own])
    return kept


def _best_ones(some: Array, scores: Array) -> NDArray[np.bool_]:
    """Return (F,) whether each box overlaps no better one by more than `SUPPRESSED`."""
    kept: list[int] = []
    overlap = boxes.iou(some, some)
    for place in np.argsort(-scores, kind="stable").tolist():
        if not kept or overlap[place, kept].max() <= SUPPRESSED:
            kept.append(place)
    return np.isin(np.arange(len(some)), kept)


def _rsna(cases: Cases) -> Figures:
    hits = cases.hits(RSNA_LEVELS)
    owner = np.repeat(np.arange(len(cases)), cases.counts)
    found = np.stack([np.bincount(owner[each], minlength=len(cases)) for each in hits])
    either = cases.counts + cases.true_counts - found
    share = np.divide(found, either, out=np.full(found.shape, np.nan), where=either > 0)
    return {"ap@.4:.75": cases.ranked_by(hits), "kaggle@.4:.75": mean_over(share.mean(axis=0))}


def _pointing(cases: Cases) -> Figures:
    return {"pointing": mean_over(list(_hits(cases)))}


def _hits(cases: Cases) -> Iterator[float]:
    for case in cases:
        x1, y1, x2, y2 = case.found[0].box if case.found else (-1.0, -1.0, -1.0, -1.0)
        x, y = np.array([[(x1 + x2) / 2]]), np.array([[(y1 + y2) / 2]])
        yield float(metrics.points_inside(x, y, case.true)[0])


RODEO = PhraseProtocol("rodeo", lambda phrase: phrase.boxes is not None, _rodeo, "localization")
RADFACT = PhraseProtocol("radfact", lambda phrase: phrase.boxes is not None, _radfact, "spatial_precision")
CHEX = PhraseProtocol("chex", lambda phrase: bool(phrase.boxes), _chex, "miou")
POINTING = PhraseProtocol("pointing", lambda phrase: bool(phrase.boxes), _pointing, "pointing", True)
RSNA = PhraseProtocol("rsna", lambda phrase: phrase.boxes is not None, _rsna, "ap@.4:.75")
