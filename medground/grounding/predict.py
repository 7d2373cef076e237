"""Phrases, images and a model -> groundings. An image is encoded once for all its phrases.

Boxes are pixels of the original image. Letter: Q boxes that a network answers with.

A phrase whose `existence` (an unknown key that rides along, as `--report` sets it) is "absent" is not looked
for: its answer has no boxes and `present` 0. For every other phrase the best box is kept whatever its score
and `present` say, so that rankings and other thresholds can be tried on the same file; `Choices` drops more.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medground import boxes
from medground.boxes import Letterbox
from medground.errors import MedgroundError
from medground.grounding import backends
from medground.grounding.backends import Model, Shown
from medground.grounding.calibration import Calibration, raw_probability
from medground.grounding.flip import Orientation
from medground.models import letterboxed
from medground.records import Box, Grounding, Phrase, ScoredBox
from medground.reports import both_sides

log = logging.getLogger(__name__)
MOST_TOGETHER = 256  # pairs fused at once: bounds memory when one image has very many phrases
MIN_SCORE = 0.5  # from here on a phrase's second, third, ... box is meant
SAME = 0.4  # boxes of one phrase that overlap so far (IoU) show the same thing
SURE = 1 - 1e-6  # the most that scores add up to: a logit stays finite
# What a grounding takes over from its phrase, so that it can be grouped and scored without a join.
CARRIED = ("subject_id", "category", "split")
Array = NDArray[np.float64]
Answered = Iterator[tuple[Phrase, Grounding]]
BadImage = Callable[[Phrase, MedgroundError], None]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How a network's answers become records.

    With a calibration, scores and `present` are its frequencies, and boxes are widened where a `coverage` is
    asked. Boxes after the first need `min_score`; a phrase whose `present` is below `min_present` has none.
    `engine` is named where its answers are not quite torch's, `leakage` marks those of a model whose
    training had patients of its validation or test. With an `orientation` films that hang the wrong way round
    are turned, and their answers say so; `as_hung` marks those of a model that has one which is not used.
    """

    calibration: Calibration | None = None
    coverage: float | None = None
    min_score: float = MIN_SCORE
    min_present: float = 0.0
    engine: str | None = None
    leakage: bool = False
    orientation: Orientation | None = None
    as_hung: bool = False


AS_FOUND = Choices()


@dataclass(frozen=True)
class Answer:
    """What a network says of one phrase: boxes (Q, 4) that may reach beyond the film, `merged` where several
    show the same, scores (Q,) and `present` as logits, and how the film lay in the network's square. `least`
    boxes are kept whatever their scores. `turned`: the film was taken for mirrored, and looked at turned."""

    boxes: Array
    scores: Array
    present: float
    letterbox: Letterbox
    least: int = 1
    turned: bool = False


def ground_phrases(
    phrases: Iterable[Phrase],
    model: Model,
    folder: Path,
    bad_image: BadImage | None = None,
    choices: Choices = AS_FOUND,
) -> Answered:
    """Yield each phrase with its grounding, in order; phrases stream, one image's worth at a time.

    The phrases come back with the width and height that boxes are in: their own, where the file is a scaled
    copy of that image, else the file's. An image that cannot be read, or is of another shape than a phrase
    says, ends the run, or is given to `bad_image` with each of its phrases.
    """
    for phrase, answer in find(phrases, model, folder, bad_image, choices.orientation):
        yield phrase, to_grounding(phrase, answer, model.name, choices)


def find(
    phrases: Iterable[Phrase],
    model: Model,
    folder: Path,
    bad_image: BadImage | None = None,
    orientation: Orientation | None = None,
) -> Iterator[tuple[Phrase, Answer | None]]:
    """Yield each phrase with the network's answer, None for an absent one; otherwise as `ground_phrases`."""
    for (path, width, height), group in itertools.groupby(phrases, key=attrgetter("path", "width", "height")):
        together = list(group)
        try:
            shown = letterboxed.read(folder / path, model.config.image_size)
            shown = shown.sized(width, height, folder / path, f"phrase {together[0].phrase_id}")
        except MedgroundError as problem:
            if bad_image is None:
                raise
            for phrase in together:
                bad_image(phrase, problem)
        else:
            width, height = shown.letterbox.width, shown.letterbox.height
            sized = [replace(phrase, width=width, height=height) for phrase in together]
            found = look(sized, shown, model, orientation)
            if any(each.turned for each in found if each):
                log.warning(
                    "%s: hangs mirrored; asked turned, answered as it hangs (see --no-flip-correction)", path
                )
            yield from zip(sized, found, strict=True)


