"""Any file of COCO detections: one phrase for each image and category, with all its boxes.

Files of `ground --output-format coco` state phrases: annotations have `phrase_id` and `text`, and a list
`phrases` has those without boxes. These phrases are kept as they are.

{"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}], "annotations":
[{"image_id", "category_id", "bbox": [x, y, width, height]}]}; ids are numbers or texts.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from medground import coco_ids
from medground.datasets.class_boxes import Finding, phrases
from medground.datasets.json_items import JsonItem, items_of, read_json
from medground.datasets.sources import Source, TakeBad, name_of, number, refuse, sift
from medground.errors import BadRecord, MedgroundError
from medground.records import Phrase


def read(source: Source, take: TakeBad = refuse, **options: Any) -> Iterator[Phrase]:
    """Yield the phrases of each image, the images in the order of the file."""
    name, held = name_of(source), read_json(source)
    if not isinstance(held, dict) or any(not isinstance(held.get(part), list) for part in coco_ids.PARTS):
        raise MedgroundError(f"{name}: no COCO images, categories and annotations")
    coco_ids.check(held, name)
    images = {_key(each, "id"): each for each in sift(items_of(held["images"], name, "images"), _image, take)}
    names = dict(sift(items_of(held["categories"], name, "categories"), _category, take))
    listed = items_of(held["annotations"], name, "annotations")
    found = [each["finding"] for each in images.values()]
    own = held.get("phrases")
    stated = items_of(own if isinstance(own, list) else [], name, "phrases")
    found += sift(stated, lambda each: _finding(each, images, names), take)
    found += sift(listed, lambda each: _boxed(each, _finding(each, images, names)), take)
    yield from phrases(found, source, take, **options)


def _key(value: dict[str, Any], key: str) -> str | int:
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise BadRecord("expected a number or a text", key)
    return found


def _image(item: JsonItem) -> dict[str, Any]:
    """Return an image of the file, with a `finding` that has no category."""
    value = item.value if isinstance(item.value, dict) else {}
    key, path = _key(value, "id"), value.get("file_name")
    if not isinstance(path, str) or not path.strip():
        raise BadRecord("expected the name of an image", "file_name")
    width, height = (number(value.get(each), each) for each in ("width", "height"))
    if min(width, height) < 1:
        raise BadRecord("expected a number of pixels above 0", "width")
    image = value.get("image_id")
    named = image if isinstance(image, str) else PurePosixPath(path.replace("\\", "/")).stem
    finding = Finding(item.raw, item.place, named, path, size=(int(width), int(height)))
    return {"id": key, "finding": finding}


def _category(item: JsonItem) -> tuple[str | int, str]:
    value = item.value if isinstance(item.value, dict) else {}
    name = value.get("name")
    if not isinstance(name, str) or not name.strip():
        raise BadRecord("expected a name", "name")
    return _key(value, "id"), name


def _finding(item: JsonItem, images: dict[Any, dict[str, Any]], names: dict[str | int, str]) -> Finding:
    value = item.value if isinstance(item.value, dict) else {}
    image = images.get(_key(value, "image_id"))
    if image is None:
        raise BadRecord("no image of the file has this id", "image_id")
    category = names.get(_key(value, "category_id"))
    if category is None:
        raise BadRecord("no category of the file has this id", "category_id")
    known: Finding = image["finding"]
    return replace(known, raw=item.raw, place=item.place, category=category, phrase=_stated(value))


def _stated(value: dict[str, Any]) -> tuple[str, str] | None:
    """Return the phrase_id and the text of an item; None if it states no phrase."""
    name, text = value.get("phrase_id"), value.get("text")
    if isinstance(name, str) and isinstance(text, str) and name and text.strip():
        return name, text
    return None


def _boxed(item: JsonItem, finding: Finding) -> Finding:
    """Return the finding of an annotation with its box."""
    box = item.value.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise BadRecord("expected an array of 4", "bbox")
    x, y, width, height = (number(each, "bbox", n) for n, each in enumerate(box))
    return replace(finding, found=((x, y, x + width, y + height),))
