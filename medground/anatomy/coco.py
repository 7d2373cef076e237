"""Masks and boxes in COCO's JSON: one file for many images, or one per image, as in CXAS.

Annotations may be run lengths (packed or not), polygons, or only boxes [x, y, width, height]. An image is
identified by its `file_name`: the path of the record, or the file name without its suffix. Its `width` and
`height` may be missing if the run lengths have a size.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from medground import coco_ids, limits, run_lengths, strict_json
from medground.anatomy.mask_files import Part
from medground.errors import BadRecord, MedgroundError
from medground.limits import MAX_PIXELS

FINE = 5  # boundary steps per pixel
LONGEST = MAX_PIXELS // 8  # steps of a boundary, FINE to a pixel: each needs about 100 bytes
FARTHEST = 100_000  # pixels: polygons with coordinates beyond would need much memory


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
        with path.open("rb") as stream:
            return _index(path, strict_json.parse_loose(limits.whole(stream, path)))
    except BadRecord as bad:
        raise MedgroundError(f"{path}: damaged, truncated or {bad.problem}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise MedgroundError(f"{path}: not COCO: images, annotations, categories ({error})") from error


def _index(path: Path, given: Any) -> Coco:
    found = Coco(path, {each["id"]: _text(each, "name") for each in given["categories"]})
    images = list(_flat(given["images"]))
    coco_ids.check(given | {"images": images}, path)
    for image in images:
        found.sizes[image["id"]] = _size(image)
        name = PurePath(_text(image, "file_name"))
        for known in {str(name), str(name.with_suffix("")), name.stem}:
            # a name shared by two images identifies neither
            found.by_name[known] = image["id"] if known not in found.by_name else None
    for annotation in given["annotations"]:
        found.of_image[annotation["image_id"]].append(annotation)
    return found


def _text(item: Mapping[str, Any], key: str) -> str:
    """Return the text under a key; raise TypeError for a value of another type."""
    if not isinstance(item[key], str):
        raise TypeError(f"{key}: expected a text")
    return str(item[key])


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (width, height) of an image, None without them; raise TypeError if they cannot be sizes."""
    width, height = image.get("width"), image.get("height")
    if not width or not height:
        return None
    whole = isinstance(width, int) and isinstance(height, int)
    if not whole or min(width, height) < 1 or width * height > MAX_PIXELS:
        raise TypeError("width and height: expected positive integers of at most 80 million pixels")
    return width, height


def _flat(images: Any) -> Iterator[Any]:
    """CXAS packs its one image twice."""
    for each in images:
        yield from each if isinstance(each, list) else [each]


def _outline(annotation: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return (H, W) of the annotation's outline, or of its box if it has no outline."""
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return run_lengths.mask_of(outline["size"], outline["counts"])
    width, height = size
    if outline:
        together = np.zeros((height, width), bool)
        for each in outline:
            together |= polygon_mask(each, width, height)
        return together
    x, y, w, h = (float(each) for each in annotation["bbox"])
    inside = Image.new("1", (width, height))
    ImageDraw.Draw(inside).rectangle((round(x), round(y), round(x + w) - 1, round(y + h) - 1), fill=1)
    return np.asarray(inside)


def polygon_mask(polygon: Sequence[float], width: int, height: int) -> np.ndarray:
    """Return the (H, W) mask of a polygon [x1, y1, x2, y2, ...], equal to that of COCO's own code.

    The boundary is traced on a grid five times as fine. Each point where it crosses the center line of a
    column flips all pixels from there on, in column-major order [pycocotools, rleFrPoly in maskApi.c]. Raises
    ValueError for fewer than three points, for coordinates that are not finite or far outside, and for a
    boundary that would need much memory.
    """
    points = np.array(polygon, np.float64).reshape(-1, 2)
    if len(points) < 3 or not np.isfinite(points).all() or np.abs(points).max() > FARTHEST:
        raise ValueError("a polygon with too few points, or far outside the image")
    fine = np.trunc(FINE * points + 0.5).astype(np.int64)
    corners = np.concatenate([fine, fine[:1]])
    if np.abs(np.diff(corners, axis=0)).max(axis=1).sum() > LONGEST:
        raise ValueError("a polygon with too long a boundary")
    u, v = _boundary(corners)
    crossed = u[1:] != u[:-1]
    left = np.where(u[1:] < u[:-1], u[1:], u[1:] - 1)[crossed]
    column = (left + 0.5) / FINE - 0.5
    row = np.ceil(np.clip((np.minimum(v[1:], v[:-1])[crossed] + 0.5) / FINE - 0.5, 0, height))
    inside = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    flips = (column * height + row)[inside].astype(np.int64)
    parity = np.cumsum(np.bincount(flips, minlength=width * height + 1)[: width * height]) % 2
    return parity.astype(bool).reshape(width, height).T


def _boundary(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the integer (P,) x and (P,) y of every step along the edges between the (N, 2) corners."""
    steps = [_edge(start, end) for start, end in pairwise(corners)]
    u, v = np.concatenate(steps, axis=1)
    return u, v


def _edge(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return (2, n) points from start to end, one per step of the longer axis."""
    long, short = (0, 1) if abs(end[0] - start[0]) >= abs(end[1] - start[1]) else (1, 0)
    flip = start[long] > end[long]
    first, last = (end, start) if flip else (start, end)
    count = int(last[long] - first[long])
    slope = (last[short] - first[short]) / count if count else 0.0
    along = np.arange(count, -1, -1) if flip else np.arange(count + 1)
    points = np.empty((2, count + 1), np.int64)
    points[long] = along + first[long]
    points[short] = np.trunc(first[short] + slope * along + 0.5)
    return points
