"""The protocol `anatomy`: predicted boxes of named regions against annotated boxes.

An item is one region on one image of the truth. A region name that the truth never has is not scored.
miou          mean over true boxes of the IoU with the predicted box of the same name, 0 without one
recall@.5     share of true boxes whose IoU is >= .5
precision@.5  share of predicted boxes whose IoU is >= .5 (a box for a region that the image lacks is wrong)
ap@.5         average precision by score; the group `macro` is the mean over regions, elsewhere called mAP

consistent        share of the rules of anatomical sanity (`anatomy/consistency.toml`) that the predicted
                  boxes satisfy; a rule counts if all its regions were predicted (n counts these), with the
                  groups `all`, `macro`, `rule:NAME`
consistent_images  share of images whose boxes satisfy all these rules; n counts images with such a rule

Groups: `all`, `macro`, `region:NAME`; n counts true boxes. Letters: N items.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medground import boxes, registry
from medground.anatomy import consistency
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import baseline, sources
from medground.evaluation.cases import as_array
from medground.evaluation.image_facts import agreeing
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.report import anatomy_pictures
from medground.evaluation.report.pictures import Galleries
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.average_precision import Ranked
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Figures, Measured
from medground.records import Anatomy, Box, Region

log = logging.getLogger(__name__)
NOTHING = (0.0, 0.0, 0.0, 0.0)
Found = dict[str, Anatomy]  # by image_id


@dataclass(frozen=True, slots=True)
class Cells:
    """Boxes of N items: (N, 4), zeros for none; scores: (N,)."""

    boxes: Array
    there: NDArray[np.bool_]
    scores: Array


@dataclass(kw_only=True)
class AnatomyData(Prepared):
    """Images with their true regions, and the regions predicted by a model and by another one."""

    scored: Sequence[Anatomy]
    train: Sequence[Anatomy] | None = None
    own: Found
    other: Found | None = None


def prepare(
    predictions: Iterable[Anatomy],
    truth: Iterable[Anatomy],
    train: Iterable[Anatomy] | None,
    compare: Iterable[Anatomy] | None,
    split: str | None,
) -> AnatomyData:
    """Return the images with the predictions for them. Raises MedgroundError for records that do not fit."""
    if split is not None:
        raise MedgroundError("the protocol anatomy takes no split: Anatomy records have none")
    scored = sources.checked(truth, "truth", check_truth())
    return AnatomyData(
        scored=scored,
        train=None if train is None else sources.checked(train, "train", check_truth()),
        own=_found(predictions, "predictions", scored),
        other=None if compare is None else _found(compare, "compare", scored),
    )


def _found(records: Iterable[Anatomy], default: str, truth: Sequence[Anatomy]) -> Found:
    """Return the records of images of the truth by image_id; warn of other images, and of missing ones."""
    source, known = sources.name_of(records, default), {each.image_id for each in truth}
    checked = sources.checked(records, default, check_prediction(truth))
    found = {each.image_id: each for each in checked}
    if unknown := len(found.keys() - known):
        log.warning("%s: skipped %d images that the truth does not have", source, unknown)
    if missing := len(known - found.keys()):
        log.warning(
            "%s: no prediction for %d of %d images; they count as no box", source, missing, len(truth)
        )
    return found


def check_truth() -> Callable[[Anatomy], None]:
    """Return a check that raises BadRecord for a second record of an image, and for a repeated region."""
    return agreeing(partial(_once, seen=set()))


def check_prediction(truth: Iterable[Anatomy]) -> Callable[[Anatomy], None]:
    """Return a check that also raises BadRecord for another patient or size of the image in the truth."""
    return agreeing(partial(_once, seen=set()), truth)


def _once(anatomy: Anatomy, seen: set[str]) -> None:
    if anatomy.image_id in seen:
        raise BadRecord("the second line with this image", "image_id")
    seen.add(anatomy.image_id)
    if len({region.name for region in anatomy.regions}) < len(anatomy.regions):
        raise BadRecord("a region comes twice", "regions")


@dataclass(frozen=True, slots=True)
class AnatomyProtocol:
    """The protocol: figures of named regions and of anatomical sanity."""

    name: str = "anatomy"
    takes: Kind = registry.PROTOCOLS["anatomy"].reads

    def measure(self, data: AnatomyData) -> Sequence[Measured]:
        """Return the figures over regions, over rules and over images."""
        regions = measure(data.scored, data.own, data.train, data.other)
        return [regions, *measure_sanity(data.scored, data.own, data.other)]

    def galleries(self, data: AnatomyData) -> Galleries:
        """Return the functions that make pictures of the images with the worst regions."""
        return partial(
            anatomy_pictures.galleries, anatomy_pictures.images_of(data.scored, data.own, data.other)
        )


ANATOMY = AnatomyProtocol()


def measure(
    truth: Sequence[Anatomy], own: Found, train: Sequence[Anatomy] | None, other: Found | None
) -> Measured:
    """Return the figures over the regions of the truth: both models' and the image-free baseline's."""
    names = sorted({region.name for anatomy in truth for region in anatomy.regions})
    true = _cells((anatomy.regions for anatomy in truth), truth, names)
    parted = groups.of_names("region", names * len(truth))
    return Measured(
        protocol="anatomy",
        groups=parted,
        owners=np.repeat(scoring.clusters(truth), len(names)),
        counts=[int(true.there[mask].sum()) for mask in parted.masks],
        own=_figures(_predicted(own, truth, names), true),
        prior=None if train is None else _figures(_baseline_cells(train, truth, names), true),
        other=None if other is None else _figures(_predicted(other, truth, names), true),
    )


def measure_sanity(truth: Sequence[Anatomy], own: Found, other: Found | None) -> tuple[Measured, Measured]:
    """Return the share of satisfied rules, and the share of images with all rules satisfied."""
    mine, theirs = _kept(truth, own), None if other is None else _kept(truth, other)
    some = np.asarray(~np.isnan(mine).all(axis=0))  # a rule that never applies has no row
    names = [rule.name for rule, applies in zip(consistency.rules(), some, strict=True) if applies]
    owners, by_rule = scoring.clusters(truth), groups.of_names("rule", names * len(truth))
    applied = ~np.isnan(mine[:, some].ravel())
    rules = Measured(
        protocol="anatomy",
        groups=by_rule,
        owners=np.repeat(owners, len(names)),
        counts=[int(applied[mask].sum()) for mask in by_rule.masks],
        own={"consistent": mean_over(mine[:, some].ravel())},
        other=None if theirs is None else {"consistent": mean_over(theirs[:, some].ravel())},
    )
    images = Measured(
        protocol="anatomy",
        groups=groups.build([], len(truth), "-"),
        owners=owners,
        counts=[int((~np.isnan(mine)).any(axis=1).sum())],
        own={"consistent_images": mean_over(_of_images(mine))},
        other=None if theirs is None else {"consistent_images": mean_over(_of_images(theirs))},
    )
    return rules, images


def _kept(truth: Sequence[Anatomy], found: Found) -> Array:
    """Return (images, rules): 1 if the boxes satisfy the rule, 0 if not, NaN if it does not apply."""
    rules, rows = consistency.rules(), []
    for anatomy in truth:
        regions = found[anatomy.image_id].regions if anatomy.image_id in found else []
        box_of = {region.name: region.box for region in regions}
        held = [rule.holds(box_of) for rule in rules]
        rows.append([np.nan if each is None else float(each) for each in held])
    return np.array(rows, dtype=float).reshape(len(truth), len(rules))


def _of_images(kept: Array) -> Array:
    """Return (images,): 1 if all rules that apply are satisfied, 0 if not, NaN if none applies."""
    applied = ~np.isnan(kept).all(axis=1)
    return np.where(applied, (kept != 0).all(axis=1).astype(float), np.nan)


def _predicted(found: Found, truth: Sequence[Anatomy], names: Sequence[str]) -> Cells:
    regions = (found[each.image_id].regions if each.image_id in found else [] for each in truth)
    return _cells(regions, truth, names)


def _baseline_cells(train: Sequence[Anatomy], truth: Sequence[Anatomy], names: Sequence[str]) -> Cells:
    """Return the training medoid of every region on every image."""
    fitted = baseline.fit_anatomies(train)
    sized = {(each.width, each.height) for each in truth}
    guess = {
        (w, h): [Region(name=name, box=fitted.answer((name,), w, h)) for name in names] for w, h in sized
    }
    return _cells((guess[each.width, each.height] for each in truth), truth, names)


def _cells(found: Iterable[Sequence[Region]], truth: Sequence[Anatomy], names: Sequence[str]) -> Cells:
    """Return one item for each image and name, image by image, with boxes clipped to the image."""
    rows: list[Box] = []
    scores: list[float] = []
    for regions, anatomy in zip(found, truth, strict=True):
        of_name = {region.name: region for region in regions}
        for name in names:
            region = of_name.get(name)
            inside = boxes.clip(region.box, anatomy.width, anatomy.height) if region else None
            rows.append(inside or NOTHING)
            scores.append(region.score if region and inside else 0.0)
    array = as_array(rows)
    return Cells(array, boxes.area(array) > 0, np.array(scores, dtype=float))


def _figures(found: Cells, true: Cells) -> Figures:
    overlap = boxes.paired_iou(found.boxes, true.boxes)
    hit, wanted = (overlap >= 0.5).astype(float), true.there.astype(float)
    items = np.flatnonzero(found.there)
    return {
        "ap@.5": Ranked(items, found.scores[items], hit[None, items] > 0, wanted),
        "miou": Ratio([(overlap, wanted)]),
        "recall@.5": Ratio([(hit, wanted)]),
        "precision@.5": Ratio([(hit, found.there.astype(float))]),
    }
