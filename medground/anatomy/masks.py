"""Outlines of structures from segmentation models -> boxes of our regions.

`masks.toml` maps the classes of each model to regions, and has rules that derive regions without a class.
Letters: H x W pixels of the mask's own grid, which may be coarser than the image.
Shapes are in pixels of that grid; `Frame` converts their boxes to the image.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medground import boxes
from medground.anatomy import regions
from medground.errors import MedgroundError
from medground.records import Box, Region

Mask = NDArray[Any]
Fit = Literal["stretch", "crop", "letterbox"]
FITS: tuple[Fit, ...] = ("stretch", "crop", "letterbox")
SAME_SHAPE = 0.02  # maximum relative difference of the aspect ratios of a mask and its image
SPECK = 0.1  # a component smaller than this share of the largest one is noise
LEAST = 1e-4  # a structure smaller than this share of the image is ignored
HELPERS = frozenset({"diaphragm"})  # helper structures of rules that are not regions


class NoFit(MedgroundError):
    """Masks that do not match their image; the caller adds the image's name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A structure: its box, which of the box's pixels are in it (None: all), and a score in [0, 1]."""

    box: Box
    pixels: NDArray[np.bool_] | None = None
    score: float = 1.0


def shape_of(inside: NDArray[np.bool_], likely: NDArray[np.floating[Any]] | None = None) -> Shape | None:
    """Return the structure of a (H, W) mask without its specks, None if almost nothing is left.

    Components with at least `SPECK` of the largest one's pixels count. The score is the mean of `likely`
    inside, 1 without it.
    """
    rows, columns = _span(inside.any(axis=1)), _span(inside.any(axis=0))
    if rows is None or columns is None:
        return None
    kept = _without_specks(inside[rows, columns])
    if kept.sum() < LEAST * inside.size:
        return None
    score = 1.0 if likely is None else float(likely[rows, columns][kept].mean())
    return _tight(kept, columns.start, rows.start, min(1.0, score))


def _span(occupied: ArrayLike) -> slice | None:
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else None


def _without_specks(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    labels, _ = ndimage.label(inside)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    result: NDArray[np.bool_] = (areas >= SPECK * areas.max())[labels] & inside
    return result


def _tight(pixels: NDArray[np.bool_], x: float, y: float, score: float) -> Shape | None:
    """Return the shape of these pixels, whose corner is at (x, y); None if none is set."""
    rows, columns = _span(pixels.any(axis=1)), _span(pixels.any(axis=0))
    if rows is None or columns is None:
        return None
    box = (x + columns.start, y + rows.start, x + columns.stop, y + rows.stop)
    return Shape(box, pixels[rows, columns], score)


def cut(shape: Shape, window: Box) -> Shape | None:
    """Return the part of the shape in a window, to whole pixels of the grid; None if empty."""
    x1, y1, x2, y2 = shape.box
    if shape.pixels is None:
        left, top, right, bottom = (
            *(max(a, b) for a, b in zip(shape.box[:2], window[:2], strict=True)),
            *(min(a, b) for a, b in zip(shape.box[2:], window[2:], strict=True)),
        )
        return Shape((left, top, right, bottom), None, shape.score) if right > left and bottom > top else None
    at = np.clip(np.rint(np.array(window) - np.tile([x1, y1], 2)), 0, np.tile([x2 - x1, y2 - y1], 2))
    left, top, right, bottom = at.astype(int)
    return _tight(shape.pixels[top:bottom, left:right], x1 + left, y1 + top, shape.score)


# The table -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule that derives a region from others; masks.toml explains the fields."""

    region: str
    of: tuple[str, ...]
    rows: tuple[float, float] | None = None
    above: tuple[str, float] | None = None
    lateral_of: str | None = None
    part: Box | None = None
    across: tuple[str, ...] = ()
    down: bool = False

    @property
    def needs(self) -> set[str]:
        """All required structures."""
        others = {self.above[0]} if self.above else set()
        return {*self.of, *self.across, *others, *([self.lateral_of] if self.lateral_of else [])}