def ground_on_image(
    phrases: list[Phrase], shown: letterboxed.LetterboxedImage, model: Model, choices: Choices = AS_FOUND
) -> Iterator[Grounding]:
    """Yield a grounding for each of these phrases of one film; the film is encoded once."""
    for phrase, answer in zip(phrases, look(phrases, shown, model, choices.orientation), strict=True):
        yield to_grounding(phrase, answer, model.name, choices)


def look(
    phrases: Sequence[Phrase],
    shown: letterboxed.LetterboxedImage,
    model: Model,
    orientation: Orientation | None = None,
) -> list[Answer | None]:
    """The network's answer to each of these phrases of one film, None for an absent one."""
    asked = [() if is_absent(phrase) else _texts(phrase.text, model) for phrase in phrases]
    texts = [text for each in asked for text in each]
    found = iter(_ask(texts, shown, model, orientation)) if texts else iter(())
    return [_together([next(found) for _ in each]) if each else None for each in asked]


def _texts(text: str, model: Model) -> tuple[str, ...]:
    """What the network is asked for a phrase: itself, or each of its sides for a model that learned it so."""
    return (model.config.sides_apart and both_sides.apart(text)) or (text,)


def _together(parts: list[Answer]) -> Answer:
    """The answers to the parts of a phrase as one: there is something to show where one part has it, and
    each part that has it keeps a box."""
    if len(parts) == 1:
        return parts[0]
    boxes, scores = (np.concatenate(each) for each in zip(*((p.boxes, p.scores) for p in parts), strict=True))
    there = sum(part.present > 0 for part in parts)
    first = parts[0]
    present = max(part.present for part in parts)
    return Answer(boxes, scores, present, first.letterbox, max(1, there), first.turned)


def is_absent(phrase: Phrase) -> bool:
    """Whether the report says that there is no such thing."""
    return phrase.extra.get("existence") == "absent"


@torch.inference_mode()
def _ask(
    texts: list[str], shown: letterboxed.LetterboxedImage, model: Model, orientation: Orientation | None
) -> Iterator[Answer]:
    encoded, turned = _hung_right(shown.picture(), model, orientation)
    ask = backends.about(model, encoded)
    for first in range(0, len(texts), MOST_TOGETHER):
        said = ask(*model.tokenize(texts[first : first + MOST_TOGETHER]))
        for box, scores, present in zip(said.boxes, said.scores, said.present, strict=True):
            normal = box.double().cpu().numpy()
            if turned:
                normal[:, 0] = 1 - normal[:, 0]
            found = merged(shown.letterbox.restore(normal), scores.double().cpu().numpy())
            yield Answer(*found, float(present), shown.letterbox, turned=turned)


def _hung_right(picture: Tensor, model: Model, orientation: Orientation | None) -> tuple[Shown, bool]:
    """The encoded film of a (2, S, S) picture, turned where it is mirrored, and whether it was."""
    as_it_is = backends.encode(model, picture)
    if orientation is None:
        return as_it_is, False
    mirrored = backends.encode(model, picture.flip(2))
    turned = orientation.is_mirrored(as_it_is, mirrored)
    return (mirrored if turned else as_it_is), turned


def merged(found: Array, logits: Array) -> tuple[Array, Array]:
    """Boxes (F, 4) and score logits (F,), likeliest first, of what Q boxes and logits show together; F <= Q.

    A network with several boxes is taught that each true box is meant by one query, and doubts which one.
    So boxes that overlap the likeliest one left become one with it: their mean, weighted by the scores, as
    likely as that any of them is meant, which is the sum of their scores, since no two are meant at once.
    """
    if len(found) == 1:
        return found, logits
    chances, alike = 1 / (1 + np.exp(-logits)), boxes.iou(found, found) >= SAME
    left, places, sums = np.ones(len(found), dtype=bool), [], []
    while left.any():
        best = np.argmax(np.where(left, chances, -1))
        same = left & alike[best]
        same[best] = True  # also a box without area, which has no IoU with itself
        places.append(np.average(found[same], axis=0, weights=chances[same]))
        sums.append(min(chances[same].sum(), SURE))
        left &= ~same
    order, total = np.argsort(sums, kind="stable")[::-1], np.array(sums)
    return np.array(places)[order], (np.log(total) - np.log1p(-total))[order]


