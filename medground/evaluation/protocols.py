"""The protocols by name: six different things are called mIoU on MS-CXR, so each score says which it is.

single-box  MedRPG, TransVG, AGP: phrases with one true box; the first box found, no box counting as IoU 0.
            `miou` is the mean IoU, `acc@.5` the share with IoU >= .5.
pooled      ChEX: sum of intersections / sum of unions of the covered areas over all phrases, for the boxes
            with score >= t, then the mean over t = .1, ..., .5: `miou`.
all-pairs   RadVLM: mean IoU over all pairs of a found and a true box of a phrase, then over phrases: `miou`
            (right answers with several boxes are punished); `ap@.5` as in coco.
set         MedGrounder, ClueGround: `coverage` (mean over true boxes of the best IoU), `union_iou` of the
            covered areas, `setf1@.5` by the largest one-to-one matching, `precision@f1=1`: the share of
            phrases answered without a fault. Phrases with nothing to show are scored too.
coco        `ap@.5` and `ap@.5:.95`, 101 recall levels: the boxes of a phrase compete as those of an image do
            in COCO, one ranking runs over a group, equal scores at once. Category groups are classes, macro
            is their mAP.

All areas are exact, in original pixels. A Case without a found box is an answer like any other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from medground import boxes, registry
from medground.evaluation import metrics
from medground.evaluation.cases import Case, Cases, as_array
from medground.evaluation.stats.average_precision import Ranked
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.records import Phrase

__all__ = ["Case", "Cases", "Figures", "Protocol", "as_array"]
Figures = Mapping[str, Ratio | Ranked]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Which phrases a protocol scores, and how."""

    takes: Callable[[Phrase], bool]
    measure: Callable[[Cases], Figures]
    primary: str  # the metric that sorts phrases from worst to best


def first_ious(cases: Cases) -> Array:
    """(N,) IoU of the first box found with the first true box; 0 without a found box."""
    both = np.flatnonzero((cases.counts > 0) & (cases.true_counts > 0))
    found = cases.found[cases.begin(cases.counts)[both]]
    overlap = np.zeros(len(cases))
    overlap[both] = boxes.paired_iou(found, cases.true[cases.begin(cases.true_counts)[both]])
    return overlap


def _single_box(cases: Cases) -> Figures:
    overlap = first_ious(cases)
    return {"miou": mean_over(overlap), "acc@.5": mean_over((overlap >= 0.5).astype(float))}


def _pooled(cases: Cases) -> Figures:
    return {"miou": Ratio([cases.covered(cases.scores >= threshold) for threshold in metrics.THRESHOLDS])}


def _all_pairs(cases: Cases) -> Figures:
    ious, owner, _ = cases.pairs
    total = np.bincount(owner, weights=ious, minlength=len(cases))
    return {
        "miou": mean_over(total / np.maximum(cases.counts * cases.true_counts, 1)),
        "ap@.5": cases.ranked.at(0),
    }


def _set(cases: Cases) -> Figures:
    nothing = (cases.counts + cases.true_counts == 0).astype(float)
    either = np.maximum(cases.counts + cases.true_counts, 1)
    f1 = np.where(nothing > 0, 1.0, 2 * matched(cases) / either)
    both, union = cases.areas
    return {
        "setf1@.5": mean_over(f1),
        "coverage": mean_over(np.where(np.isnan(cases.best), nothing, cases.best)),
        "union_iou": mean_over(np.divide(both, union, out=nothing.copy(), where=union > 0)),
        "precision@f1=1": mean_over((f1 == 1).astype(float)),
    }


def matched(cases: Cases, threshold: float = 0.5) -> Array:
    """(N,) the most found and true boxes of each case that go together one to one with IoU >= threshold."""
    ious, owner, _ = cases.pairs
    pairs = np.bincount(owner[ious >= threshold], minlength=len(cases))
    most = np.minimum(pairs, 1.0)
    for place in np.flatnonzero(np.minimum(np.minimum(cases.counts, cases.true_counts), pairs) > 1).tolist():
        most[place] = metrics.matched(cases.overlap(place) >= threshold)
    return most


def _coco(cases: Cases) -> Figures:
    return {"ap@.5": cases.ranked.at(0), "ap@.5:.95": cases.ranked}


SINGLE_BOX = Protocol(lambda phrase: len(phrase.boxes or ()) == 1, _single_box, "miou")
POOLED = Protocol(lambda phrase: bool(phrase.boxes), _pooled, "miou")
ALL_PAIRS = Protocol(lambda phrase: bool(phrase.boxes), _all_pairs, "miou")
SET = Protocol(lambda phrase: phrase.boxes is not None, _set, "setf1@.5")
COCO = Protocol(lambda phrase: phrase.boxes is not None, _coco, "ap@.5")


def named(name: str) -> Protocol:
    """Return the protocol over phrases of this name in the registry."""
    protocol: Protocol = registry.PROTOCOLS[name].load()
    return protocol