@dataclass(frozen=True, slots=True)
class Model:
    """The files of a segmentation model: its classes in order, their regions, its fit."""

    classes: tuple[str, ...]
    names: Mapping[str, str]
    fit: Fit | None = None


@cache
def _table() -> dict[str, Any]:
    text = resources.files("medground.anatomy").joinpath("masks.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def rules() -> tuple[Rule, ...]:
    """Return the rules of masks.toml in their order, those with SIDE once per side."""
    found = []
    for entry in _table()["derived"]:
        text = {key: [each] if key == "of" and isinstance(each, str) else each for key, each in entry.items()}
        sides = ("right", "left") if "SIDE" in entry["region"] else ("",)
        found += [Rule(**{key: _on(side, each) for key, each in text.items()}) for side in sides]
    return tuple(found)


def _on(side: str, value: Any) -> Any:
    """Return the value with this side for SIDE, lists as tuples."""
    if isinstance(value, list):
        return tuple(_on(side, each) for each in value)
    return value.replace("SIDE", side) if isinstance(value, str) else value


def model(name: str) -> Model:
    """Return a model of masks.toml; for any other name a model without classes that accepts the names of all
    models and ours."""
    if name in _table():
        entry = _table()[name]
        return Model(tuple(entry["classes"]), _folded(entry["names"]), entry["fit"])
    known = {
        key: each for each in ("pspnet", "cxas") for key, each in _folded(_table()[each]["names"]).items()
    }
    return Model((), known | regions.NAME_OF | {each: each for each in HELPERS})


def with_names(given: Model, names: Mapping[str, Any], source: str) -> Model:
    """Return the model with the user's names added; raise MedgroundError for an unknown region."""
    own = {}
    for key, value in names.items():
        region = model("").names.get(plain(value)) if isinstance(value, str) else None
        if region is None:
            raise MedgroundError(f"{source}: names.{key}: not a region of medground")
        own[plain(key)] = region
    return Model(given.classes, {**given.names, **own}, given.fit)


def plain(name: str) -> str:
    """Return a class name in lower case, with spaces for underscores."""
    return " ".join(name.replace("_", " ").lower().split())


def _folded(names: Mapping[str, str]) -> dict[str, str]:
    return {plain(key): region for key, region in names.items()}


# Regions ---------------------------------------------------------------------------------------------------


def complete(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes, followed by the regions derived by the rules; none is replaced."""
    found = dict(shapes)
    for rule in rules():
        if rule.region not in found and rule.needs <= found.keys() and (made := _made(rule, found)):
            found[rule.region] = made
    return found


def _made(rule: Rule, found: Mapping[str, Shape]) -> Shape | None:
    """Return one rule's shape: its steps in order, until nothing is left."""
    whole = union([found[name] for name in rule.of])
    steps: list[Callable[[Shape], Shape | None]] = [lambda shape: _cut_rows(rule, shape, found)]
    if rule.lateral_of:
        steps.append(lambda shape: _beside(rule, shape, found))
    if rule.part:
        steps.append(lambda shape: _part(rule, shape))
    if rule.across or rule.down:
        steps.append(lambda shape: _stretched(rule, shape, found))
    shape: Shape | None = whole
    for step in steps:
        shape = step(shape) if shape else None
    return shape


def union(shapes: Iterable[Shape]) -> Shape:
    """Return one shape unchanged; for several, the box around them."""
    several = list(shapes)
    if len(several) == 1:
        return several[0]
    return Shape(boxes.union([each.box for each in several]), None, min(each.score for each in several))


def _cut_rows(rule: Rule, shape: Shape, found: Mapping[str, Shape]) -> Shape | None:
    _, top, _, bottom = shape.box
    window = [-np.inf, -np.inf, np.inf, np.inf]
    if rule.rows:
        window[1], window[3] = (top + share * (bottom - top) for share in rule.rows)
    if rule.above:
        name, share = rule.above
        _, y1, _, y2 = found[name].box
        window[3] = min(window[3], y1 + share * (y2 - y1))
    return cut(shape, (window[0], window[1], window[2], window[3]))


def _beside(rule: Rule, shape: Shape, found: Mapping[str, Shape]) -> Shape | None:
    """Return the part on the region's side of the other's middle; the patient's right is the left of the
    image."""
    assert rule.lateral_of  # called only if there is one
    x1, _, x2, _ = found[rule.lateral_of].box
    middle = (x1 + x2) / 2
    right = rule.region.startswith("right")
    return cut(shape, (-np.inf, -np.inf, middle, np.inf) if right else (middle, -np.inf, np.inf, np.inf))


def _part(rule: Rule, shape: Shape) -> Shape:
    """Return a share of the box, from the spine outwards if the region has a side."""
    assert rule.part  # called only if there is one
    a, top, b, bottom = rule.part
    if rule.region.startswith("right"):
        a, b = 1 - b, 1 - a
    x1, y1, x2, y2 = shape.box
    width, height = x2 - x1, y2 - y1
    box = (x1 + a * width, y1 + top * height, x1 + b * width, y1 + bottom * height)
    return Shape(box, None, shape.score)


def _stretched(rule: Rule, shape: Shape, found: Mapping[str, Shape]) -> Shape:
    x1, y1, x2, y2 = shape.box
    if rule.across:
        x1, _, x2, _ = union([found[name] for name in rule.across]).box
    return Shape((x1, y1, x2, float("inf") if rule.down else y2), None, shape.score)


# The image --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """The placement of a grid of `grid` = (width, height) on an image of `image_size` pixels.

    stretch: the whole image in the whole grid; crop: its center square, as in TorchXRayVision's
    XRayCenterCrop; letterbox: the whole image centered in a square.
    """

    grid: tuple[int, int]
    image_size: tuple[int, int]
    fit: Fit

    def to_image(self, box: Box) -> Box | None:
        """Return the box in pixels of the image, clipped and rounded; None if nothing is inside."""
        (columns, rows), (width, height) = self.grid, self.image_size
        if self.fit == "stretch":
            scale, shift = (width / columns, height / rows), (0.0, 0.0)
        elif self.fit == "crop":
            side = min(width, height)
            scale, shift = (side / columns, side / rows), (width // 2 - side // 2, height // 2 - side // 2)
        else:
            x1, y1, x2, y2 = boxes.Letterbox(width, height, columns).to_original(np.array([box], float))[0]
            return self._inside((float(x1), float(y1), float(x2), float(y2)))
        x1, y1, x2, y2 = (each * scale[n % 2] + shift[n % 2] for n, each in enumerate(box))
        return self._inside((x1, y1, x2, y2))

    def _inside(self, box: Box) -> Box | None:
        inside = boxes.clip(box, *self.image_size)
        return boxes.rounded(inside) if inside else None


def frame_of(grid: tuple[int, int], image_size: tuple[int, int], fit: Fit | None) -> Frame:
    """Return the frame of `fit`; without `fit`, a grid of the same aspect ratio fills the image.

    Raises MedgroundError if the aspect ratios differ and no `fit` is given.
    """
    if fit in ("crop", "letterbox") and grid[0] != grid[1]:
        raise NoFit(f"masks of {grid[0]} x {grid[1]} are not square, as --mask-fit {fit} requires")
    apart = abs(grid[0] * image_size[1] / (grid[1] * image_size[0]) - 1)
    if fit is None and apart > SAME_SHAPE:
        sizes = f"masks are {grid[0]} x {grid[1]}, the image is {image_size[0]} x {image_size[1]}"
        raise NoFit(f"{sizes}: give their placement: --mask-fit {', '.join(FITS)}")
    return Frame(grid, image_size, fit or "stretch")


def to_regions(shapes: Mapping[str, Shape], frame: Frame) -> list[Region]:
    """Return the boxes of the shapes and derived regions on the image, in the order of the names."""
    whole, found = complete(shapes), []
    for name in regions.NAMES:
        box = frame.to_image(whole[name].box) if name in whole else None
        if box is not None:
            found.append(Region(name=name, box=box, score=round(whole[name].score, 4)))
    return found
