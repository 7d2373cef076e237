"""Predictions in any file format and frame, as groundings in original pixels, best box first.

The formats are described in `readers`, `coco_results`, `detections` and `vlm_text`. Boxes are ranked by
score; equal scores keep their order. A box without area is dropped with a warning. A box that is inverted or
not finite makes its line a bad line. A file of "original" pixels whose boxes are all within 1 raises an
error; `frame_checks` warns of others that are probably in another frame.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from medground import jsonl, registry
from medground.answers import frames
from medground.boxes import rounded
from medground.errors import BadRecord, MedgroundError
from medground.evaluation.image_facts import SIZE, ImageFacts, facts_in
from medground.evaluation.inputs import files
from medground.evaluation.inputs.frame_checks import FrameCheck
from medground.evaluation.inputs.matching import Phrases
from medground.evaluation.inputs.readers import Answer
from medground.evaluation.phrases import Key, key_of
from medground.evaluation.sources import Records
from medground.records import Box, Grounding, Phrase, ScoredBox, check_box

log = logging.getLogger(__name__)


def read(
    stream: BinaryIO,
    kind: str,
    frame: str | None,
    phrases: Sequence[Phrase],
    bad_lines: jsonl.BadLines,
    listed: Mapping[str, str] | None = None,
) -> Records[Grounding]:
    """Return the predictions of a file for these phrases, with boxes in original pixels.

    frame: the units of the file's boxes (None: the format's own frame). listed: names of images by number.
    """
    hashed = files.Hashed(stream)
    entry = registry.PREDICTION_FORMATS[kind]
    if frame is not None:
        frames.check(frame)
    found = _Found(frame, entry.frame, Phrases.of(phrases, listed), ImageFacts.of(phrases))
    entry.load()(hashed, bad_lines, found.take)
    found.check(hashed.name)
    return Records([found.grounding(key) for key in found.boxes], hashed.name, hashed.digest)


@dataclass
class _Found:
    """The boxes of each phrase so far, the other keys of its records, and the warnings.

    chosen: the frame of the option. usual: the frame of the format. images: what is stated of each image.
    """

    chosen: str | None
    usual: str
    phrases: Phrases
    images: ImageFacts
    boxes: dict[Key, list[ScoredBox]] = field(default_factory=dict)
    said: dict[Key, dict[str, Any]] = field(default_factory=dict)
    checks: dict[str, FrameCheck] = field(default_factory=dict)
    flat: int = 0
    beyond: int = 0

    def take(self, answer: Answer) -> None:
        """Add a prediction. Raises BadRecord, and adds nothing, if it does not fit."""
        phrase = self.phrases.find(answer)
        if phrase is None:
            return
        key = phrase.image_id, phrase.phrase_id
        if answer.whole and key in self.boxes:
            raise BadRecord("the second line with this phrase of this image", "phrase_id")
        said = self.said.get(key, answer.said)
        if said != answer.said:
            raise BadRecord("another than in an earlier row of this phrase", _differing(said, answer.said))
        _check_shares(answer)
        frame = self._frame(answer)
        self.images.check(phrase.image_id, facts_in(answer.image, sized=frame == frames.ORIGINAL))
        placed = [_placed(number, answer, phrase, frame) for number in range(len(answer.boxes))]
        scored = zip(placed, answer.boxes, strict=True)
        own = [ScoredBox(box=box, score=score) for box, (_, score) in scored if box is not None]
        self.flat += len(placed) - len(own)
        self.beyond += sum(not 0 <= each.score <= 1 for each in own)
        checked = self.checks.setdefault(frame, FrameCheck(frame))
        checked.add(phrase, answer.boxes, [each.box for each in own])
        self.boxes.setdefault(key, []).extend(own)
        self.said[key] = said if frame == frames.ORIGINAL else _without_size(said)

    def _frame(self, answer: Answer) -> str:
        """Return the frame of a prediction; raise BadRecord if its own one is no frame."""
        if answer.frame is None or (self.chosen and not answer.sure):
            return self.chosen or self.usual
        try:
            frames.check(answer.frame)
        except MedgroundError:
            raise BadRecord("not a frame; docs/evaluation.md lists them", "coordinates") from None
        return answer.frame

    def check(self, source: str) -> None:
        """Warn of dropped boxes and unused values. Raises if the frame cannot be right."""
        if self.flat:
            log.warning("%s: dropped %d boxes without area", source, self.flat)
        if self.beyond:
            log.warning(
                "%s: %d scores are not in [0, 1]: thresholds on scores (the protocol pooled) mean nothing",
                *(source, self.beyond),
            )
        if self.phrases.unnamed:
            log.warning(
                "%s: left out %d predictions of findings that no phrase of their image has",
                *(source, self.phrases.unnamed),
            )
        boxes = [each.box for some in self.boxes.values() for each in some]
        if boxes and max(max(box) for box in boxes) <= 1:
            like = next((name for each in self.checks.values() if (name := each.better())), "normalised")
            raise MedgroundError(f"{source}: every box is within one pixel; try --coordinates {like}")
        for each in self.checks.values():
            each.warn(source)

    def grounding(self, key: Key) -> Grounding:
        """Return all boxes predicted for one phrase."""
        found, said = self.boxes[key], dict(self.said[key])
        known = {"text": "", "present": float(bool(found)), "model": ""}
        own = {name: said.pop(name, value) for name, value in known.items()}
        return Grounding(image_id=key[0], phrase_id=key[1], boxes=found, **own, extra=said)


def as_records(found: Records[Grounding], phrases: Sequence[Phrase], model: str) -> Iterator[Grounding]:
    """Yield the groundings with the text of their phrase, best box first, rounded to 0.1 pixels.

    `model` is used if they have none. Raises MedgroundError for scores that are not in [0, 1].
    """
    texts = {key_of(each): each.text for each in phrases}
    missing = texts.keys() - {key_of(each) for each in found}
    if missing:
        log.warning("%s: no prediction for %d of %d phrases", found.name, len(missing), len(texts))
    for each in found:
        if any(not 0 <= box.score <= 1 for box in each.boxes):
            raise MedgroundError(
                f"{found.name}: score: expected numbers from 0 to 1, as groundings have them"
            )
        ranked = sorted(each.boxes, key=lambda one: -one.score)
        boxes = [ScoredBox(box=rounded(one.box), score=one.score) for one in ranked]
        text = each.text or texts[key_of(each)]
        yield replace(each, text=text, boxes=boxes, model=each.model or model)


def _without_size(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys without the size of the image that boxes of another frame were on."""
    return {name: value for name, value in said.items() if name not in SIZE}


