"""Predictions in COCO's JSON: a list of results, or an object with images, annotations and categories.

A result has bbox [x, y, w, h] and, optionally, score, `phrase_id`, `image_id` and `category_id`. Numbers of
images are looked up in `images`: `image_id` (as `medground ground --output-format coco` writes it) or
`file_name`. If several phrases of an image are possible, the name of the category decides.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, BinaryIO

from medground import coco_ids, jsonl
from medground.errors import BadRecord, MedgroundError
from medground.evaluation.inputs import files, items, others_keys
from medground.evaluation.inputs.readers import Answer, Take, corners
from medground.records import Box

Names = Mapping[Any, str]
Images = Mapping[Any, tuple[str, Mapping[str, Any]]]  # the name and the object of each image by its number


def read_coco(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each result."""
    found = items.whole(stream, stream.name)
    phrases: list[Any] = []
    results, images = found, None
    classes: Names = {}
    if isinstance(found, dict) and "annotations" in found:
        results, phrases = found["annotations"], found.get("phrases", [])
        images, classes = _images(found, stream.name), _classes(found)
    if not (isinstance(results, list) and isinstance(phrases, list)):
        raise MedgroundError(f"{stream.name}: expected a list of results")
    listed = items.rows(phrases, stream.name, partial(_take_phrase, take, images), "phrases")
    rows = items.rows(results, stream.name, partial(_take_result, take, images, classes))
    items.hand_on([*listed, *rows], bad_lines, stream.name)


def image_names(stream: BinaryIO) -> dict[str, str]:
    """Return the name of each image of a COCO file by its id, as text."""
    source = jsonl.name_of(stream)
    found = items.whole(stream, source)
    if not isinstance(found, dict):
        raise MedgroundError(f"{source}: expected an object with images")
    return {str(key): name for key, (name, _) in _images(found, source).items()}


def _images(found: Mapping[str, Any], source: str) -> Images:
    """Return each image by its number, named by image_id or file_name."""
    try:
        coco_ids.check(found, source)
        return {
            each["id"]: (str(each.get("image_id", each.get("file_name"))), each) for each in found["images"]
        }
    except (KeyError, TypeError, AttributeError):
        raise MedgroundError(f"{source}: images: expected objects with id and file_name") from None


def _classes(found: Mapping[str, Any]) -> Names:
    try:
        return {each["id"]: str(each["name"]) for each in found.get("categories") or ()}
    except (KeyError, TypeError):
        return {}


def _take_phrase(take: Take, images: Images | None, listed: Any) -> None:
    """Pass on a phrase without boxes; results add them."""
    if not isinstance(listed, dict):
        raise BadRecord("expected an object")
    phrase = others_keys.text_of(listed.get("phrase_id"), "phrase_id")
    image, about = _image(listed, images)
    take(Answer(image, phrase, [], image=about))


def _take_result(take: Take, images: Images | None, classes: Names, result: Any) -> None:
    if not isinstance(result, dict):
        raise BadRecord("expected an object with bbox and score")
    box, score = _box(result), items.number_of(result.get("score", 1), "score")
    phrase = others_keys.text_of(result.get("phrase_id"), "phrase_id")
    category = result.get("category_id")
    label = classes.get(category) if isinstance(category, int | str) else None
    try:
        image, about = _image(result, images)
        take(Answer(image, phrase, [(box, score)], label=label, image=about))
    except BadRecord as bad:
        if images is None and isinstance(result.get("image_id"), int) and bad.path == ("image_id",):
            bad.problem += "; a number needs --coco-images, the file that lists the images"
        raise


def _image(result: Mapping[str, Any], images: Images | None) -> tuple[str | None, Mapping[str, Any]]:
    """Return the name of a result's image, and what the file states of it."""
    image = result.get("image_id")
    if image is None and result.get("phrase_id") is None:
        raise BadRecord("this key is missing", "image_id")
    if images is None or image is None:
        return others_keys.text_of(image, "image_id"), {}
    if not isinstance(image, int | str) or image not in images:
        raise BadRecord("no image of the file has this id", "image_id")
    return images[image]


def _box(result: Mapping[str, Any]) -> Box:
    box = result.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise BadRecord("expected bbox [x, y, w, h]", "bbox")
    return corners([items.number_of(each, "bbox", place) for place, each in enumerate(box)])
