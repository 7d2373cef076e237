"""Sizes of images from JSON lines, for data sets whose tables do not have them."""

from pathlib import Path
from typing import Any

from medground import jsonl
from medground.errors import BadRecord
from medground.records import Image


def read(path: Path, bad_lines: jsonl.BadLines) -> dict[str, tuple[int, int]]:
    """Return (width, height) by image_id from JSON lines such as those of detect-anatomy.

    A line without a size is a bad line, and so is one with another size than an earlier one of its image.
    """
    found: dict[str, tuple[int, int]] = {}

    def keep(image: Image) -> None:
        size = _pixels(image, "width"), _pixels(image, "height")
        if found.setdefault(image.image_id, size) != size:
            raise BadRecord("another size than in an earlier line of this image", "width")

    with path.open("rb") as stream:
        for _ in jsonl.read(stream, Image, bad_lines, keep):
            pass
    return found


def _pixels(image: Image, key: str) -> int:
    side: Any = image.extra.get(key)
    if not isinstance(side, int) or isinstance(side, bool) or side < 1:
        raise BadRecord("expected a number of pixels above 0", key)
    return side
