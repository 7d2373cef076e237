"""Does a model look, and does it read? How far its answer moves when the image or the words are changed.

as asked         the phrase on its image
blank image      the phrase on an even image of the same size: what is left is what the words alone tell
mirrored image   the phrase on its image, left and right changed: boxes should follow the picture
other patient    the phrase on the next image that is of somebody else; boxes by shares of the image
foreign phrase   a phrase of somebody else, of a category that no phrase of this image has: only `absent` is
                 measured, and should be high (what a phrase says may be there all the same, unsaid)
other side       left for right in the phrase, and right for left: the box should change its side
negated          "no ..." before the phrase: `present` should fall
synonym          another name for the finding: nothing should change
held-out negation, held-out synonym
                 the same in wordings that fine-tuning never makes up. `finetune --negative-prob` and
                 `--paraphrases` may have shown those of the two above: they tell what was learned, these
                 whether more was learned than the words

Mirrored images have two more rows: phrases that name one side, whose words now contradict the picture, and
the others. Figures, all over phrases; where a probe has nothing to change (a phrase without a side) the
phrase is no part of it. IoU is that of the areas that boxes cover together.
miou             IoU with the truth; with the mirrored truth on the mirrored image
prior_miou       that of the image-free prior, beside `as asked` and `blank image`
same             IoU with the answer as asked
same_mirrored    IoU with the mirrored answer as asked: 1 where the boxes follow a mirrored image
changed_side     share of answers whose centre lies in the other half of the image than as asked
absent           share of answers with `present` below .5
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

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
Asked = tuple[str, Phrase, str]  # probe, phrase, words
Load = Callable[[str], Image]
Ground = Callable[[list[Phrase], Image], list[Grounding]]  # boxes in pixels of this image

AS_ASKED, BLANK, MIRRORED, OTHER = "as asked", "blank image", "mirrored image", "other patient"
FOREIGN = "foreign phrase"
WORDINGS: dict[str, Callable[[str], str | None]] = {
    "other side": laterality.swap,
    "negated": negation.negate,
    "synonym": wordings.synonym,
    "held-out negation": negation.negate_held_out,
    "held-out synonym": wordings.new_synonym,
}
PROBES = (AS_ASKED, BLANK, MIRRORED, OTHER, FOREIGN, *WORDINGS)
WITH_BOX = tuple(name for name in PROBES if name != FOREIGN)  # their phrase's box is known
NEARBY = 50  # images among which a foreign phrase is looked for
SIDED, SIDELESS = f"{MIRRORED}, side named", f"{MIRRORED}, no side"
PRESENT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a model says under one probe: (F, 4) boxes in pixels of the phrase's own image, and `present`.

    `size` is the image's (width, height), `shown` the path of the image that was shown, `text` the words that
    were asked, `model` who was asked.
    """

    phrase: Phrase
    probe: str
    shown: str
    text: str
    size: tuple[int, int]
    boxes: Array
    present: float
    model: str


def probe(phrases: Iterable[Phrase], load: Load, ground: Ground) -> Iterator[Answer]:
    """Yield the answers under each probe, image by image; phrases of one image are to follow one another.

    `ground` sees an image once for all that is asked of it.
    """
    films = [list(group) for _, group in groupby(phrases, key=lambda phrase: phrase.path)]
    for number, group in enumerate(films):
        path, other = group[0].path, _somebody_else(films, number)
        image = load(path)
        height, width = image.shape
        _refuse_other_size(group, width, height)

        def ask(asked: Sequence[Asked], shown: Image, path: str = path) -> Iterator[Answer]:
            return _asked(asked, path, shown, (width, height), ground)  # noqa: B023  (used up before the next)

        foreign = [(FOREIGN, group[0], text) for text in _foreign(films, number)]
        yield from ask([(AS_ASKED, e, e.text) for e in group] + foreign + list(_reworded(group)), image)
        yield from ask([(BLANK, each, each.text) for each in group], np.zeros_like(image))
        yield from ask([(MIRRORED, each, each.text) for each in group], mirrored(image))
        if other:
            yield from ask([(OTHER, each, each.text) for each in group], load(other), other)


def _reworded(group: Sequence[Phrase]) -> Iterator[Asked]:
    for name, change in WORDINGS.items():
        for phrase in group:
            if (text := change(phrase.text)) is not None:
                yield name, phrase, text


def _asked(
    asked: Sequence[Asked], path: str, image: Image, size: tuple[int, int], ground: Ground
) -> Iterator[Answer]:
    """The answers on one image, their boxes brought to an image of this size."""
    texts = [
        replace(phrase, text=text, width=image.shape[1], height=image.shape[0]) for _, phrase, text in asked
    ]
    scale = np.tile([size[0] / image.shape[1], size[1] / image.shape[0]], 2)
    for (name, phrase, text), found in zip(asked, ground(texts, image), strict=True):
        boxes = as_array([each.box for each in found.boxes]) * scale
        yield Answer(phrase, name, path, text, size, boxes, found.present, found.model)


def mirrored(image: Image) -> Image:
    """The image with left and right changed."""
    return np.ascontiguousarray(image[:, ::-1])