def _differing(a: dict[str, Any], b: dict[str, Any]) -> str:
    return next(name for name in sorted({*a, *b}) if a.get(name) != b.get(name))


def _check_shares(answer: Answer) -> None:
    """Raise BadRecord for scores that are not finite and, in our own records, not in [0, 1]."""
    if answer.ours and not 0 <= answer.said["present"] <= 1:
        raise BadRecord("expected a number from 0 to 1", "present")
    for number, (_, score) in enumerate(answer.boxes):
        path = ("boxes", number, "score") if answer.ours else ("score",)
        if not math.isfinite(score):
            raise BadRecord("expected a finite number", *path)
        if answer.ours and not 0 <= score <= 1:
            raise BadRecord("expected a number from 0 to 1", *path)


def _placed(number: int, answer: Answer, phrase: Phrase, frame: str) -> Box | None:
    try:
        return _original(answer.boxes[number][0], phrase, frame)
    except BadRecord as bad:
        raise bad.under(number).under("boxes") if answer.ours and bad.path == ("box",) else bad from None


def _original(box: Box, phrase: Phrase, frame: str) -> Box | None:
    """Return the box in original pixels, None for a box without area.

    Raises BadRecord if the box is invalid or outside the frame.
    """
    if frame != frames.ORIGINAL and not (phrase.width and phrase.height):
        raise BadRecord("the truth must have it to leave the frame", "width")
    stated, (frame, box) = (frame, box), frames.corners(frame, box)
    if _is_flat(box):
        return None
    try:
        check_box(box)
    except ValueError as error:
        raise BadRecord(f"{error}{_advice(*stated)}", "box") from None
    placed = frames.to_original(frame, box, phrase.width or 0, phrase.height or 0)
    return None if _is_flat(placed) else placed  # rounding may reduce a tiny box to none


def _advice(frame: str, box: Box) -> str:
    """Return what to say of an inverted box if its numbers may be a center and a size; "" if not."""
    _, (x1, y1, x2, y2) = frames.corners(frames.CENTERED, box)
    if frame.startswith((frames.TURNED, frames.CENTERED)) or not (
        0 <= x1 < x2 <= 1.05 and 0 <= y1 < y2 <= 1.05
    ):
        return ""
    return f"; a center with width and height is --coordinates {frames.CENTERED}normalised"


def _is_flat(box: Box) -> bool:
    wide, high = box[2] - box[0], box[3] - box[1]
    return all(map(math.isfinite, box)) and min(wide, high) == 0
