"""MS-CXR: radiologists' boxes for 1,162 phrases on MIMIC-CXR images (Boecking et al., 2022).

`MS_CXR_Local_Alignment_v1.0.0.csv` has one row for each box, so a phrase with two boxes fills two rows; a
box is x, y, w, h in pixels of the full-size image. v1.1.0 adds `split`. The JSON (COCO) holds the same.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import orjson

from medground import boxes, coco_ids, limits, strict_json
from medground.datasets.mimic_cxr import ids_in, study_id, subject_id
from medground.datasets.sources import (
    Row,
    Source,
    TakeBad,
    name_of,
    number,
    opened,
    refuse,
    rows,
    sift,
    warn_of,
)
from medground.errors import BadRecord, MedgroundError
from medground.records import Box, Phrase

NUMBERS = ("x", "y", "w", "h", "image_width", "image_height")
COLUMNS = {"dicom_id", "category_name", "label_text", "path", *NUMBERS}
ANNOTATION = {"id", "image_id", "category_id", "bbox", "label_text", "split", "width", "height"}
COCO_DEFAULTS = {"area", "iscrowd", "segmentation"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One box of the file, its six numbers unchecked: x, y, w, h, width and height of the image."""

    raw: bytes
    place: str
    image_id: str
    category: str
    text: str
    path: str
    numbers: tuple[Any, ...]
    names: tuple[tuple[str | int, ...], ...]  # the file's name of each number
    split: str | None
    subject: str | None
    study: str | None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Return the boxes of one phrase; raise BadRecord if one is invalid: a phrase needs all its boxes."""

    phrase_id: str
    entries: list[Entry]

    @property
    def raw(self) -> bytes:
        return b"".join(each.raw for each in self.entries)

    @property
    def place(self) -> str:
        return self.entries[0].place


def read(source: Source, take: TakeBad = refuse) -> Iterator[Phrase]:
    """Yield one phrase for each image, category and text, with all its boxes, in the order of the file.

    The file is the CSV of either version or the JSON, recognized by its first character. `phrase_id` counts
    the phrases of an image in the order of category and text, so that it is the same from each of the files.
    Boxes beyond the border are clipped, and duplicates kept once, both with a warning.
    """
    dirt: Counter[str] = Counter()
    with opened(source) as stream:
        start = stream.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        entries = _of_json if start.startswith((b"{", b"[")) else _of_csv
        groups = _groups(entries(stream, name_of(source), take))
        first: dict[str, Entry] = {}
        yield from sift(groups, lambda group: _phrase(group, dirt, first), take)
    warn_of(dirt, name_of(source))


def _groups(entries: Iterable[Entry]) -> Iterator[Group]:
    groups: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    of_image: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for entry in entries:
        groups[entry.image_id, entry.category, entry.text].append(entry)
        of_image[entry.image_id].add((entry.category, entry.text))
    rank = {image: sorted(phrases) for image, phrases in of_image.items()}
    for (image, category, text), own in groups.items():
        yield Group(f"{image}|{rank[image].index((category, text))}", own)


def _phrase(group: Group, dirt: Counter[str], known: dict[str, Entry]) -> Phrase:
    first = group.entries[0]
    _refuse_other_image(known.setdefault(first.image_id, first), group)
    path = first.path.replace("\\", "/")
    study = ids_in(path)[1]
    dirt["paths with backslashes, converted to slashes"] += path != first.path
    width, height = _size(first)
    found = [_box(entry, width, height, dirt) for entry in group.entries]
    unique = list(dict.fromkeys(found))
    dirt["duplicate boxes, kept once"] += len(found) - len(unique)
    study = study_id(first.study) if first.study else study
    return Phrase(
        image_id=first.image_id,
        phrase_id=group.phrase_id,
        subject_id=_patient(first),
        path=path,
        width=width,
        height=height,
        text=first.text,
        boxes=unique,
        category=first.category,
        split=_split(group),
        extra=({"study_id": study} if study else {}) | first.extra,
    )


def _refuse_other_image(first: Entry, group: Group) -> None:
    """Raise BadRecord if rows with one image id state another size or patient than its first row."""
    size, patient = _size(first), _patient(first)
    for each in group.entries:
        bad = None
        if _size(each) != size:
            bad = BadRecord("another size than in an earlier row of this image", *each.names[4])
        elif patient and _patient(each) not in (None, patient):
            bad = BadRecord("another patient than in an earlier row of this image", "subject_id")
        if bad:
            bad.place = each.place
            raise bad


def _patient(entry: Entry) -> str | None:
    return subject_id(entry.subject) if entry.subject else ids_in(entry.path)[0]


def _split(group: Group) -> str | None:
    """Return the split of the phrase's rows, None without one; raise BadRecord if they disagree."""
    named = [each for each in group.entries if each.split]
    for each in named[1:]:
        if each.split != named[0].split:
            bad = BadRecord("differs from the split in an earlier row of the same phrase", "split")
            bad.place = each.place
            raise bad
    return named[0].split if named else None


