"""Masks and boxes in COCO's JSON: one file for many images, or one per image, as in CXAS.

Annotations may be run lengths (packed or not), polygons, or boxes [x, y, width, height] alone. An image is
identified by its `file_name`: the path of the record, or the file name without its suffix. Its `width` and
`height` may be missing if the run lengths have a size.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from medground.anatomy.mask_files import Part
from medground.errors import MedgroundError
from medground.images import MAX_PIXELS


@dataclass
class Coco:
    """The annotations of a file by image, held in memory."""

    path: Path
    names: dict[Any, str] = field(default_factory=dict)
    sizes: dict[Any, tuple[int, int] | None] = field(default_factory=dict)
    by_name: dict[str, Any] = field(default_factory=dict)
    of_image: dict[Any, list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def image(self, names: list[str]) -> Any | None:
        """Return the id of the image with one of these names; None if there is none."""
        return next((self.by_name[name] for name in names if self.by_name.get(name) is not None), None)

    def parts(self, image: Any, image_size: tuple[int, int]) -> Iterator[Part]:
        """Yield the outline of each annotation; `image_size` is used if the file has no size."""
        for number, annotation in enumerate(self.of_image[image]):
            try:
                name = self.names[annotation["category_id"]]
                yield name, _outline(annotation, self.sizes[image] or image_size), None
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                place = f"{self.path}: annotation {number} of image {image}"
                raise MedgroundError(f"{place}: not a COCO annotation ({type(error).__name__})") from error


def load(path: Path) -> Coco:
    """Return the file; raises MedgroundError if it is damaged or not COCO."""
    try:
        return _index(path, json.loads(path.read_bytes()))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise MedgroundError(f"{path}: damaged, truncated or not JSON") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise MedgroundError(f"{path}: not COCO: images, annotations, categories ({error})") from error


def _index(path: Path, given: Any) -> Coco:
    found = Coco(path, {each["id"]: each["name"] for each in given["categories"]})
    for image in _flat(given["images"]):
        height, width = image.get("height"), image.get("width")
        found.sizes[image["id"]] = (int(width), int(height)) if width and height else None
        name = PurePath(image["file_name"])
        for known in {str(name), str(name.with_suffix("")), name.stem}:
            # a name shared by two images identifies neither
            found.by_name[known] = image["id"] if known not in found.by_name else None
    for annotation in given["annotations"]:
        found.of_image[annotation["image_id"]].append(annotation)
    return found


def _flat(images: Any) -> Iterator[Any]:
    """CXAS packs its one image twice."""
    for each in images:
        yield from each if isinstance(each, list) else [each]


def _outline(annotation: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return (H, W) of the annotation's outline, or of its box if it has no outline."""
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return _runs(outline)
    width, height = size
    inside = Image.new("1", (width, height))
    draw = ImageDraw.Draw(inside)
    for polygon in outline or ():
        draw.polygon(
            [each - 0.5 for each in polygon], fill=1
        )  # PIL's pixels have their centre at whole numbers
    if not outline:
        x, y, w, h = (float(each) for each in annotation["bbox"])
        draw.rectangle((round(x), round(y), round(x + w) - 1, round(y + h) - 1), fill=1)
    return np.asarray(inside)


def _runs(outline: Mapping[str, Any]) -> np.ndarray:
    """The (H, W) mask of run lengths, column by column, the first run outside."""
    height, width = (int(each) for each in outline["size"])
    if not 0 < height * width <= MAX_PIXELS:
        raise ValueError("too large")
    counts = outline["counts"]
    lengths = np.array(counts if isinstance(counts, list) else _unpacked(counts), np.int64)
    if lengths.min(initial=0) < 0 or lengths.sum() != height * width:
        raise ValueError("run lengths that do not fill the image")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """COCO's packed run lengths: each is the difference to the last but one, five bits per character from "0"
    on; the sixth bit marks a continuation, the highest of the last five is the sign."""
    lengths: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths
