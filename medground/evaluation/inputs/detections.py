"""Detections: the output of Grounding DINO's and OWL's processors in transformers, and of other detectors.

JSON lines, one JSON list, or an object with the items. An item has the image or the phrase (`others_keys`)
and its detections in one of these forms, in the item itself or under one of `LISTS`:

lists    `boxes` (corners in pixels of target_sizes), `scores`, `labels` and `text_labels`. Since transformers
         4.51 `labels` are numbers and `text_labels` the words; before, `labels` were the words. mmdetection
         calls them `bboxes`, and Grounding DINO's own code `logits` and `phrases`.
objects  {"score", "label", "box": {"xmin", "ymin", "xmax", "ymax"}}, as pipelines of transformers return
         them; or `bbox` and `class_name`, as Grounded SAM 2 writes them
a row    one such object with the image in it

With `phrase_id`, all boxes are of this phrase. Without it, the words decide if the image has several phrases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medground import jsonl
from medground.errors import BadRecord
from medground.evaluation.inputs import files, items, others_keys
from medground.evaluation.inputs.readers import Answer, Take, corners
from medground.records import Box

LISTS = ("output", "detections", "annotations", "predictions", "instances", "objects", "results", "result")
BOXES, BOX = ("boxes", "bboxes"), ("box", "bbox", "bounding_box")
SCORES, SCORE = ("scores", "logits", "confidences"), ("score", "confidence", "conf", "logit")
LABELS = ("labels",)
WORDS = ("text_labels", "phrases", "class_names")
NAMES = ("label", "class_name", "phrase", "class", "name", "category")
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"))
KEYS = (*others_keys.ALL, *LISTS, *BOXES, *BOX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """The detections of one image."""

    boxes: list[Box]
    scores: list[float]
    labels: list[str | int] | None = None
    text_labels: list[str] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a file."""

    phrase_id: str | int | None = None
    image_id: str | int | None = None
    coordinates: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def read_detections(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on the boxes of each line."""
    seen: set[tuple[str | None, str | None]] = set()

    def check(line: Line) -> None:
        whose = others_keys.owner(line.extra | {"phrase_id": line.phrase_id, "image_id": line.image_id})
        row = _key(line.extra, BOX)
        found = _of_objects([line.extra]) if row else _detections(line.extra)
        frame, sure = line.coordinates, line.coordinates is not None
        scored = list(zip(found.boxes, found.scores, strict=True))
        if whose.phrase is not None and not whose.loose:
            take(Answer(whose.image, whose.phrase, scored, whole=not row, frame=frame, sure=sure))
            return
        name = whose.image, whose.phrase
        if name in seen and not row:
            raise BadRecord("the second line with this image", "image_id")
        words = _words(found)
        for word in dict.fromkeys(words):
            own = [each for each, other in zip(scored, words, strict=True) if other == word]
            take(Answer(*name, own, label=word, frame=frame, sure=sure, loose=whose.loose))
        seen.add(name)

    items.read(stream, Line, bad_lines, check, KEYS)


def _key(item: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of the names that an object has a value for."""
    return next((each for each in names if item.get(each) is not None), None)


def _detections(item: Mapping[str, Any]) -> Detections:
    """Return the detections of an item; raise BadRecord unless its lists have one length."""
    under = None if _key(item, BOXES) else _key(item, LISTS)
    inside = item if under is None else item[under]
    try:
        return _of_objects(inside) if isinstance(inside, list) else _of_lists(inside)
    except BadRecord as bad:
        raise bad if under is None else bad.under(under) from None


def _of_lists(inside: Any) -> Detections:
    if not isinstance(inside, dict):
        raise BadRecord("expected an object")
    names = {"boxes": BOXES, "scores": SCORES, "labels": LABELS, "text_labels": WORDS}
    keys = {name: _key(inside, several) for name, several in names.items()}
    known = {name: inside[key] for name, key in keys.items() if key is not None}
    found = jsonl.record_of(known, Detections)
    for name in ("scores", "labels", "text_labels"):
        values: Sequence[Any] | None = getattr(found, name)
        if values is not None and len(values) != len(found.boxes):
            raise BadRecord("expected one for each of the boxes", keys[name] or name)
    return found


def _of_objects(listed: list[Any]) -> Detections:
    boxes, scores, words = [], [], []
    for number, each in enumerate(listed):
        path = [number] if len(listed) > 1 else []
        if not isinstance(each, dict):
            raise BadRecord("expected an object", *path)
        boxes.append(_box(each, path))
        score = _key(each, SCORE)
        if score is None:
            raise BadRecord("this key is missing", *path, "score")
        scores.append(items.number_of(each[score], *path, score))
        words.append(each.get(_key(each, NAMES) or "", ""))
    return Detections(boxes=boxes, scores=scores, labels=words)


def _box(item: Mapping[str, Any], path: list[int]) -> Box:
    """Return the corners of an object's box: a list, or an object with four numbers."""
    key = _key(item, BOX)
    value = item.get(key or "")
    if isinstance(value, dict):
        names = next((each for each in CORNERS if all(name in value for name in each)), None)
        value = [value[name] for name in names] if names else None
    if not isinstance(value, list) or len(value) != 4:
        raise BadRecord("expected four numbers", *path, key or "box")
    x1, y1, x2, y2 = (items.number_of(each, *path, key or "box") for each in value)
    return corners([x1, y1, x2, y2]) if item.get("box_format") == "xywh" else (x1, y1, x2, y2)


def _words(found: Detections) -> list[str | None]:
    """Return the words of each box, None if it has none."""
    words = found.text_labels or found.labels or [None] * len(found.boxes)
    return [each if isinstance(each, str) and each else None for each in words]