def mirrored_boxes(boxes: Array, width: float) -> Array:
    """(F, 4) boxes where they lie when an image of this width is mirrored; the same again gives them back."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _refuse_other_size(group: Sequence[Phrase], width: int, height: int) -> None:
    for phrase in group:
        if (phrase.width or width, phrase.height or height) != (width, height):
            raise MedgroundError(
                f"phrase_id {phrase.phrase_id}: its boxes are for {phrase.width} x {phrase.height} pixels, "
                f"its image has {width} x {height}; give the images that they were drawn on"
            )


def _somebody_else(films: Sequence[Sequence[Phrase]], number: int) -> str | None:
    """The path of the next image that is of another patient; None where there is nobody else."""
    return next((group[0].path for group in _others(films, number)), None)


def _others(films: Sequence[Sequence[Phrase]], number: int) -> Iterator[Sequence[Phrase]]:
    """Yield the phrases of each image that is of another patient, from the next image on."""
    own = films[number][0]
    for step in range(1, len(films)):
        group = films[(number + step) % len(films)]
        if (group[0].subject_id or group[0].image_id) != (own.subject_id or own.image_id):
            yield group


def _foreign(films: Sequence[Sequence[Phrase]], number: int) -> list[str]:
    """Phrases of other patients, none of a category that this image's phrases have: as many as it has, or
    what is found nearby. Phrases without a category tell nothing, and images that have one get none."""
    own = films[number]
    if any(each.category is None for each in own):
        return []
    here = {each.category for each in own}
    nearby = islice(_others(films, number), NEARBY)
    found = (each.text for group in nearby for each in group if each.category and each.category not in here)
    return list(islice(dict.fromkeys(found), len(own)))


def measure(answers: Sequence[Answer], guess: Callable[[Phrase, int, int], Box] | None = None) -> Measured:
    """The figures of each probe, as groups `probe:NAME`; `guess`, the prior, answers a phrase of an image's
    width and height."""
    as_asked = {id(each.phrase): each for each in answers if each.probe == AS_ASKED}
    first = [as_asked[id(each.phrase)] for each in answers]
    own = {
        "miou": mean_over(_where(_ious(answers, [truth_of(each) for each in answers]), answers, WITH_BOX)),
        "same": mean_over(_where(_ious(answers, [each.boxes for each in first]), answers, WITH_BOX[1:])),
        "same_mirrored": mean_over(_where(_ious(answers, _flipped(first)), answers, (MIRRORED,))),
        "changed_side": mean_over(_changed(answers, first)),
        "absent": mean_over(np.array([each.present < PRESENT for each in answers], dtype=float)),
    }
    if guess is not None:
        guesses = [as_array([guess(each.phrase, *each.size)]) for each in answers]
        guessed = _ious(
            [replace(a, boxes=b) for a, b in zip(answers, guesses, strict=True)], _truths(answers)
        )
        own["prior_miou"] = mean_over(_where(guessed, answers, (AS_ASKED, BLANK)))
    parted = _parted(answers)
    owners = scoring.clusters([each.phrase for each in answers])
    return Measured("probes", parted, owners, parted.counts, own)


def _parted(answers: Sequence[Answer]) -> Groups:
    """A group for each probe that was asked, and after the mirrored image's the two it consists of."""
    of_probe = {name: np.array([each.probe == name for each in answers], dtype=bool) for name in PROBES}
    sided = np.array(
        [laterality.side_of(each.phrase.text) in ("left", "right") for each in answers], dtype=bool
    )
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, mask in of_probe.items():
        masks[name] = mask
        if name == MIRRORED:
            masks |= {SIDED: mask & sided, SIDELESS: mask & ~sided}
    kept = {f"probe:{name}": mask for name, mask in masks.items() if mask.any()}
    return Groups(list(kept), np.array(list(kept.values())).reshape(len(kept), len(answers)), [])


def _truths(answers: Sequence[Answer]) -> list[Array]:
    return [as_array(each.phrase.boxes or ()) for each in answers]


def truth_of(answer: Answer) -> Array:
    """(T, 4) where the truth lies: mirrored on the mirrored image."""
    true = as_array(answer.phrase.boxes or ())
    return mirrored_boxes(true, answer.size[0]) if answer.probe == MIRRORED else true


def _flipped(answers: Sequence[Answer]) -> list[Array]:
    return [mirrored_boxes(each.boxes, each.size[0]) for each in answers]


def _ious(answers: Sequence[Answer], others: Sequence[Array]) -> Array:
    """(N,) IoU of the areas that answers and others cover; 1 where neither has a box."""
    pairs = zip(answers, others, strict=True)
    return np.array([metrics.union_iou(each.boxes, other) for each, other in pairs], dtype=float)


def _where(values: Array, answers: Sequence[Answer], probes: Sequence[str]) -> Array:
    """The values under these probes, NaN under the others."""
    return np.where([each.probe in probes for each in answers], values, np.nan)


def _changed(answers: Sequence[Answer], first: Sequence[Answer]) -> Array:
    """(N,) 1 where the answer has crossed the middle of the image, NaN as asked and without a box."""
    found = []
    for each, before in zip(answers, first, strict=True):
        known = each.probe in WITH_BOX[1:] and len(each.boxes) and len(before.boxes)
        found.append(float(_is_left(each) != _is_left(before)) if known else np.nan)
    return np.array(found, dtype=float)


def _is_left(answer: Answer) -> bool:
    """Whether the centre of the boxes, each weighted by its area, lies in the left half of the picture."""
    x1, y1, x2, y2 = answer.boxes.T
    return bool(np.average((x1 + x2) / 2, weights=(x2 - x1) * (y2 - y1)) < answer.size[0] / 2)
