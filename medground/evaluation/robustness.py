"""Robustness: how far predictions change if the image or the phrase is perturbed.

`unchanged`        the phrase on its image, without a perturbation
`blank image`      the phrase on an even image of the same size: only the text can inform the prediction
`mirrored image`   the phrase on its image flipped left-right: boxes should follow the image
`other patient`    the phrase on the next image of another patient, with boxes scaled to this image
`foreign phrase`   a phrase of another patient, of a category that no phrase of this image has. Only `absent`
                   is measured, and should be high. (The finding may be present but unreported.)
`other side`       left and right swapped in the phrase: the box should change its side
`negated`          "no ..." before the phrase: `present` should fall
`synonym`          another name for the finding: nothing should change
`held-out negation`, `held-out synonym`
                   the same with phrasings that fine-tuning never generates. `finetune --negative-prob` and
                   `--paraphrases` may generate those of `negated` and `synonym`.

Flipped images have two more rows. One is of phrases that name one side, which the flip contradicts; the
other is of the rest. All figures are over phrases. A phrase that a perturbation cannot change (for example,
one without a side) is left out. IoU is that of the areas that all boxes cover.
`miou`             IoU with the truth; on the flipped image, with the flipped truth
`prior_miou`       IoU of the image-free baseline with the truth, for `unchanged` and `blank image`
`same`             IoU with the original prediction
`same_mirrored`    IoU with the flipped original prediction: 1 if the boxes follow a flipped image
`changed_side`     share of predictions whose center is in the other half of the image than originally
`absent`           share of predictions with `present` below .5
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

from medground import leakage
from medground.errors import MedgroundError
from medground.evaluation import metrics, wordings
from medground.evaluation.cases import as_array
from medground.evaluation.stats import scoring
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import mean_over
from medground.evaluation.stats.groups import Groups
from medground.evaluation.stats.scoring import Measured
from medground.records import Box, Grounding, Phrase
from medground.reports import laterality, negation

Image = NDArray[np.float32]  # (H, W) in [0, 1]
Query = tuple[str, Phrase, str]  # perturbation, phrase, text
Load = Callable[[str], Image]
Ground = Callable[[list[Phrase], Image], list[Grounding]]  # boxes in pixels of this image

UNCHANGED, BLANK, MIRRORED, OTHER = "unchanged", "blank image", "mirrored image", "other patient"
FOREIGN = "foreign phrase"
WORDINGS: dict[str, Callable[[str], str | None]] = {
    "other side": laterality.swap,
    "negated": negation.negate,
    "synonym": wordings.synonym,
    "held-out negation": negation.negate_held_out,
    "held-out synonym": wordings.new_synonym,
}
PROBES = (UNCHANGED, BLANK, MIRRORED, OTHER, FOREIGN, *WORDINGS)
WITH_BOX = tuple(name for name in PROBES if name != FOREIGN)  # the true box of the phrase is known
NEARBY = 50  # images that foreign phrases are taken from
SIDED, SIDELESS = f"{MIRRORED}, side named", f"{MIRRORED}, no side"
PRESENT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Perturbed:
    """A prediction for a perturbed input: (F, 4) boxes in pixels of the phrase's own image, and `present`.

    size: the image's (width, height). shown: the path of the input image. text: the input text. model: the
    model's hash.
    """

    phrase: Phrase
    probe: str
    shown: str
    text: str
    size: tuple[int, int]
    boxes: Array
    present: float
    model: str


def probe(phrases: Iterable[Phrase], load: Load, ground: Ground) -> Iterator[Perturbed]:
    """Yield the predictions under each perturbation, image by image.

    Phrases of one image must follow one another. `ground` is called once for each input image.
    """
    groups = [list(group) for _, group in groupby(phrases, key=lambda phrase: phrase.path)]
    for number, group in enumerate(groups):
        path, other = group[0].path, _other_patient(groups, number)
        image = load(path)
        height, width = image.shape
        _refuse_other_size(group, width, height)

        def predict(queries: Sequence[Query], shown: Image, path: str = path) -> Iterator[Perturbed]:
            return _predicted(queries, path, shown, (width, height), ground)  # noqa: B023  (used up before the next)

        foreign = [(FOREIGN, group[0], text) for text in _foreign(groups, number)]
        yield from predict([(UNCHANGED, e, e.text) for e in group] + foreign + list(_reworded(group)), image)
        yield from predict([(BLANK, each, each.text) for each in group], np.zeros_like(image))
        yield from predict([(MIRRORED, each, each.text) for each in group], mirrored(image))
        if other:
            yield from predict([(OTHER, each, each.text) for each in group], load(other), other)


def _reworded(group: Sequence[Phrase]) -> Iterator[Query]:
    for name, change in WORDINGS.items():
        for phrase in group:
            if (text := change(phrase.text)) is not None:
                yield name, phrase, text


def _predicted(
    queries: Sequence[Query], path: str, image: Image, size: tuple[int, int], ground: Ground
) -> Iterator[Perturbed]:
    """Yield the predictions on one image, with boxes scaled to an image of this size."""
    texts = [
        replace(phrase, text=text, width=image.shape[1], height=image.shape[0]) for _, phrase, text in queries
    ]
    scale = np.tile([size[0] / image.shape[1], size[1] / image.shape[0]], 2)
    for (name, phrase, text), found in zip(queries, ground(texts, image), strict=True):
        boxes = as_array([each.box for each in found.boxes]) * scale
        yield Perturbed(phrase, name, path, text, size, boxes, found.present, found.model)


def mirrored(image: Image) -> Image:
    """Return the image flipped left-right."""
    return np.ascontiguousarray(image[:, ::-1])


def mirrored_boxes(boxes: Array, width: float) -> Array:
    """Return (F, 4) boxes on the left-right flipped image of this width; twice gives the boxes again."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _refuse_other_size(group: Sequence[Phrase], width: int, height: int) -> None:
    for phrase in group:
        if (phrase.width or width, phrase.height or height) != (width, height):
            raise MedgroundError(
                f"{phrase.path}: boxes of a phrase are for {phrase.width} x {phrase.height} pixels, "
                f"the image has {width} x {height}; give the images that the boxes were annotated on"
            )


