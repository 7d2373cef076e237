"""The ids of a COCO file: each names one image, category or annotation."""

from collections.abc import Iterator, Mapping
from typing import Any

from medground.errors import MedgroundError

PARTS = ("images", "categories", "annotations")


def check(coco: Mapping[str, Any], source: object) -> None:
    """Raise MedgroundError with both places if an id is there twice in a part of the file.

    Items without an id are passed over: the readers refuse them where they need one.
    """
    for part in PARTS:
        first: dict[Any, int] = {}
        for number, key in _ids(coco.get(part)):
            if first.setdefault(key, number) != number:
                raise MedgroundError(f"{source}: {part}[{number}]: id: the same as of {part}[{first[key]}]")


def _ids(part: Any) -> Iterator[tuple[int, int | str]]:
    for number, each in enumerate(part if isinstance(part, list) else ()):
        key = each.get("id") if isinstance(each, dict) else None
        if isinstance(key, int | str):
            yield number, key
