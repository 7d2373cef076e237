"""Groundings of any model, with the images they are on: what `render` draws and converts.

The path and the size of an image are, in this order, those of its phrase record, those that the grounding
states (`path`, `width`, `height`), and those of the file whose name is the image_id.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from medground import boxes, images
from medground.errors import BadRecord, MedgroundError
from medground.records import Grounding, Phrase

Key = tuple[str, str | None]
STATED = ("subject_id", "category", "split")


class Rendering:
    """The phrases of groundings: those given, or new ones for images in a folder."""

    def __init__(self, folder: Path, phrases: Iterable[Phrase] = ()):
        self.folder = folder
        self._known: dict[Key, Phrase] = {}
        for each in phrases:
            self._known[each.image_id, each.phrase_id] = each
            self._known.setdefault((each.image_id, None), replace(each, boxes=None))
        self._sizes: dict[str, tuple[int, int]] = {}
        self._files: list[dict[str, list[str]]] = []

    def check(self, found: Grounding) -> None:
        """Raise BadRecord for a grounding without an image, and for one with a box outside its image."""
        try:
            phrase = self._phrase(found)
        except BadRecord:
            raise
        except MedgroundError as problem:
            raise BadRecord(str(problem), "image_id") from problem
        outline = (each.box for each in found.boxes)
        boxes.refuse_outside(outline, phrase.width, phrase.height, "boxes")

    def pairs(self, groundings: Iterable[Grounding]) -> Iterator[tuple[Phrase, Grounding]]:
        """Yield each grounding, which has passed `check`, with its phrase."""
        for found in groundings:
            yield self._phrase(found), found

    def _phrase(self, found: Grounding) -> Phrase:
        """Return the phrase of a grounding, with the size of its image."""
        known = self._known.get((found.image_id, found.phrase_id))
        known = known or self._known.get((found.image_id, None)) or self._stated(found)
        if not known.width or not known.height:
            width, height = self._size(known.path)
            known = replace(known, width=width, height=height)
        return replace(known, phrase_id=found.phrase_id, text=found.text)

    def _stated(self, found: Grounding) -> Phrase:
        path = found.extra.get("path")
        if path is not None and not isinstance(path, str):
            raise BadRecord("expected the path of an image", "path")
        own: dict[str, Any] = {key: value for key in STATED if isinstance(value := found.extra.get(key), str)}
        return Phrase(
            image_id=found.image_id,
            phrase_id=found.phrase_id,
            path=path or self._found(found.image_id),
            width=_side(found, "width"),
            height=_side(found, "height"),
            text=found.text,
            **own,
        )

    def _size(self, path: str) -> tuple[int, int]:
        if path not in self._sizes:
            self._sizes[path] = images.size(self.folder / path)
        return self._sizes[path]

    def _found(self, image_id: str) -> str:
        """Return the path of the only file whose path or name, with or without its suffix, is the image_id.

        A path in the folder comes before a name.
        """
        self._files = self._files or _by_name(self.folder)
        paths = next((each[image_id] for each in self._files if image_id in each), [])
        if len(paths) != 1:
            problem = "several images have" if paths else "no image has"
            way = "give --phrases, or the key path"
            raise BadRecord(f"{problem} this name in the folder of images; {way}", "image_id")
        return paths[0]


def _side(found: Grounding, key: str) -> int | None:
    side: Any = found.extra.get(key)
    if side is not None and (not isinstance(side, int) or isinstance(side, bool) or side < 1):
        raise BadRecord("expected a number of pixels above 0", key)
    return side


def _by_name(folder: Path) -> list[dict[str, list[str]]]:
    """Return the paths of the images in a folder by path and by name, each with and without its suffix."""
    by_path: dict[str, list[str]] = {}
    by_name: dict[str, list[str]] = {}
    for root, _, names in os.walk(folder):
        for name in sorted(names):
            if images.is_image(name):
                path = PurePath(root, name).relative_to(folder)
                for each in (str(path), str(path.with_suffix(""))):
                    by_path.setdefault(each, []).append(str(path))
                for each in (path.name, path.stem):
                    by_name.setdefault(each, []).append(str(path))
    return [by_path, by_name]
