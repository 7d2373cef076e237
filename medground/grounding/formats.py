"""Writers of groundings: JSON lines, CSV, COCO, RadFact.

csv   one row per box, best first; a phrase without a box has one row with empty box columns. Columns:
      image_id, phrase_id, subject_id, text, category, existence, present, box (1 for the best), score, x1,
      y1, x2, y2 (pixels of the original image), width, height (of that image), model, coverage, leakage
      (true if the model's training data had patients of its validation or test data). Text that a
      spreadsheet would run as a formula has an apostrophe in front; evaluate removes it.
coco  one JSON object that pycocotools loads: `images` with our `image_id` and COCO's integer `id`,
      `categories`, and `annotations`: bbox [x, y, width, height] in original pixels with `score`,
      `phrase_id` and `text`. A phrase's category is its `category`, else its `finding`, else "phrase".
      `phrases` has every phrase with its `present`, also without boxes, and, if stated, its
      `coverage` and `leakage`.
radfact  a JSON list of RadFact's examples, one per image: `example_id`, `prediction` and `target`, each a
      list of {text, boxes}. Boxes are {x_min, y_min, x_max, y_max} in shares of the image, and null if there
      is none. `target` has the phrases whose true boxes are known.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from medground import boxes, jsonl, spreadsheet
from medground.errors import MedgroundError
from medground.records import Box, Grounding, Phrase

Answered = Iterable[tuple[Phrase, Grounding]]
CARRIED = ("subject_id", "category", "existence", "coverage")
STATED = ("coverage", "leakage")
COLUMNS = (
    *("image_id", "phrase_id", "subject_id", "text", "category", "existence", "present"),
    *("box", "score", "x1", "y1", "x2", "y2", "width", "height", "model", "coverage", "leakage"),
)


def write_jsonl(stream: BinaryIO, answers: Answered) -> None:
    """Write one Grounding per line."""
    jsonl.write(stream, (found for _, found in answers))


def write_csv(stream: BinaryIO, answers: Answered) -> None:
    """Write the column names, then one row per box."""
    stream.write(spreadsheet.line(COLUMNS).encode())
    for phrase, found in answers:
        for row in _rows(phrase, found):
            stream.write(spreadsheet.line(row.get(name, "") for name in COLUMNS).encode())
        stream.flush()


def _rows(phrase: Phrase, found: Grounding) -> Iterator[dict[str, Any]]:
    """Yield the rows of one phrase, at least one."""
    same = {name: found.extra.get(name, "") for name in CARRIED}
    same |= {name: getattr(found, name) for name in ("image_id", "phrase_id", "text", "present", "model")}
    same |= {"leakage": "true"} if found.extra.get("leakage") else {}
    same |= {"width": phrase.width, "height": phrase.height}
    for number, each in enumerate(found.boxes, start=1):
        corners = dict(zip(("x1", "y1", "x2", "y2"), each.box, strict=True))
        yield same | corners | {"box": number, "score": each.score}
    if not found.boxes:
        yield same


def write_coco(stream: BinaryIO, answers: Answered) -> None:
    """Write one JSON object after the last grounding."""
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    phrases: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for phrase, found in answers:
        image = images.setdefault(found.image_id, _image(len(images) + 1, phrase))
        name = str(found.extra.get("category") or found.extra.get("finding") or "phrase")
        category = categories.setdefault(name, len(categories) + 1)
        same = {"image_id": image["id"], "category_id": category, "phrase_id": found.phrase_id}
        stated = {key: found.extra[key] for key in STATED if key in found.extra}
        phrases.append(same | {"text": found.text, "present": found.present} | stated)
        for each in found.boxes:
            numbers = {"id": len(annotations) + 1, **_area(each.box), "score": each.score}
            annotations.append(numbers | same | {"text": found.text})
    kinds = [{"id": number, "name": name} for name, number in categories.items()]
    parts = {"images": list(images.values()), "categories": kinds, "annotations": annotations}
    stream.write(json.dumps({"info": {}} | parts | {"phrases": phrases}).encode() + b"\n")


def _image(number: int, phrase: Phrase) -> dict[str, Any]:
    size = {"width": phrase.width, "height": phrase.height}
    return {"id": number, "image_id": phrase.image_id, "file_name": phrase.path} | size


def _area(box: tuple[float, float, float, float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    width, height = round(x2 - x1, 2), round(y2 - y1, 2)
    return {"bbox": [x1, y1, width, height], "area": round(width * height, 2), "iscrowd": 0}


def write_radfact(stream: BinaryIO, answers: Answered) -> None:
    """Write one JSON list after the last grounding."""
    examples: dict[str, dict[str, Any]] = {}
    for phrase, found in answers:
        empty: dict[str, Any] = {"example_id": found.image_id, "prediction": [], "target": []}
        own = examples.setdefault(found.image_id, empty)
        width, height = size_of(phrase)
        own["prediction"].append(_sentence(found.text, [each.box for each in found.boxes], width, height))
        if phrase.boxes is not None:
            own["target"].append(_sentence(phrase.text, phrase.boxes, width, height))
    stream.write(json.dumps(list(examples.values()), ensure_ascii=False).encode() + b"\n")


def _sentence(text: str, found: Iterable[Box], width: int, height: int) -> dict[str, Any]:
    inside = filter(None, (boxes.clip(each, width, height) for each in found))
    shares = [
        {"x_min": x1 / width, "y_min": y1 / height, "x_max": x2 / width, "y_max": y2 / height}
        for x1, y1, x2, y2 in inside
    ]
    return {"text": text, "boxes": shares or None}


def size_of(phrase: Phrase) -> tuple[int, int]:
    """Return (width, height) of the phrase's image; raise MedgroundError if they are unknown."""
    if not phrase.width or not phrase.height:
        raise MedgroundError(f"{phrase.path}: this output format needs the width and height of the image")
    return phrase.width, phrase.height
