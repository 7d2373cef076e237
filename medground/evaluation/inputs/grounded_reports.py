"""Predictions in the files of RadFact and of ChexBench, which have the words of phrases instead of ids.

radfact    one JSON list of {"example_id", "prediction": [{"text", "boxes": [{"x_min", ...}] or null}]}. The
           example_id is an image_id. A sentence is the phrase of this image with the same words. Sentences
           without boxes are passed over. Grounded ones that are no phrase of the truth are counted.
chexbench  predictions_CheXagent.json of its script for phrase grounding: `image_path`, `question` with the
           phrase in it, and `candidate_box` in hundredths; or `output`, the text of the model
"""

import json
import logging
from dataclasses import dataclass, field
from typing import Any

from medground import jsonl
from medground.answers import texts
from medground.errors import BadRecord
from medground.evaluation.inputs import files, items
from medground.evaluation.inputs.readers import Answer, Take
from medground.records import Box

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corners:
    """A box of RadFact."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A member of RadFact's list: words, words with boxes, or one box."""

    text: str | None = None
    boxes: list[Corners] | None = None
    box: Corners | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An item of RadFact's file."""

    example_id: str | int
    prediction: list[Sentence]
    extra: dict[str, Any] = field(default_factory=dict)


def read_radfact(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each predicted sentence that has boxes."""
    seen: set[str | int] = set()

    def check(example: Example) -> None:
        if example.example_id in seen:
            raise BadRecord("the second item with this id", "example_id")
        for number, each in enumerate(example.prediction):
            if each.boxes is not None and not each.boxes:
                raise BadRecord("expected null or boxes", "prediction", number, "boxes")
        for number, each in enumerate(example.prediction):
            if each.text and each.boxes:
                boxes = [((box.x_min, box.y_min, box.x_max, box.y_max), 1.0) for box in each.boxes]
                try:
                    take(Answer(str(example.example_id), None, boxes, label=each.text, match="same"))
                except BadRecord as bad:
                    raise bad.under(number).under("prediction") if bad.path == ("box",) else bad from None
        seen.add(example.example_id)

    items.read(stream, Example, bad_lines, check)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An item of ChexBench's list."""

    image_path: list[str]
    question: str
    candidate_box: list[Any] | None = None
    output: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def read_chexbench(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each sample. Warns if boxes repeat that of the sample before.

    The script does so if the model gives no box.
    """
    repeated = 0
    before: list[Box] | None = None

    def check(sample: Sample) -> None:
        nonlocal repeated, before
        if not sample.image_path:
            raise BadRecord("expected the path of an image", "image_path")
        boxes = _candidates(sample)
        scored = [(box, 1.0) for box in boxes]
        take(Answer(sample.image_path[0], None, scored, True, label=sample.question, match="inside"))
        repeated += sample.output is None and boxes == before
        before = boxes

    items.read(stream, Sample, bad_lines, check)
    if repeated:
        log.warning(
            "%s: %d boxes are those of the sample before: ChexBench's script repeats a box if there is none",
            *(stream.name, repeated),
        )


def _candidates(sample: Sample) -> list[Box]:
    if sample.output is not None:
        return texts.chexagent_2(sample.output).boxes
    if sample.candidate_box is None:
        raise BadRecord("this key is missing", "candidate_box")
    found = texts.shares(json.dumps(sample.candidate_box))
    if not found.boxes:
        raise BadRecord("expected lists of four numbers", "candidate_box")
    return found.boxes
