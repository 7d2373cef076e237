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
            in COCO, one ranking runs over a group. Category groups are classes, macro is their mAP.

All areas are exact, in original pixels. A Case without a found box is an answer like any other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground import boxes
from medground.evaluation import metrics
from medground.evaluation.figures import Ratio, mean_over
from medground.evaluation.intervals import Array
from medground.evaluation.ranking import Ranked
from medground.records import Box, Phrase, ScoredBox

Figures = Mapping[str, Ratio | Ranked]
LEVELS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # COCO's IoU thresholds


@dataclass(frozen=True, slots=True)
class Case:
    """A phrase with its true boxes, and the boxes found for it, best first."""

    phrase: Phrase
    found: Sequence[ScoredBox]

    @property
    def boxes(self) -> Array:
        """(F, 4) boxes found."""
        return as_array([each.box for each in self.found])

    @property
    def true(self) -> Array:
        """(T, 4) true boxes."""
        return as_array(self.phrase.boxes or [])


@dataclass(frozen=True, slots=True)
class Protocol:
    """Which phrases a protocol scores, and how."""

    takes: Callable[[Phrase], bool]
    measure: Callable[[Sequence[Case]], Figures]
    primary: str  # the metric that sorts phrases from worst to best


def as_array(found: Sequence[Box]) -> Array:
    """(N, 4) array of boxes, also of none."""
    return np.array(found, dtype=float).reshape(-1, 4)


def first_ious(cases: Sequence[Case]) -> Array:
    """(N,) IoU of the first box found with the first true box; 0 without a found box."""
    nothing = (0.0, 0.0, 0.0, 0.0)
    found = as_array([case.found[0].box if case.found else nothing for case in cases])
    return boxes.paired_iou(found, as_array([(case.phrase.boxes or [nothing])[0] for case in cases]))


def _single_box(cases: Sequence[Case]) -> Figures:
    overlap = first_ious(cases)
    return {"miou": mean_over(overlap), "acc@.5": mean_over((overlap >= 0.5).astype(float))}


def _pooled(cases: Sequence[Case]) -> Figures:
    parts = []
    for threshold in metrics.THRESHOLDS:
        pairs = [metrics.union_overlap(_at_least(case, threshold), case.true) for case in cases]
        both, either = np.array(pairs, dtype=float).reshape(-1, 2).T
        parts.append((both, either))
    return {"miou": Ratio(parts)}


def _at_least(case: Case, score: float) -> Array:
    return as_array([each.box for each in case.found if each.score >= score])


def _all_pairs(cases: Sequence[Case]) -> Figures:
    overlap = [metrics.all_pairs(case.boxes, case.true) for case in cases]
    return {"miou": mean_over(overlap), "ap@.5": ranked(cases, (0.5,))}


def _set(cases: Sequence[Case]) -> Figures:
    pairs = [(case.boxes, case.true) for case in cases]
    f1 = np.array([metrics.set_f1(found, true) for found, true in pairs])
    return {
        "setf1@.5": mean_over(f1),
        "coverage": mean_over([metrics.coverage(found, true) for found, true in pairs]),
        "union_iou": mean_over([metrics.union_iou(found, true) for found, true in pairs]),
        "precision@f1=1": mean_over((f1 == 1).astype(float)),
    }


def _coco(cases: Sequence[Case]) -> Figures:
    return {"ap@.5": ranked(cases, (0.5,)), "ap@.5:.95": ranked(cases, LEVELS)}


def ranked(cases: Sequence[Case], levels: Sequence[float]) -> Ranked:
    """Average precision of all boxes found, in one ranking by score, the mean over the IoU levels."""
    hits = [greedy_hits(case, levels) for case in cases]
    counts = [len(case.found) for case in cases]
    return Ranked(
        items=np.repeat(np.arange(len(cases)), counts),
        scores=np.array([each.score for case in cases for each in case.found], dtype=float),
        hits=np.concatenate([np.zeros((len(levels), 0), dtype=bool), *hits], axis=1),
        true=np.array([len(case.phrase.boxes or ()) for case in cases], dtype=float),
    )


def greedy_hits(case: Case, levels: Sequence[float]) -> NDArray[np.bool_]:
    """(K, F) which found boxes are hits: each, best score first, takes the free true box it overlaps most,
    if the IoU reaches the level. As in COCO, the last of equally good true boxes is taken.
    """
    hits = np.zeros((len(levels), len(case.found)), dtype=bool)
    if not len(case.found) or not case.phrase.boxes:
        return hits
    overlap = boxes.iou(case.boxes, case.true)
    order = np.argsort([-each.score for each in case.found], kind="stable")
    for k, level in enumerate(levels):
        free = overlap.copy()
        for f in order:
            best = free.shape[1] - 1 - int(np.argmax(free[f, ::-1]))
            if free[f, best] >= level:
                hits[k, f], free[:, best] = True, -1.0
    return hits


PROTOCOLS = {
    "single-box": Protocol(lambda phrase: len(phrase.boxes or ()) == 1, _single_box, "miou"),
    "pooled": Protocol(lambda phrase: bool(phrase.boxes), _pooled, "miou"),
    "all-pairs": Protocol(lambda phrase: bool(phrase.boxes), _all_pairs, "miou"),
    "set": Protocol(lambda phrase: phrase.boxes is not None, _set, "setf1@.5"),
    "coco": Protocol(lambda phrase: phrase.boxes is not None, _coco, "ap@.5"),
}
