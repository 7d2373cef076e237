"""The interface of protocols, and the protocols over phrases.

Six different figures are called mIoU on MS-CXR.

single-box  MedRPG, TransVG, AGP: phrases with one true box. Only the first predicted box counts, and no box
            is IoU 0. `miou` is the mean IoU, `acc@.5` the share with IoU >= .5.
pooled      ChEX: sum of intersections / sum of unions of the covered areas over all phrases, of the boxes
            with score >= t. `miou` is the mean over t = .1, ..., .5.
all-pairs   RadVLM: `miou` is the mean IoU over all pairs of a predicted and a true box of a phrase, then over
            phrases. (Correct predictions with several boxes are penalized.) `ap@.5` is that of coco.
set         MedGrounder, ClueGround: `coverage` is the mean over true boxes of the best IoU, `union_iou` that
            of the covered areas, `setf1@.5` F1 by the largest one-to-one matching at IoU >= .5, and
            `precision@f1=1` the share of phrases with F1 = 1. Phrases without a true box are scored too.
coco        `ap@.5` and `ap@.5:.95`, 101 recall levels: the boxes of a phrase compete as those of an image do
            in COCO. One ranking runs over a group. Category groups are classes, and macro is their mAP.

All areas are exact, in original pixels. A phrase without a predicted box is scored like any other.

Another package adds a protocol with one file and an entry point of the group "medground.protocols"
(`medground.registry`). Over phrases it is a `PhraseProtocol`; over other records, any `Protocol`.
"""

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from medground import boxes, registry
from medground.errors import MedgroundError
from medground.evaluation import metrics
from medground.evaluation.cases import Case, Cases, as_array
from medground.evaluation.phrases import PhraseData
from medground.evaluation.prepared import Kind
from medground.evaluation.report import pictures
from medground.evaluation.report.pictures import Galleries
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Figures, Measured
from medground.records import Phrase

__all__ = ["Case", "Cases", "Figures", "PhraseProtocol", "Protocol", "as_array"]


class Protocol(typing.Protocol):
    """A way to score one kind of predictions: its name, its figures and its pictures."""

    @property
    def name(self) -> str:
        """The protocol of the scores."""

    @property
    def takes(self) -> Kind:
        """The kind of predictions: each kind has a subclass of `prepared.Prepared`."""

    def measure(self, data: Any) -> Sequence[Measured]:
        """Return the figures of the prepared records, and their groups."""

    def galleries(self, data: Any) -> Galleries:
        """Return the function that makes the pictures of a page, given the folder of the images."""


@dataclass(frozen=True, slots=True)
class PhraseProtocol:
    """Figures over the phrases that `scores` accepts; `primary` is the metric that sorts the phrases.

    first_only: only the first predicted box of a phrase is shown. has_baselines: baselines predict boxes, so
    figures of `present` have none.
    """

    name: str
    scores: Callable[[Phrase], bool]
    figures: Callable[[Cases], Figures]
    primary: str
    first_only: bool = False
    has_baselines: bool = True
    takes: Kind = "phrases"

    def measure(self, data: PhraseData) -> Sequence[Measured]:
        """Return the figures, with the groups of `stats.groups`."""
        part = data.part(self.scores)
        train = data.train if self.has_baselines else None
        free = part.baseline(train, self.scores)
        placed = part.baseline(train, self.scores, data.lungs) if data.lungs is not None else None
        return [part.measured(self.name, self.figures, free, placed)]

    def galleries(self, data: PhraseData) -> Galleries:
        """Return the function that makes pictures of the best, median and worst phrases."""
        part = data.part(self.scores)
        return partial(pictures.galleries, part.own, part.other, self.first_only)


def first_ious(cases: Cases) -> Array:
    """Return the (N,) IoU of the first predicted box with the first true box; 0 without a predicted box."""
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
    """Return the (N,) size of the largest one-to-one matching of each case's boxes with IoU >= threshold."""
    ious, owner, _ = cases.pairs
    pairs = np.bincount(owner[ious >= threshold], minlength=len(cases))
    most = np.minimum(pairs, 1.0)
    for place in np.flatnonzero(np.minimum(np.minimum(cases.counts, cases.true_counts), pairs) > 1).tolist():
        most[place] = metrics.matched(cases.overlap(place) >= threshold)
    return most


def _coco(cases: Cases) -> Figures:
    return {"ap@.5": cases.ranked.at(0), "ap@.5:.95": cases.ranked}


SINGLE_BOX = PhraseProtocol("single-box", lambda p: len(p.boxes or ()) == 1, _single_box, "miou", True)
POOLED = PhraseProtocol("pooled", lambda phrase: bool(phrase.boxes), _pooled, "miou")
ALL_PAIRS = PhraseProtocol("all-pairs", lambda phrase: bool(phrase.boxes), _all_pairs, "miou")
SET = PhraseProtocol("set", lambda phrase: phrase.boxes is not None, _set, "setf1@.5")
COCO = PhraseProtocol("coco", lambda phrase: phrase.boxes is not None, _coco, "ap@.5")


def named(name: str) -> Protocol:
    """Return the protocol of this name in the registry; raise MedgroundError if its entry contradicts it."""
    entry = registry.PROTOCOLS[name]
    found: Protocol = entry.load()
    if found.takes != entry.reads:
        raise MedgroundError(f"{entry.target}: takes {found.takes}, but its entry reads {entry.reads}")
    return found
