"""Exports of annotation tools -> phrases with boxes: Label Studio (JSON) and CVAT (XML 1.1).

`ground --output-format label-studio` and `cvat` write files with pre-annotations. After they are corrected by
hand and exported, these readers return the same phrases with the corrected boxes; ids are kept. Files that
began in the tool work too: there, each image and label is a phrase.

Label Studio  a JSON array of tasks; a rectangle has x, y, width, height in percent of the image.
CVAT          <image name width height><box label xtl ytl xbr ybr><attribute name="phrase_id">...; pixels. A
              <tag> of an image with the attribute phrase_id states a phrase without a box.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

from medground import boxes, limits
from medground.datasets.json_items import JsonItem, items
from medground.datasets.sources import Source, TakeBad, name_of, number, opened, refuse, sift, warn_of
from medground.errors import BadRecord, MedgroundError
from medground.records import Box, Phrase

log = logging.getLogger(__name__)
KEPT = ("image_id", "phrase_id", "subject_id", "path", "text", "category", "split")
RECTANGLE = "rectanglelabels"


def read_label_studio(source: Source, take: TakeBad = refuse) -> Iterator[Phrase]:
    """Yield the phrases of the annotated tasks; warnings count tasks without, or with several annotations."""
    dirt: Counter[str] = Counter()
    for some in sift(items(source, "an export of Label Studio"), lambda item: _of_task(item, dirt), take):
        yield from some
    warn_of(dirt, name_of(source))


def _of_task(item: JsonItem, dirt: Counter[str]) -> list[Phrase]:
    task = item.value if isinstance(item.value, dict) else {}
    data, given = task.get("data"), task.get("annotations")
    if not isinstance(data, dict):
        raise BadRecord("expected an object", "data")
    if not isinstance(given, list | None):
        raise BadRecord("expected an array", "annotations")
    made = [each for each in given or () if isinstance(each, dict) and not each.get("was_cancelled")]
    if not made:
        dirt["tasks without an annotation, left out"] += 1
        return []
    dirt["tasks with several annotations, of which the last counts"] += len(made) > 1
    found = _rectangles(made[-1].get("result"))
    if data.get("phrase_id"):
        return [_kept(data, [box for _, box, _ in found], found[0][2] if found else None)]
    return _by_label(data, found)


Rectangle = tuple[str, Box, tuple[int, int]]  # label, box in pixels, (width, height) of the image


def _rectangles(result: Any) -> list[Rectangle]:
    if not isinstance(result, list):
        raise BadRecord("expected an array", "annotations", "result")
    found = []
    for n, each in enumerate(result):
        if isinstance(each, dict) and each.get("type") == RECTANGLE:
            found.append(_rectangle(each, "annotations", "result", n))
    return found


def _rectangle(each: dict[str, Any], *path: str | int) -> Rectangle:
    value = each.get("value")
    if not isinstance(value, dict):
        raise BadRecord("expected an object", *path, "value")
    if value.get("rotation"):
        raise BadRecord("a rotated rectangle: only upright boxes can be used", *path, "value", "rotation")
    width, height = (number(each.get(key), *path, key) for key in ("original_width", "original_height"))
    x, y, w, h = (number(value.get(key), *path, "value", key) for key in ("x", "y", "width", "height"))
    box = x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100
    inside = boxes.clip(box, width, height)
    if inside is None:
        raise BadRecord("a box without area, or outside its image", *path, "value")
    labels = value.get(RECTANGLE)
    label = labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], str) else ""
    return label, boxes.rounded(inside), (int(width), int(height))


def _kept(data: dict[str, Any], found: list[Box], size: tuple[int, int] | None) -> Phrase:
    """Return the phrase of a task that ground wrote."""
    values = {key: data[key] for key in KEPT if data.get(key) is not None}
    for key, value in values.items():
        if not isinstance(value, str):
            raise BadRecord("expected a text", "data", key)
    if missing := [key for key in ("image_id", "path", "text") if key not in values]:
        raise BadRecord("expected a text", "data", missing[0])
    if size is None and data.get("width") and data.get("height"):
        size = int(number(data["width"], "data", "width")), int(number(data["height"], "data", "height"))
    width, height = size or (None, None)
    return Phrase(**values, width=width, height=height, boxes=found)


def _by_label(data: dict[str, Any], found: list[Rectangle]) -> list[Phrase]:
    """Return a phrase for each label of an image."""
    path = data.get("image")
    if not isinstance(path, str) or not path.strip():
        raise BadRecord("expected the address of an image", "data", "image")
    image = PurePosixPath(path).stem
    by_label: dict[str, list[Rectangle]] = {}
    for each in found:
        by_label.setdefault(each[0], []).append(each)
    return [
        Phrase(
            image_id=image,
            phrase_id=f"{image}|{label}",
            path=path,
            width=some[0][2][0],
            height=some[0][2][1],
            text=label,
            boxes=[box for _, box, _ in some],
        )
        for label, some in by_label.items()
        if label
    ]


@dataclass(frozen=True, slots=True)
class _Element:
    element: ElementTree.Element
    raw: bytes
    place: str


def read_cvat(source: Source, take: TakeBad = refuse) -> Iterator[Phrase]:
    """Yield the phrases of each image of a file "CVAT for images 1.1", in the order of the file."""
    name = name_of(source)
    with opened(source) as stream:
        root = _parsed(limits.whole(stream, name), name)
    elements = (
        _Element(each, ElementTree.tostring(each) + b"\n", f"{name}: image {n}: ")
        for n, each in enumerate(root.iter("image"))
    )
    for some in sift(elements, _of_image, take):
        yield from some


def _parsed(content: bytes, name: str) -> ElementTree.Element:
    """Return the root; raise MedgroundError for another file, and for one that declares entities."""
    try:
        text = content.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise MedgroundError(f"{name}: XML with declarations of its own; export it from CVAT again")
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError):
        raise MedgroundError(f"{name}: damaged, truncated or not XML") from None
    if root.tag != "annotations":
        raise MedgroundError(f'{name}: not an export "CVAT for images 1.1"')
    return root


def _of_image(item: _Element) -> list[Phrase]:
    image = item.element
    path = image.get("name", "")
    if not path.strip():
        raise BadRecord("expected the name of an image", "name")
    width, height = (int(number(image.get(key), key)) for key in ("width", "height"))
    found: dict[str, tuple[dict[str, str], list[Box]]] = {}
    for each in (*image.iter("tag"), *image.iter("box")):
        values = {str(one.get("name")): one.text or "" for one in each.iter("attribute")}
        key = values.get("phrase_id") or str(each.get("label", ""))
        _, own = found.setdefault(key, (values | {"label": each.get("label", "")}, []))
        if each.tag == "box":
            own.append(_box(each, width, height))
    return [
        _of_values(path, (width, height), key, values, own) for key, (values, own) in found.items() if key
    ]


def _box(element: ElementTree.Element, width: int, height: int) -> Box:
    if number(element.get("rotation") or 0, "rotation"):
        raise BadRecord("a rotated box: only upright boxes can be used", "rotation")
    x1, y1, x2, y2 = (number(element.get(key), key) for key in ("xtl", "ytl", "xbr", "ybr"))
    inside = boxes.clip((x1, y1, x2, y2), width, height)
    if inside is None:
        raise BadRecord("a box without area, or outside its image", "xtl")
    return boxes.rounded(inside)


def _of_values(
    path: str, size: tuple[int, int], key: str, values: dict[str, str], found: list[Box]
) -> Phrase:
    image = values.get("image_id") or PurePosixPath(path).stem
    more: dict[str, Any] = {
        name: values[name] for name in ("subject_id", "category", "split") if values.get(name)
    }
    return Phrase(
        image_id=image,
        phrase_id=key if values.get("phrase_id") else f"{image}|{key}",
        path=path,
        width=size[0],
        height=size[1],
        text=values.get("text") or values["label"],
        boxes=found,
        **more,
    )
