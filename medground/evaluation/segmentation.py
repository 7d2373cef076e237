"""The protocol `segmentation`: predicted masks against true masks of the same size.

An item is one class on one image of the truth. P and T are the predicted and the true pixels.
dice           mean of 2 |P and T| / (|P| + |T|); of an empty true mask 1 if P is empty, else 0 (MGCA)
dice_positive  the same over true masks with a pixel
empty          share of empty true masks whose P is empty
mdice          mean of the Dice of class and background, of pixels pooled over images (BenchX)

With many empty masks, `dice` is mostly `empty`. Runs of one share of the labels are averaged; a share below 1
is part of the name, as in `dice@10%`. Intervals are over draws of patients. Groups: `all`, `macro`,
`class:NAME`. Letters: N items, R runs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medground import registry, run_lengths
from medground.errors import BadRecord
from medground.evaluation import sources
from medground.evaluation.image_facts import agreeing
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.report.pictures import Galleries, no_galleries
from medground.evaluation.runs import Run, by_run, matched, of_shares, run_of
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Figures, Measured
from medground.mask_records import Key, check, key_of, pixels
from medground.records import Mask

Runs = Mapping[Run, Mapping[Key, Mask]]  # the masks of each run


@dataclass(kw_only=True)
class MaskData(Prepared):
    """True masks, and those of the runs of a model and of another one."""

    scored: Sequence[Mask]
    train: Sequence[Mask] | None = None
    own: Runs
    other: Runs | None = None


def prepare(
    predictions: Iterable[Mask],
    truth: Iterable[Mask],
    train: Iterable[Mask] | None,
    compare: Iterable[Mask] | None,
    split: str | None,
) -> MaskData:
    """Return the masks of the split with those predicted for them.

    Raises MedgroundError for a mask without a prediction.
    """
    known = sources.checked(truth, "truth", check_truth())
    scored = sources.of_split(known, split, sources.name_of(truth, "truth"), "mask")
    own = sources.checked(predictions, "predictions", check_prediction(known))
    other = None if compare is None else sources.checked(compare, "compare", check_prediction(known))
    return MaskData(
        scored=scored,
        train=None if train is None else sources.checked(train, "train", check_truth()),
        elsewhere=sources.outside(known, split),
        own=_runs(own, scored, sources.name_of(predictions, "predictions")),
        other=None if other is None else _runs(other, scored, sources.name_of(compare, "compare")),
        predictions=own,
        compared=other or [],
        rules=sources.rules(scored, split),
    )


def _runs(found: Iterable[Mask], scored: Sequence[Mask], source: str) -> Runs:
    keyed = ((key_of(each), each) for each in found)
    return by_run(keyed, [key_of(each) for each in scored], source, "masks")


def check_truth() -> Callable[[Mask], None]:
    """Return a check that raises BadRecord for a second mask, and for run lengths that do not fill it."""
    return agreeing(check())


def check_prediction(truth: Sequence[Mask]) -> Callable[[Mask], None]:
    """Return a check that raises BadRecord for a mask that the truth lacks, or has in another size.

    So does a second mask of one class, image and run, and run lengths that do not fill the mask.
    """
    sizes, seen = {key_of(each): (each.width, each.height) for each in truth}, set[tuple[Key, Run]]()

    def check(mask: Mask) -> None:
        if key_of(mask) not in sizes:
            raise BadRecord("the truth has no mask of this class on this image", "category")
        if (mask.width, mask.height) != sizes[key_of(mask)]:
            raise BadRecord("the truth has this mask in another size; resize the prediction", "width")
        key = key_of(mask), run_of(mask)
        if key in seen:
            raise BadRecord("the second mask of this class on this image, share and seed", "category")
        seen.add(key)
        pixels(mask)

    return agreeing(check, truth)


@dataclass(frozen=True, slots=True)
class SegmentationProtocol:
    """The protocol: overlaps of masks, by class."""

    name: str = "segmentation"
    takes: Kind = registry.PROTOCOLS["segmentation"].reads

    def measure(self, data: MaskData) -> Sequence[Measured]:
        """Return the figures over the masks of the truth."""
        parted = groups.of_names("class", [each.category for each in data.scored])
        measured = Measured(
            protocol=self.name,
            groups=parted,
            owners=scoring.clusters(data.scored),
            counts=parted.counts,
            own=_figures(data.own, data.scored),
            other=None if data.other is None else _figures(data.other, data.scored),
        )
        return [matched(measured)]

    def galleries(self, data: MaskData) -> Galleries:
        """Return no pictures."""
        return no_galleries


SEGMENTATION = SegmentationProtocol()


def _figures(runs: Runs, scored: Sequence[Mask]) -> Figures:
    """Return the figures of each share, over its seeds."""
    found: dict[str, scoring.Bindable] = {}
    for end, own in of_shares(runs).items():
        counted = np.zeros((len(own), len(scored), 4))
        for n, each in enumerate(scored):
            true = pixels(each)
            counted[:, n] = [_counts(pixels(run[key_of(each)]), true) for run in own]
        found |= {f"{name}{end}": each for name, each in _of_counts(counted).items()}
    return found


def _of_counts(counted: Array) -> Figures:
    """Return the figures of (R, N, 4): the `_counts` of N masks in each of R runs."""
    both, predicted, true, whole = np.moveaxis(counted, 2, 0)
    positive = true > 0
    overlap = np.divide(2 * both, predicted + true, out=np.ones(true.shape), where=predicted + true > 0)
    neither = whole - predicted - true + both
    parts = zip(2 * both, predicted + true, 2 * neither, 2 * whole - predicted - true, strict=True)
    return {
        "dice": mean_over(overlap.mean(axis=0)),
        "dice_positive": mean_over(np.where(positive, overlap, np.nan).mean(axis=0)),
        "empty": mean_over(np.where(positive, np.nan, predicted == 0).mean(axis=0)),
        "mdice": Ratio([pair for a, b, c, d in parts for pair in ((a, b), (c, d))]),
    }


def _counts(found: run_lengths.Mask, true: run_lengths.Mask) -> tuple[int, int, int, int]:
    """Return the pixels of both, of the prediction, of the truth and of the image."""
    return int((found & true).sum()), int(found.sum()), int(true.sum()), true.size
