"""The protocol `anatomy`: boxes of named regions against boxes that people drew.

An item is one region on one image of the truth; a region name that the truth never has is not scored.
miou          mean over true boxes of the IoU with the box found under the same name, 0 without one
recall@.5     share of true boxes whose IoU is >= .5
precision@.5  share of boxes found whose IoU is >= .5 (a box for a region that the image lacks is wrong)
ap@.5         average precision by score; the group `macro` is the mean over regions, elsewhere called mAP

consistent    share of the rules of anatomical sanity (`anatomy/consistency.toml`) that the boxes found keep,
              where all regions of a rule were found; groups `all`, `macro`, `rule:NAME`, n counts those
consistent_films  share of films whose boxes keep all of them; n counts films with boxes

Groups: `all`, `macro`, `region:NAME`; n counts true boxes. Letters: N items.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground import boxes, jsonl
from medground.anatomy import consistency
from medground.errors import BadRecord
from medground.evaluation import baseline
from medground.evaluation.protocols import Figures, as_array
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.average_precision import Ranked
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Measured
from medground.records import Anatomy, Box, Region

log = logging.getLogger(__name__)
NOTHING = (0.0, 0.0, 0.0, 0.0)
Answers = dict[str, Anatomy]  # by image_id


@dataclass(frozen=True, slots=True)
class Cells:
    """Boxes of N items: (N, 4), zeros where there is none; scores: (N,)."""

    boxes: Array
    there: NDArray[np.bool_]
    scores: Array


def read_truth(stream: Any, bad_lines: jsonl.BadLines) -> list[Anatomy]:
    """The images with their true regions; an image that comes twice is a bad line."""
    seen = set[str]()
    return list(jsonl.read(stream, Anatomy, bad_lines, lambda anatomy: _once(anatomy, seen)))


def read_answers(stream: Any, bad_lines: jsonl.BadLines, truth: Sequence[Anatomy]) -> Answers:
    """What was found on the images of the truth, by image_id; other images are passed over with a warning.

    An image that comes twice, or in another size than the truth has it, is a bad line.
    """
    seen, sizes = set[str](), {each.image_id: (each.width, each.height) for each in truth}

    def check(anatomy: Anatomy) -> None:
        _once(anatomy, seen)
        if (anatomy.width, anatomy.height) != sizes.get(anatomy.image_id, (anatomy.width, anatomy.height)):
            raise BadRecord("the truth has this image in another size: are the boxes in its pixels?", "width")

    found = {each.image_id: each for each in jsonl.read(stream, Anatomy, bad_lines, check)}
    source = jsonl.name_of(stream)
    if unknown := len(found.keys() - sizes.keys()):
        log.warning("%s: passed over %d images that the truth does not have", source, unknown)
    if missing := len(sizes.keys() - found.keys()):
        log.warning("%s: no answer for %d of %d images; they count as empty", source, missing, len(truth))
    return found


def _once(anatomy: Anatomy, seen: set[str]) -> None:
    if anatomy.image_id in seen:
        raise BadRecord("the second line with this image", "image_id")
    seen.add(anatomy.image_id)
    if len({region.name for region in anatomy.regions}) < len(anatomy.regions):
        raise BadRecord("a region comes twice", "regions")


def measure(
    truth: Sequence[Anatomy], own: Answers, train: Sequence[Anatomy] | None, other: Answers | None
) -> Measured:
    """What each answer, and the prior of the training images, gets right on every region of the truth."""
    names = sorted({region.name for anatomy in truth for region in anatomy.regions})
    true = _cells((anatomy.regions for anatomy in truth), truth, names)
    parted = groups.of_names("region", names * len(truth))
    return Measured(
        protocol="anatomy",
        groups=parted,
        owners=np.repeat(scoring.clusters(truth), len(names)),
        counts=[int(true.there[mask].sum()) for mask in parted.masks],
        own=_figures(_answered(own, truth, names), true),
        prior=None if train is None else _figures(_prior_cells(train, truth, names), true),
        other=None if other is None else _figures(_answered(other, truth, names), true),
    )


def measure_sanity(
    truth: Sequence[Anatomy], own: Answers, other: Answers | None
) -> tuple[Measured, Measured]:
    """What share of the rules the answers keep, and on what share of films all of them."""
    mine, theirs = _kept(truth, own), None if other is None else _kept(truth, other)
    some = np.asarray(~np.isnan(mine).all(axis=0))  # a rule that is never asked has no line
    names = [rule.name for rule, asked in zip(consistency.rules(), some, strict=True) if asked]
    owners, by_rule = scoring.clusters(truth), groups.of_names("rule", names * len(truth))
    asked = ~np.isnan(mine[:, some].ravel())
    rules = Measured(
        protocol="anatomy",
        groups=by_rule,
        owners=np.repeat(owners, len(names)),
        counts=[int(asked[mask].sum()) for mask in by_rule.masks],
        own={"consistent": mean_over(mine[:, some].ravel())},
        other=None if theirs is None else {"consistent": mean_over(theirs[:, some].ravel())},
    )
    films = Measured(
        protocol="anatomy",
        groups=groups.build([], len(truth), "-"),
        owners=owners,
        counts=[int((~np.isnan(mine)).any(axis=1).sum())],
        own={"consistent_films": mean_over(_of_films(mine))},
        other=None if theirs is None else {"consistent_films": mean_over(_of_films(theirs))},
    )
    return rules, films


def _kept(truth: Sequence[Anatomy], answers: Answers) -> Array:
    """(images, rules): 1 where the boxes keep the rule, 0 where they break it, NaN where it is not asked."""
    rules, rows = consistency.rules(), []
    for anatomy in truth:
        found = answers[anatomy.image_id].regions if anatomy.image_id in answers else []
        box_of = {region.name: region.box for region in found}
        said = [rule.holds(box_of) for rule in rules]
        rows.append([np.nan if each is None else float(each) for each in said])
    return np.array(rows, dtype=float).reshape(len(truth), len(rules))


def _of_films(kept: Array) -> Array:
    """(images,) 1 where no rule is broken, 0 where one is, NaN where none is asked."""
    asked = ~np.isnan(kept).all(axis=1)
    return np.where(asked, (kept != 0).all(axis=1).astype(float), np.nan)


def _answered(answers: Answers, truth: Sequence[Anatomy], names: Sequence[str]) -> Cells:
    found = (answers[each.image_id].regions if each.image_id in answers else [] for each in truth)
    return _cells(found, truth, names)


def _prior_cells(train: Sequence[Anatomy], truth: Sequence[Anatomy], names: Sequence[str]) -> Cells:
    """The training medoid of every region on every image."""
    fitted = baseline.fit_anatomies(train)
    sized = {(each.width, each.height) for each in truth}
    answer = {
        (w, h): [Region(name=name, box=fitted.answer((name,), w, h)) for name in names] for w, h in sized
    }
    return _cells((answer[each.width, each.height] for each in truth), truth, names)


def _cells(found: Iterable[Sequence[Region]], truth: Sequence[Anatomy], names: Sequence[str]) -> Cells:
    """One item for each image and name, image by image; boxes are clipped to the image."""
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
    hit, drawn = (overlap >= 0.5).astype(float), true.there.astype(float)
    items = np.flatnonzero(found.there)
    return {
        "ap@.5": Ranked(items, found.scores[items], hit[None, items] > 0, drawn),
        "miou": Ratio([(overlap, drawn)]),
        "recall@.5": Ratio([(hit, drawn)]),
        "precision@.5": Ratio([(hit, found.there.astype(float))]),
    }
