"""Phrases, images and a model -> groundings. An image is encoded once for all its phrases.

Boxes are in pixels of the original image. Letter: Q boxes that a network predicts for a phrase.

A phrase whose `existence` key is "absent" (as `--report` sets it) is not predicted: its grounding has no
boxes and `present` 0. For every other phrase the best box is kept, even if its score and `present` are low.
So other thresholds can be tried on the same file; `PredictOptions` removes more.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground import boxes
from medground.boxes import Letterbox
from medground.data.long_texts import LongTexts
from medground.errors import MedgroundError
from medground.grounding import backends
from medground.grounding.backends import Model
from medground.grounding.calibration import Calibration, raw_probability
from medground.grounding.engine import EncodedImage
from medground.grounding.flip import FlipCorrection
from medground.grounding.views import Seen, Views
from medground.models import letterboxed
from medground.models.letterboxed import LetterboxedImage
from medground.models.view_check import ViewCheck
from medground.records import Box, Grounding, Phrase, ScoredBox
from medground.reports import laterality

log = logging.getLogger(__name__)
MAX_PAIRS = 256  # pairs fused at once: bounds memory if one image has very many phrases
MIN_SCORE = 0.5  # the score that a phrase's second, third, ... box needs
SAME_BOX_IOU = 0.4  # boxes of one phrase with this IoU are merged
MAX_SUM = 1 - 1e-6  # upper limit of summed scores, so that a logit stays finite
# The keys that a grounding copies from its phrase, so that it can be grouped and scored without a join.
CARRIED = ("subject_id", "category", "split")
Array = NDArray[np.float64]
Grounded = tuple[Phrase, Grounding]
BadImage = Callable[[Phrase, MedgroundError], None]


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options that turn network outputs into records.

    With a calibration, scores and `present` are calibrated probabilities, and `coverage` widens boxes.
    Boxes after the first need `min_score`. A phrase whose `present` is below `min_present` gets no box.
    `backend` is stated in records if its outputs differ from torch's. `leakage` marks outputs of a model
    whose training included its validation or test subjects. `flip_correction` corrects flipped images.
    `flip_correction_off` marks outputs of a model that has a flip correction which is not used.
    """

    calibration: Calibration | None = None
    coverage: float | None = None
    min_score: float = MIN_SCORE
    min_present: float = 0.0
    backend: str | None = None
    leakage: bool = False
    flip_correction: FlipCorrection | None = None
    flip_correction_off: bool = False


DEFAULT_OPTIONS = PredictOptions()


@dataclass(frozen=True)
class Prediction:
    """The network's prediction for one phrase, before calibration and rounding.

    boxes: (Q, 4) in pixels, may exceed the image; overlapping ones are merged. scores: (Q,) logits.
    present: a logit. letterbox: the image's place in the network's square. At least `least` boxes are kept,
    regardless of their scores. flip_corrected: the image was detected as flipped, and processed unflipped.
    distance: of the image from those of the calibration, above 1 if it is unlike them; None if unknown.
    """

    boxes: Array
    scores: Array
    present: float
    letterbox: Letterbox
    least: int = 1
    flip_corrected: bool = False
    distance: float | None = None


def ground_phrases(
    phrases: Iterable[Phrase],
    model: Model,
    folder: Path,
    bad_image: BadImage | None = None,
    options: PredictOptions = DEFAULT_OPTIONS,
    check: ViewCheck | None = None,
    seen: Seen | None = None,
) -> Iterator[Grounded]:
    """Yield each phrase with its grounding, in order; phrases stream, one image's worth at a time.

    The phrases get the width and height that boxes are in: their own if the file is a scaled copy of that
    image, otherwise the file's. An image that is unreadable, or of another shape than its phrase states,
    raises MedgroundError. With `bad_image`, each of its phrases is passed there instead. With `check`,
    phrases of images that are not frontal chest X-rays are marked (`views.Views`). `seen` is an image that
    was read before.
    """
    how = (bad_image, options.flip_correction, check, seen)
    for phrase, prediction in predict_phrases(phrases, model, folder, *how):
        yield phrase, to_grounding(phrase, prediction, model.name, options)


