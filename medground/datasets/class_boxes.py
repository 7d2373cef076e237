"""Findings with boxes by class: one phrase for each image and class, worded by a table.

The table `class_phrases.toml` has the phrase of each class of the data sets here; users may give their own.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medground import boxes
from medground.datasets.sources import Source, TakeBad, name_of, sift, warn_of
from medground.errors import BadRecord, MedgroundError
from medground.records import Box, Phrase

TABLE = Path(__file__).with_name("class_phrases.toml")
ON_A_SIDE = 0.75  # share of a box in one half of the image, from which it lies on that side
Size = tuple[int, int]
Stated = tuple[str, str]  # phrase_id and text
Key = tuple[str, str, str | None, Stated | None]  # class, side, reader, phrase


@dataclass(frozen=True, slots=True)
class Finding:
    """One row or item of a file: an image, and a class on it with its boxes in original pixels.

    category: None for an image without a finding. size: (width, height) if the file has it.
    phrase: (phrase_id, text) if the file states it; it replaces that of the table, and may have no box.
    """

    raw: bytes
    place: str
    image_id: str
    path: str
    category: str | None = None
    found: tuple[Box, ...] = ()
    size: Size | None = None
    subject_id: str | None = None
    split: str | None = None
    reader: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    phrase: Stated | None = None


@dataclass(frozen=True)
class Rules:
    """The rules by which findings become phrases.

    templates: the phrase of each class, with {side}; keys in lower case. sides: one phrase per side. absent:
    also phrases without boxes, for each class of the file that an image does not have. sizes: (width, height)
    of images, for files that do not have it.
    """

    templates: Mapping[str, str] = field(default_factory=dict)
    sides: bool = False
    absent: bool = False
    sizes: Mapping[str, Size] = field(default_factory=dict)


def rules(
    templates: Path | None = None,
    sides: bool = False,
    absent: bool = False,
    sizes: Mapping[str, Size] | None = None,
) -> Rules:
    """Return the rules of the options; raise MedgroundError for a table that is not one."""
    return Rules(read_templates(templates or TABLE), sides, absent, sizes or {})


def read_templates(path: Path) -> dict[str, str]:
    """Return the phrase of each class, keys in lower case; raise MedgroundError for anything else."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        raise MedgroundError(f"{path}: not TOML") from None
    for name, text in table.items():
        if not isinstance(text, str) or not _worded(text, "").strip():
            raise MedgroundError(f"{path}: {name}: expected a phrase, with {{side}} if it has a side")
        if re.findall(r"[{}]", text.replace("{side}", "")):
            raise MedgroundError(f"{path}: {name}: the only placeholder is {{side}}")
    return {name.casefold(): text for name, text in table.items()}


@dataclass
class _Annotated:
    """An image of the file, with its boxes."""

    first: Finding
    size: Size | None
    found: dict[Key, list[Box]] = field(default_factory=dict)
    extra: dict[Key, dict[str, Any]] = field(default_factory=dict)


def phrases(
    findings: Iterable[Finding],
    source: Source,
    take: TakeBad,
    dirt: Counter[str] | None = None,
    **options: Any,
) -> Iterator[Phrase]:
    """Yield the phrases of each image, in the order of the file; the whole file is held in memory.

    options: those of `rules`. Boxes are clipped to their image, and a duplicate is kept once. Warnings
    count both, and what the reader has put into `dirt`.
    """
    how, dirt = rules(**options), Counter() if dirt is None else dirt
    images: dict[str, _Annotated] = {}
    names: dict[str, None] = {}  # classes in the order of the file
    for _ in sift(findings, lambda each: _add(each, images, names, how, dirt), take):
        pass
    for image in images.values():
        yield from _of_image(image, names, how)
    warn_of(dirt, name_of(source))


def _add(
    each: Finding, images: dict[str, _Annotated], names: dict[str, None], how: Rules, dirt: Counter[str]
) -> None:
    if each.image_id in images:
        _refuse_other_image(images[each.image_id].first, each)
    image = images.get(each.image_id) or _Annotated(each, each.size or how.sizes.get(each.image_id))
    inside = [_inside(box, image.size, dirt) for box in each.found]
    images.setdefault(each.image_id, image)
    if each.category is None:
        return
    names.setdefault(each.category)
    by_side = not each.phrase and how.sides and "{side}" in how.templates.get(each.category.casefold(), "")
    if each.phrase:
        image.found.setdefault((each.category, "", each.reader, each.phrase), [])
    for box in inside:
        key = each.category, _side(box, image.size) if by_side else "", each.reader, each.phrase
        own = image.found.setdefault(key, [])
        image.extra.setdefault(key, each.extra)
        if box in own:
            dirt["duplicate boxes, kept once"] += 1
        else:
            own.append(box)


def _refuse_other_image(first: Finding, each: Finding) -> None:
    """Raise BadRecord if two rows with one image id are of images with another file, size or patient."""
    for name, what in (("path", "file"), ("size", "size"), ("subject_id", "patient")):
        known, stated = getattr(first, name), getattr(each, name)
        if known and stated and known != stated:
            raise BadRecord(f"another {what} than in an earlier row of this image")


def _inside(box: Box, size: Size | None, dirt: Counter[str]) -> Box:
    if box[2] <= box[0] or box[3] <= box[1]:
        raise BadRecord("this box has no area")
    if size is None:
        return boxes.rounded(box)
    inside = boxes.clip(box, *size)
    if inside is None:
        raise BadRecord("this box lies outside its image")
    dirt["boxes beyond the border of their image, clipped"] += inside != box
    return boxes.rounded(inside)


def _side(box: Box, size: Size | None) -> str:
    """Return "right", the left half of the image, "left", or "" for a box on neither side."""
    if size is None:
        raise MedgroundError("--sides needs the width of each image: give --image-sizes")
    middle, width = size[0] / 2, box[2] - box[0]
    if (min(box[2], middle) - box[0]) / width >= ON_A_SIDE:
        return "right"
    return "left" if (box[2] - max(box[0], middle)) / width >= ON_A_SIDE else ""


def _of_image(image: _Annotated, names: Iterable[str], how: Rules) -> Iterator[Phrase]:
    there = {category for category, *_ in image.found}
    for key, found in image.found.items():
        yield _phrase(image, how, key, found)
    if how.absent:
        for category in names:
            if category not in there:
                yield _phrase(image, how, (category, "", None, None), [])


def _phrase(image: _Annotated, how: Rules, key: Key, found: list[Box]) -> Phrase:
    (category, side, reader, stated), first = key, image.first
    width, height = image.size or (None, None)
    named = [first.image_id, category, *([side] if side else []), *([reader] if reader else [])]
    text = _worded(how.templates.get(category.casefold(), _plain(category)), side)
    phrase_id, text = stated or ("|".join(named), text)
    more = {"side": side} if side else {}
    more |= {"reader": reader} if reader else {}
    return Phrase(
        image_id=first.image_id,
        phrase_id=phrase_id,
        subject_id=first.subject_id,
        path=first.path,
        width=width,
        height=height,
        text=text,
        boxes=found,
        category=category,
        split=first.split,
        extra=image.extra.get(key, {}) | more,
    )


def phrase_of(category: str, templates: Mapping[str, str]) -> str:
    """Return the phrase of a class without a side: that of the table, else its name in lower case."""
    return _worded(templates.get(category.casefold(), _plain(category)), "")


def _plain(category: str) -> str:
    return category.replace("_", " ").lower()


def _worded(template: str, side: str) -> str:
    return " ".join(template.replace("{side}", side).split())