def to_grounding(phrase: Phrase, answer: Answer | None, model: str, choices: Choices) -> Grounding:
    """The answer as a record, best box first; an absent phrase has no boxes and `present` 0."""
    carried = {key: getattr(phrase, key) for key in CARRIED if getattr(phrase, key) is not None}
    present, found = (0.0, []) if answer is None else _said(answer, choices)
    turned = answer is not None and answer.turned
    return Grounding(
        image_id=phrase.image_id,
        phrase_id=phrase.phrase_id,
        text=phrase.text,
        boxes=found,
        present=present,
        model=model,
        extra=carried | phrase.extra | stated(choices) | ({"mirrored": True} if turned else {}),
    )


def stated(choices: Choices) -> dict[str, bool | float | str]:
    """What a record says of how its numbers are meant, and of what was left out."""
    calibrated = {"calibrated": True} if choices.calibration else {}
    usual = {"coverage": None, "min_score": MIN_SCORE, "min_present": 0.0, "engine": None, "leakage": False}
    usual |= {"as_hung": False}
    return calibrated | {key: getattr(choices, key) for key in usual if getattr(choices, key) != usual[key]}


def _said(answer: Answer, choices: Choices) -> tuple[float, list[ScoredBox]]:
    """(present, boxes) of a record, rounded as files hold them."""
    how, frame = choices.calibration, answer.letterbox
    present = round(how.present(answer.present) if how else raw_probability(answer.present), 4)
    if present < choices.min_present:
        return present, []
    scored = best_first(answer, choices)
    margin = how.margin(choices.coverage) if how and choices.coverage is not None else None
    if margin is not None:
        scored = [(widened(box, margin, frame), score) for box, score in scored]
    return present, [ScoredBox(box=box, score=score) for box, score in scored]


def best_first(answer: Answer, choices: Choices) -> list[tuple[Box, float]]:
    """(box on the film, score to 4 digits) of those kept: the `least`, and all from `min_score` on."""
    found = [inside(box, answer.letterbox) for box in answer.boxes]
    scores = [_score(box, logit, answer, choices) for box, logit in zip(found, answer.scores, strict=True)]
    order = sorted(range(len(scores)), key=lambda q: -scores[q])
    kept = [q for place, q in enumerate(order) if place < answer.least or scores[q] >= choices.min_score]
    return [(found[q], round(scores[q], 4)) for q in kept]


def _score(box: Box, logit: float, answer: Answer, choices: Choices) -> float:
    if choices.calibration is None:
        return raw_probability(float(logit))
    return choices.calibration.score(float(logit), share_of(box, answer.letterbox))


def share_of(box: Box, letterbox: Letterbox) -> float:
    """The share of the film that the box covers."""
    x1, y1, x2, y2 = box
    return (x2 - x1) * (y2 - y1) / (letterbox.width * letterbox.height)


def inside(box: Array, letterbox: Letterbox) -> Box:
    """The box to 0.1 px, cut to the image; one that lies wholly in the padding becomes its nearest sliver."""
    width, height = letterbox.width, letterbox.height
    x1, y1, x2, y2 = (float(each) for each in box)
    x1, x2 = min(max(x1, 0.0), width - 0.1), max(min(x2, width), 0.1)
    y1, y2 = min(max(y1, 0.0), height - 0.1), max(min(y2, height), 0.1)
    return boxes.rounded((x1, y1, x2, y2))


def widened(box: Box, margin: float, letterbox: Letterbox) -> Box:
    """The box with this share of its size added on every side, cut to the image and rounded outwards."""
    x1, y1, x2, y2 = box
    across, down = margin * (x2 - x1), margin * (y2 - y1)
    left, top = (max(0.0, math.floor(10 * each) / 10) for each in (x1 - across, y1 - down))
    right = min(float(letterbox.width), math.ceil(10 * (x2 + across)) / 10)
    bottom = min(float(letterbox.height), math.ceil(10 * (y2 + down)) / 10)
    return boxes.rounded((left, top, right, bottom))