def _size(entry: Entry) -> tuple[int, int]:
    width, height = (number(entry.numbers[i], *entry.names[i]) for i in (4, 5))
    if min(width, height) < 1:
        raise BadRecord("expected a number of pixels above 0", *entry.names[4])
    return int(width), int(height)


def _box(entry: Entry, width: int, height: int, dirt: Counter[str]) -> Box:
    try:
        x, y, w, h = (number(entry.numbers[i], *entry.names[i]) for i in range(4))
        if w <= 0 or h <= 0:
            raise BadRecord("this box has no area", *entry.names[2])
        inside = boxes.clip((x, y, x + w, y + h), width, height)
        if inside is None:
            raise BadRecord("this box lies outside its image", *entry.names[0])
    except BadRecord as bad:
        bad.place = entry.place  # of the invalid row, not of the phrase's first row
        raise
    dirt["boxes beyond the border of their image, clipped"] += inside != (x, y, x + w, y + h)
    return boxes.rounded(inside)


def _of_csv(stream: Any, name: str, take: TakeBad) -> Iterator[Entry]:
    table = rows(stream, COLUMNS, "MS_CXR_Local_Alignment_v1.0.0.csv or v1.1.0", take, name)
    yield from sift(table, _of_row, take)


def _of_row(row: Row) -> Entry:
    return Entry(
        raw=row.raw,
        place=row.place,
        image_id=row.text("dicom_id"),
        category=row.text("category_name"),
        text=row.text("label_text"),
        path=row.text("path"),
        numbers=tuple(row.values[name] for name in NUMBERS),
        names=tuple((name,) for name in NUMBERS),
        split=row.maybe("split"),
        subject=row.maybe("subject_id"),
        study=row.maybe("study_id"),
        extra=row.others({*COLUMNS, "split", "subject_id", "study_id"}),
    )


@dataclass(frozen=True, slots=True)
class _Annotation:
    value: dict[str, Any]
    raw: bytes
    place: str


def _of_json(stream: Any, name: str, take: TakeBad) -> Iterator[Entry]:
    try:
        coco = strict_json.parse(limits.whole(stream, name).removeprefix(b"\xef\xbb\xbf"))
        images = {each["id"]: each for each in coco["images"]}
        categories = {each["id"]: each["name"] for each in coco["categories"]}
        annotations = list(coco["annotations"])
    except BadRecord as bad:
        raise MedgroundError(f"{name}: {bad.problem}") from None
    except (KeyError, TypeError):
        raise MedgroundError(f"{name}: no COCO images, categories and annotations; is this MS-CXR?") from None
    coco_ids.check(coco, name)
    found = (
        _Annotation(each, orjson.dumps(each) + b"\n", f"{name}: annotations[{i}]: ")
        for i, each in enumerate(annotations)
    )
    yield from sift(found, lambda each: _of_annotation(each, images, categories), take)


def _of_annotation(
    found: _Annotation, images: dict[Any, dict[str, Any]], categories: dict[Any, str]
) -> Entry:
    value = found.value
    image = _known(images, value, "image_id")
    key = "path" if image.get("path") else "file_name"
    path = _string(image, key)
    if path is None:
        raise BadRecord("the image has neither path nor file_name", "image_id")
    box = value.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise BadRecord("expected an array of 4", "bbox")
    return Entry(
        raw=found.raw,
        place=found.place,
        image_id=PurePosixPath(path.replace("\\", "/")).stem,
        category=_category(categories, value),
        text=_text(value.get("label_text")),
        path=path,
        numbers=(*box, image.get("width"), image.get("height")),
        names=(*(("bbox", i) for i in range(4)), ("width",), ("height",)),
        split=_string(value, "split") or _string(image, "split"),
        subject=_id(image, "subject_id"),
        study=_id(image, "study_id"),
        extra={key: each for key, each in value.items() if key not in ANNOTATION | COCO_DEFAULTS},
    )


def _known(table: dict[Any, Any], value: dict[str, Any], key: str) -> Any:
    try:
        return table[value[key]]
    except (KeyError, TypeError):
        raise BadRecord("refers to nothing in the file", key) from None


def _string(value: dict[str, Any], key: str) -> str | None:
    """Return the text under the key, None if absent; raise BadRecord for anything except text."""
    words = value.get(key)
    if words is not None and not isinstance(words, str):
        raise BadRecord("expected a string", key)
    return (words or "").strip() or None


def _id(value: dict[str, Any], key: str) -> str | None:
    """Return an id, which some copies hold as a number."""
    found = value.get(key)
    return str(found) if isinstance(found, int) else _string(value, key)


def _category(categories: dict[Any, Any], value: dict[str, Any]) -> str:
    name = _known(categories, value, "category_id")
    if not isinstance(name, str) or not name.strip():
        raise BadRecord("refers to a category without a name", "category_id")
    return name


def _text(value: Any) -> str:
    """Return the text of a phrase; some copies hold them as an array of sentences."""
    words = " ".join(map(str, value)) if isinstance(value, list) else value
    if not isinstance(words, str) or not words.strip():
        raise BadRecord("expected a text", "label_text")
    return words.strip()