def _other_patient(groups: Sequence[Sequence[Phrase]], number: int) -> str | None:
    """Return the path of the next image of another patient, None if there is none."""
    return next((group[0].path for group in _others(groups, number)), None)


def _others(groups: Sequence[Sequence[Phrase]], number: int) -> Iterator[Sequence[Phrase]]:
    """Yield the phrases of each image that is of another patient, from the next image on."""
    own = groups[number][0]
    for step in range(1, len(groups)):
        group = groups[(number + step) % len(groups)]
        if _patient(group[0]) != _patient(own):
            yield group


def _patient(phrase: Phrase) -> str:
    return leakage.bare(phrase.subject_id) if phrase.subject_id else phrase.image_id


def _foreign(groups: Sequence[Sequence[Phrase]], number: int) -> list[str]:
    """Return phrases of other patients, of categories that no phrase of this image has.

    They are as many as the image has, if enough are nearby. An image with a phrase without a category gets
    none.
    """
    own = groups[number]
    if any(each.category is None for each in own):
        return []
    here = {each.category for each in own}
    nearby = islice(_others(groups, number), NEARBY)
    found = (each.text for group in nearby for each in group if each.category and each.category not in here)
    return list(islice(dict.fromkeys(found), len(own)))


def measure(found: Sequence[Perturbed], guess: Callable[[Phrase, int, int], Box] | None = None) -> Measured:
    """Return the figures of each perturbation, as groups `probe:NAME`.

    guess: the image-free baseline's box for a phrase, given the width and height of its image.
    """
    unchanged = {id(each.phrase): each for each in found if each.probe == UNCHANGED}
    first = [unchanged[id(each.phrase)] for each in found]
    own = {
        "miou": mean_over(_where(_ious(found, [truth_of(each) for each in found]), found, WITH_BOX)),
        "same": mean_over(_where(_ious(found, [each.boxes for each in first]), found, WITH_BOX[1:])),
        "same_mirrored": mean_over(_where(_ious(found, _flipped(first)), found, (MIRRORED,))),
        "changed_side": mean_over(_changed(found, first)),
        "absent": mean_over(np.array([each.present < PRESENT for each in found], dtype=float)),
    }
    if guess is not None:
        guesses = [as_array([guess(each.phrase, *each.size)]) for each in found]
        guessed = _ious([replace(a, boxes=b) for a, b in zip(found, guesses, strict=True)], _truths(found))
        own["prior_miou"] = mean_over(_where(guessed, found, (UNCHANGED, BLANK)))
    grouped = _grouped(found)
    owners = scoring.clusters([each.phrase for each in found])
    return Measured("probes", grouped, owners, grouped.counts, own, keeps_empty=False)


def _grouped(found: Sequence[Perturbed]) -> Groups:
    """Return a group for each perturbation in use; the two parts of the flipped image follow it."""
    of_probe = {name: np.array([each.probe == name for each in found], dtype=bool) for name in PROBES}
    sided = np.array(
        [laterality.side_of(each.phrase.text) in ("left", "right") for each in found], dtype=bool
    )
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, mask in of_probe.items():
        masks[name] = mask
        if name == MIRRORED:
            masks |= {SIDED: mask & sided, SIDELESS: mask & ~sided}
    kept = {f"probe:{name}": mask for name, mask in masks.items() if mask.any()}
    return Groups(list(kept), np.array(list(kept.values())).reshape(len(kept), len(found)), [])


def _truths(found: Sequence[Perturbed]) -> list[Array]:
    return [as_array(each.phrase.boxes or ()) for each in found]


def truth_of(found: Perturbed) -> Array:
    """Return the (T, 4) true boxes, flipped on the flipped image."""
    true = as_array(found.phrase.boxes or ())
    return mirrored_boxes(true, found.size[0]) if found.probe == MIRRORED else true


def _flipped(found: Sequence[Perturbed]) -> list[Array]:
    return [mirrored_boxes(each.boxes, each.size[0]) for each in found]


def _ious(found: Sequence[Perturbed], others: Sequence[Array]) -> Array:
    """Return the (N,) IoU of the areas that predictions and others cover; 1 if neither has a box."""
    pairs = zip(found, others, strict=True)
    return np.array([metrics.union_iou(each.boxes, other) for each, other in pairs], dtype=float)


def _where(values: Array, found: Sequence[Perturbed], probes: Sequence[str]) -> Array:
    """Return the values under these perturbations, NaN under the others."""
    return np.where([each.probe in probes for each in found], values, np.nan)


def _changed(found: Sequence[Perturbed], first: Sequence[Perturbed]) -> Array:
    """Return (N,): 1 if the box is in the other half than originally; NaN without a box."""
    changed = []
    for each, before in zip(found, first, strict=True):
        known = each.probe in WITH_BOX[1:] and len(each.boxes) and len(before.boxes)
        changed.append(float(_is_left(each) != _is_left(before)) if known else np.nan)
    return np.array(changed, dtype=float)


def _is_left(found: Perturbed) -> bool:
    """Return whether the center of the boxes, weighted by area, lies in the left half of the image."""
    x1, y1, x2, y2 = found.boxes.T
    return bool(np.average((x1 + x2) / 2, weights=(x2 - x1) * (y2 - y1)) < found.size[0] / 2)