def predict_phrases(
    phrases: Iterable[Phrase],
    model: Model,
    folder: Path,
    bad_image: BadImage | None = None,
    flip_correction: FlipCorrection | None = None,
    check: ViewCheck | None = None,
    seen: Seen | None = None,
) -> Iterator[tuple[Phrase, Prediction | None]]:
    """Yield each phrase with its prediction, None for an absent one; otherwise as `ground_phrases`."""
    long_texts, views = LongTexts(model.tokenizer, model.config.text_tokens), Views(check, seen)
    unlike = 0
    for (path, width, height), group in itertools.groupby(phrases, key=attrgetter("path", "width", "height")):
        together = list(group)
        try:
            shown = views.load_shown(folder / path)
            image = letterboxed.of_shown(shown, model.config.image_size)
            image = image.sized(width, height, folder / path, "its phrase")
        except MedgroundError as problem:
            if bad_image is None:
                raise
            for phrase in together:
                bad_image(phrase, problem)
        else:
            width, height = image.letterbox.width, image.letterbox.height
            sized = [replace(phrase, width=width, height=height) for phrase in together]
            sized = views.marked(sized, folder / path, shown)
            found = predict_on_image(sized, image, model, flip_correction, long_texts)
            if any(each.flip_corrected for each in found if each):
                log.warning("%s: probably flipped left-right, corrected (see --no-flip-correction)", path)
            unlike += any((each.distance or 0) > 1 for each in found if each)
            yield from zip(sized, found, strict=True)
    long_texts.warn("phrases")
    views.warn()
    if unlike:
        log.warning(
            "%d image%s unlike those of the calibration (`distance` above 1): scores may be wrong",
            unlike, " is" if unlike == 1 else "s are",
        )  # fmt: skip


def ground_on_image(
    phrases: list[Phrase], image: LetterboxedImage, model: Model, options: PredictOptions = DEFAULT_OPTIONS
) -> Iterator[Grounding]:
    """Yield a grounding for each of these phrases of one image; the image is encoded once."""
    predictions = predict_on_image(phrases, image, model, options.flip_correction)
    for phrase, prediction in zip(phrases, predictions, strict=True):
        yield to_grounding(phrase, prediction, model.name, options)


def predict_on_image(
    phrases: Sequence[Phrase],
    image: LetterboxedImage,
    model: Model,
    flip_correction: FlipCorrection | None = None,
    long_texts: LongTexts | None = None,
) -> list[Prediction | None]:
    """Return the prediction for each of these phrases of one image, None for an absent one.

    Phrases that are too long for the model are shortened and counted in `long_texts`.
    """
    fitting = long_texts or LongTexts(model.tokenizer, model.config.text_tokens)
    queries = [() if is_absent(phrase) else _queries(phrase.text, model) for phrase in phrases]
    texts = [fitting.fitted(text) for each in queries for text in each]
    if long_texts is None:
        fitting.warn("phrases")
    found = iter(_predictions(texts, image, model, flip_correction)) if texts else iter(())
    return [_together([next(found) for _ in each]) if each else None for each in queries]


def _queries(text: str, model: Model) -> tuple[str, ...]:
    """Return the phrase's queries: itself, or one per side for a model that was trained on single sides."""
    return (model.config.sides_apart and laterality.split_bilateral(text)) or (text,)


def _together(parts: list[Prediction]) -> Prediction:
    """Return the predictions for the parts of a phrase as one.

    `present` is the highest of the parts; each part that is present keeps a box.
    """
    if len(parts) == 1:
        return parts[0]
    boxes, scores = (np.concatenate(each) for each in zip(*((p.boxes, p.scores) for p in parts), strict=True))
    present_parts = sum(part.present > 0 for part in parts)
    first = parts[0]
    present = max(part.present for part in parts)
    least = max(1, present_parts)
    return replace(first, boxes=boxes, scores=scores, present=present, least=least)


def is_absent(phrase: Phrase) -> bool:
    """Return whether the report rules the finding out."""
    return phrase.extra.get("existence") == "absent"


def _predictions(
    texts: list[str], image: LetterboxedImage, model: Model, flip_correction: FlipCorrection | None
) -> Iterator[Prediction]:
    encoded, flipped = _encode_upright(image.planes(), model, flip_correction)
    query, distance = backends.query_encoded(model, encoded), backends.distance(model, encoded)
    for first in range(0, len(texts), MAX_PAIRS):
        output = query(*model.tokenize(texts[first : first + MAX_PAIRS]))
        for box, scores, present in zip(output.boxes, output.scores, output.present, strict=True):
            if flipped:
                box[:, 0] = 1 - box[:, 0]
            found = merged(image.letterbox.restore(box), scores)
            yield Prediction(
                *found, float(present), image.letterbox, flip_corrected=flipped, distance=distance
            )


def _encode_upright(
    picture: NDArray[np.float32], model: Model, flip_correction: FlipCorrection | None
) -> tuple[EncodedImage, bool]:
    """Return a (2, S, S) picture encoded, unflipped if it is detected as flipped, and whether it was."""
    as_it_is = backends.encode(model, picture)
    if flip_correction is None:
        return as_it_is, False
    mirror_image = backends.encode(model, np.flip(picture, 2).copy())
    flipped = flip_correction.is_flipped(as_it_is, mirror_image)
    return (mirror_image if flipped else as_it_is), flipped


