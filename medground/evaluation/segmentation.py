"""The protocol `segmentation`: predicted masks against true masks of the same size.

An item is one class on one image of the truth. P and T are the predicted and the true pixels.
dice           mean of 2 |P and T| / (|P| + |T|); of an empty true mask 1 if P is empty, else 0 (MGCA)
dice_positive  the same over true masks with a pixel
empty          share of empty true masks whose P is empty
mdice          mean of the Dice of class and background, of pixels pooled over images (BenchX)

With many empty masks, `dice` is mostly `empty`. Groups: `all`, `macro`, `class:NAME`. Letters: N items.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medground import published, registry, run_lengths
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import sources
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.report.pictures import Galleries, no_galleries
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Figures, Measured
from medground.records import Mask

Key = tuple[str, str]
Found = Mapping[Key, Mask]


@dataclass(kw_only=True)
class MaskData(Prepared):
    """True masks, and those predicted by a model and by another one."""

    scored: Sequence[Mask]
    train: Sequence[Mask] | None = None
    own: Found
    other: Found | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)

    def models(self) -> set[str]:
        """Return the hashes of the models that made the predictions, if they are known."""
        return {str(each.extra["model"]) for each in self.own.values() if each.extra.get("model")}

    def about(self) -> dict[str, Any]:
        """Return the split and the rule that made it."""
        return dict(self.rules)


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
    source = sources.name_of(truth, "truth")
    known = sources.checked(truth, "truth", check_truth())
    scored = [each for each in known if split is None or each.split == split]
    if known and not scored:
        there = published.splits_shown({each.split for each in known})
        raise MedgroundError(f"{source}: split: no mask is of {split}; it has {there or 'no splits'}")
    names = {each.split_by for each in scored if each.split_by}
    rules = {"split": split} if split else {}
    return MaskData(
        scored=scored,
        train=None if train is None else sources.checked(train, "train", check_truth()),
        elsewhere=[each for each in known if split is not None and each.split != split],
        own=_found(predictions, "predictions", known, scored),
        other=None if compare is None else _found(compare, "compare", known, scored),
        rules=rules | ({"split_by": "; ".join(sorted(names))} if names else {}),
    )


def _found(records: Iterable[Mask], default: str, known: Sequence[Mask], scored: Sequence[Mask]) -> Found:
    found = {key_of(each): each for each in sources.checked(records, default, check_prediction(known))}
    if missing := sum(key_of(each) not in found for each in scored):
        source = sources.name_of(records, default)
        raise MedgroundError(f"{source}: no prediction for {missing} of {len(scored)} scored masks")
    return found


def key_of(mask: Mask) -> Key:
    """Return the image and the class of a mask."""
    return mask.image_id, mask.category


def check_truth() -> Callable[[Mask], None]:
    """Return a check that raises BadRecord for a second mask, and for run lengths that do not fill it."""
    seen: set[Key] = set()

    def check(mask: Mask) -> None:
        if key_of(mask) in seen:
            raise BadRecord("the second mask of this class on this image", "category")
        seen.add(key_of(mask))
        pixels(mask)

    return check


def check_prediction(truth: Iterable[Mask]) -> Callable[[Mask], None]:
    """Return a check that also raises BadRecord for a mask that the truth lacks or has in another size."""
    sizes, once = {key_of(each): (each.width, each.height) for each in truth}, check_truth()

    def check(mask: Mask) -> None:
        if key_of(mask) not in sizes:
            raise BadRecord("the truth has no mask of this class on this image", "category")
        if (mask.width, mask.height) != sizes[key_of(mask)]:
            raise BadRecord("the truth has this mask in another size; resize the prediction", "width")
        once(mask)

    return check


def pixels(mask: Mask) -> run_lengths.Mask:
    """Return the (H, W) mask of a record; raise BadRecord if its run lengths do not fill it."""
    try:
        return run_lengths.mask_of((mask.height, mask.width), mask.counts)
    except ValueError:
        raise BadRecord("expected COCO's run lengths of height x width pixels", "counts") from None


@dataclass(frozen=True, slots=True)
class SegmentationProtocol:
    """The protocol: overlaps of masks, by class."""

    name: str = "segmentation"
    takes: Kind = registry.PROTOCOLS["segmentation"].reads

    def measure(self, data: MaskData) -> Sequence[Measured]:
        """Return the figures over the masks of the truth."""
        parted = groups.of_names("class", [each.category for each in data.scored])
        return [
            Measured(
                protocol=self.name,
                groups=parted,
                owners=scoring.clusters(data.scored),
                counts=parted.counts,
                own=_figures(data.own, data.scored),
                other=None if data.other is None else _figures(data.other, data.scored),
            )
        ]

    def galleries(self, data: MaskData) -> Galleries:
        """Return no pictures."""
        return no_galleries


SEGMENTATION = SegmentationProtocol()


def _figures(found: Found, scored: Sequence[Mask]) -> Figures:
    counted = [_counts(pixels(found[key_of(each)]), pixels(each)) for each in scored]
    both, predicted, true, whole = np.array(counted, dtype=float).reshape(-1, 4).T
    positive = true > 0
    overlap = np.divide(2 * both, predicted + true, out=np.ones(len(true)), where=predicted + true > 0)
    neither = whole - predicted - true + both
    background: tuple[Array, Array] = (2 * neither, 2 * whole - predicted - true)
    return {
        "dice": mean_over(overlap),
        "dice_positive": mean_over(np.where(positive, overlap, np.nan)),
        "empty": mean_over(np.where(positive, np.nan, predicted == 0)),
        "mdice": Ratio([(2 * both, predicted + true), background]),
    }


def _counts(found: run_lengths.Mask, true: run_lengths.Mask) -> tuple[int, int, int, int]:
    """Return the pixels of both, of the prediction, of the truth and of the image."""
    return int((found & true).sum()), int(found.sum()), int(true.sum()), true.size
