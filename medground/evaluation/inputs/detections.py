"""Detections of transformers: the dictionaries of Grounding DINO's and OWL's processors.

JSON lines, or one JSON list, with `boxes` (corners in pixels of target_sizes), `scores`, `labels` and
`text_labels`, in the line itself or under `output`. Since transformers 4.51 `labels` are numbers and
`text_labels` the words; before, `labels` were the words. With `phrase_id`, all boxes are of this phrase.
Without it, the words decide if the image has several phrases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from medground import jsonl
from medground.errors import BadRecord
from medground.evaluation.inputs import files, items
from medground.evaluation.inputs.readers import Answer, Take
from medground.records import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """The dictionary of one image."""

    boxes: list[Box]
    scores: list[float]
    labels: list[str | int] | None = None
    text_labels: list[str] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a file."""

    output: dict[str, Any] | None = None
    phrase_id: str | int | None = None
    image_id: str | int | None = None
    coordinates: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def read_detections(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on the boxes of each line."""
    seen: set[str | None] = set()

    def check(line: Line) -> None:
        image, phrase = items.ids(line.image_id, line.phrase_id)
        found = _detections(line)
        words = _words(found)
        frame, sure = line.coordinates, line.coordinates is not None
        scored = list(zip(found.boxes, found.scores, strict=True))
        if phrase is not None:
            take(Answer(image, phrase, scored, whole=True, frame=frame, sure=sure))
            return
        if image in seen:
            raise BadRecord("the second line with this image", "image_id")
        for word in dict.fromkeys(words):
            own = [each for each, other in zip(scored, words, strict=True) if other == word]
            take(Answer(image, None, own, label=word, frame=frame, sure=sure))
        seen.add(image)

    items.read(stream, Line, bad_lines, check)


def _detections(line: Line) -> Detections:
    """Return the dictionary of a line; raise BadRecord unless its lists have one length."""
    try:
        found = jsonl.record_of(line.extra if line.output is None else line.output, Detections)
    except BadRecord as bad:
        raise bad if line.output is None else bad.under("output") from None
    lists: dict[str, Sequence[Any] | None] = {
        "scores": found.scores,
        "labels": found.labels,
        "text_labels": found.text_labels,
    }
    for name, values in lists.items():
        if values is not None and len(values) != len(found.boxes):
            raise BadRecord("expected one for each of the boxes", name)
    return found


def _words(found: Detections) -> list[str | None]:
    """Return the words of each box, None if it has none."""
    words = found.text_labels or found.labels or [None] * len(found.boxes)
    return [each if isinstance(each, str) else None for each in words]