def merged(found: Array, logits: Array) -> tuple[Array, Array]:
    """Merge Q overlapping boxes and score logits into F <= Q: boxes (F, 4) and logits (F,), best first.

    A network with several boxes is trained to predict each true box by one query, and splits its score
    between similar queries. So boxes that overlap the best remaining one are merged with it. The result is
    their mean, weighted by score; its score is their sum, since at most one of them is the true box.
    """
    if len(found) == 1:
        return found, logits
    scores, alike = 1 / (1 + np.exp(-logits)), boxes.iou(found, found) >= SAME_BOX_IOU
    left, places, sums = np.ones(len(found), dtype=bool), [], []
    while left.any():
        best = np.argmax(np.where(left, scores, -1))
        same = left & alike[best]
        same[best] = True  # also a box without area, which has no IoU with itself
        places.append(np.average(found[same], axis=0, weights=scores[same]))
        sums.append(min(scores[same].sum(), MAX_SUM))
        left &= ~same
    order, total = np.argsort(sums, kind="stable")[::-1], np.array(sums)
    return np.array(places)[order], (np.log(total) - np.log1p(-total))[order]


def to_grounding(
    phrase: Phrase, prediction: Prediction | None, model: str, options: PredictOptions
) -> Grounding:
    """Return the prediction as a record, best box first; without one, no boxes and `present` 0."""
    carried = {key: getattr(phrase, key) for key in CARRIED if getattr(phrase, key) is not None}
    present, found = (0.0, []) if prediction is None else _present_and_boxes(prediction, options)
    more: dict[str, Any] = {"mirrored": True} if prediction and prediction.flip_corrected else {}
    if prediction and prediction.distance is not None:
        more["distance"] = round(prediction.distance, 2)
    return Grounding(
        image_id=phrase.image_id,
        phrase_id=phrase.phrase_id,
        text=phrase.text,
        boxes=found,
        present=present,
        model=model,
        extra=carried | phrase.extra | option_keys(options) | more,
    )


def option_keys(options: PredictOptions) -> dict[str, Any]:
    """Return the keys by which a record states the options that differ from the defaults."""
    stated = {
        "calibrated": options.calibration and (options.calibration.fitted(options.coverage) or None),
        "coverage": options.coverage,
        "min_score": None if options.min_score == MIN_SCORE else options.min_score,
        "min_present": options.min_present or None,
        "engine": options.backend,
        "leakage": options.leakage,
        "as_hung": options.flip_correction_off,
    }
    return {key: value for key, value in stated.items() if value is not None and value is not False}


def _present_and_boxes(prediction: Prediction, options: PredictOptions) -> tuple[float, list[ScoredBox]]:
    """Return (present, boxes) of a record, rounded as files hold them."""
    how, frame = options.calibration, prediction.letterbox
    present = round(how.present(prediction.present) if how else raw_probability(prediction.present), 4)
    if present < options.min_present:
        return present, []
    scored = ranked_boxes(prediction, options)
    margin = how.margin(options.coverage) if how and options.coverage is not None else None
    if margin is not None:
        scored = [(widened(box, margin, frame), score) for box, score in scored]
    return present, [ScoredBox(box=box, score=score) for box, score in scored]


def ranked_boxes(prediction: Prediction, options: PredictOptions) -> list[tuple[Box, float]]:
    """Return (box in pixels, score to 4 digits), best first: the `least`, and all from `min_score` on."""
    found = [inside(box, prediction.letterbox) for box in prediction.boxes]
    scores = [_score(*each, prediction, options) for each in zip(found, prediction.scores, strict=True)]
    order = sorted(range(len(scores)), key=lambda q: -scores[q])
    kept = [q for rank, q in enumerate(order) if rank < prediction.least or scores[q] >= options.min_score]
    return [(found[q], round(scores[q], 4)) for q in kept]


def _score(box: Box, logit: float, prediction: Prediction, options: PredictOptions) -> float:
    if options.calibration is None:
        return raw_probability(float(logit))
    return options.calibration.score(float(logit), area_share(box, prediction.letterbox))


def area_share(box: Box, letterbox: Letterbox) -> float:
    """Return the share of the image that the box covers."""
    x1, y1, x2, y2 = box
    return (x2 - x1) * (y2 - y1) / (letterbox.width * letterbox.height)


def inside(box: Array, letterbox: Letterbox) -> Box:
    """Return the box to 0.1 px, clipped to the image; one in the padding becomes a sliver at the border."""
    width, height = letterbox.width, letterbox.height
    x1, y1, x2, y2 = (float(each) for each in box)
    x1, x2 = min(max(x1, 0.0), width - 0.1), max(min(x2, width), 0.1)
    y1, y2 = min(max(y1, 0.0), height - 0.1), max(min(y2, height), 0.1)
    return boxes.rounded((x1, y1, x2, y2))


def widened(box: Box, margin: float, letterbox: Letterbox) -> Box:
    """Return the box widened by this share of its size on every side, clipped and rounded outwards."""
    x1, y1, x2, y2 = box
    across, down = margin * (x2 - x1), margin * (y2 - y1)
    left, top = (max(0.0, math.floor(10 * each) / 10) for each in (x1 - across, y1 - down))
    right = min(float(letterbox.width), math.ceil(10 * (x2 + across)) / 10)
    bottom = min(float(letterbox.height), math.ceil(10 * (y2 + down)) / 10)
    return boxes.rounded((left, top, right, bottom))
