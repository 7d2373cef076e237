"""Outlines of structures, as other people's models draw them -> boxes of our regions.

The table `masks.toml` says which class of which model is which region, and how regions without a class are
made of those with one. Letters: H x W pixels of the mask's own grid, which may be coarser than the film's.
Shapes are in pixels of that grid; `Frame` brings their boxes to the film.
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
SAME_SHAPE = 0.02  # how far the shapes (width / height) of a mask and of its film may be apart
SPECK = 0.1  # a piece smaller than this share of the largest one is dirt
LEAST = 1e-4  # a structure smaller than this share of the picture is none
HELPERS = frozenset({"diaphragm"})  # what rules need that is no region itself


class NoFit(MedgroundError):
    """Masks that cannot lie on their film as they are; whoever knows the film adds its name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A structure: its box, which of the box's pixels are in it (None: all), and a score in [0, 1]."""

    box: Box
    pixels: NDArray[np.bool_] | None = None
    score: float = 1.0


def shape_of(inside: NDArray[np.bool_], likely: NDArray[np.floating[Any]] | None = None) -> Shape | None:
    """The structure of a (H, W) mask without its specks, None where hardly a pixel is left.

    Pieces count that have at least `SPECK` of the largest one's pixels. The score is the mean of `likely`
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
    return (areas >= SPECK * areas.max())[labels] & inside


def _tight(pixels: NDArray[np.bool_], x: float, y: float, score: float) -> Shape | None:
    """The shape of these pixels, whose corner lies at (x, y); None where none is set."""
    rows, columns = _span(pixels.any(axis=1)), _span(pixels.any(axis=0))
    if rows is None or columns is None:
        return None
    box = (x + columns.start, y + rows.start, x + columns.stop, y + rows.stop)
    return Shape(box, pixels[rows, columns], score)


def cut(shape: Shape, window: Box) -> Shape | None:
    """The part of the shape in a window, to whole pixels of the grid; None where there is none."""
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
    """How a region is made of others; the words are explained in masks.toml."""

    region: str
    of: tuple[str, ...]
    rows: tuple[float, float] | None = None
    above: tuple[str, float] | None = None
    beside: str | None = None
    part: Box | None = None
    across: tuple[str, ...] = ()
    down: bool = False

    @property
    def needs(self) -> set[str]:
        """All that must be there."""
        others = {self.above[0]} if self.above else set()
        return {*self.of, *self.across, *others, *([self.beside] if self.beside else [])}


@dataclass(frozen=True, slots=True)
class Model:
    """What is known of a model's files: its classes in order, which of them is which region, its fit."""

    classes: tuple[str, ...]
    names: Mapping[str, str]
    fit: Fit | None = None


@cache
def _table() -> dict[str, Any]:
    text = resources.files("medground.anatomy").joinpath("masks.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def rules() -> tuple[Rule, ...]:
    """The rules of masks.toml in their order, those for a SIDE once for each."""
    found = []
    for entry in _table()["derived"]:
        text = {key: [each] if key == "of" and isinstance(each, str) else each for key, each in entry.items()}
        sides = ("right", "left") if "SIDE" in entry["region"] else ("",)
        found += [Rule(**{key: _on(side, each) for key, each in text.items()}) for side in sides]
    return tuple(found)


def _on(side: str, value: Any) -> Any:
    """The value with this side for SIDE, lists as tuples."""
    if isinstance(value, list):
        return tuple(_on(side, each) for each in value)
    return value.replace("SIDE", side) if isinstance(value, str) else value


def model(name: str) -> Model:
    """A model of masks.toml; for any other name one without classes that knows the names of all, and ours."""
    if name in _table():
        entry = _table()[name]
        return Model(tuple(entry["classes"]), _folded(entry["names"]), entry["fit"])
    known = {
        key: each for each in ("pspnet", "cxas") for key, each in _folded(_table()[each]["names"]).items()
    }
    return Model((), known | regions.NAME_OF | {each: each for each in HELPERS})


def with_names(given: Model, names: Mapping[str, Any], source: str) -> Model:
    """The model with names of the user's own on top; raises MedgroundError for what is no region."""
    own = {}
    for key, value in names.items():
        region = model("").names.get(plain(value)) if isinstance(value, str) else None
        if region is None:
            raise MedgroundError(f"{source}: names.{key}: no region that medground knows")
        own[plain(key)] = region
    return Model(given.classes, {**given.names, **own}, given.fit)


def plain(name: str) -> str:
    """A class's name as the tables have it: small letters, spaces for underscores."""
    return " ".join(name.replace("_", " ").lower().split())


def _folded(names: Mapping[str, str]) -> dict[str, str]:
    return {plain(key): region for key, region in names.items()}


# Regions ---------------------------------------------------------------------------------------------------


def complete(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes, and after them the regions that the rules make of them; none is replaced."""
    found = dict(shapes)
    for rule in rules():
        if rule.region not in found and rule.needs <= found.keys() and (made := _made(rule, found)):
            found[rule.region] = made
    return found


def _made(rule: Rule, found: Mapping[str, Shape]) -> Shape | None:
    """One rule's shape: its steps one after the other, as far as something is left."""
    whole = union([found[name] for name in rule.of])
    steps: list[Callable[[Shape], Shape | None]] = [lambda shape: _cut_rows(rule, shape, found)]
    if rule.beside:
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
    """One shape as it is; of several the box around them."""
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
    """The part on the region's side of the other's middle; the patient's right is the picture's left."""
    assert rule.beside  # asked for only where there is one
    x1, _, x2, _ = found[rule.beside].box
    middle = (x1 + x2) / 2
    right = rule.region.startswith("right")
    return cut(shape, (-np.inf, -np.inf, middle, np.inf) if right else (middle, -np.inf, np.inf, np.inf))


def _part(rule: Rule, shape: Shape) -> Shape:
    """A share of the box, counted from the spine outwards where the region has a side."""
    assert rule.part  # asked for only where there is one
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


# The film --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """How a grid of `grid` = (width, height) lies on a film of `film` pixels.

    stretch: the whole film in all of the grid; crop: its centre square, as TorchXRayVision's XRayCenterCrop
    cuts it; letterbox: the whole film centred in a square.
    """

    grid: tuple[int, int]
    film: tuple[int, int]
    fit: Fit

    def to_film(self, box: Box) -> Box | None:
        """The box in pixels of the film, cut at its edge and rounded; None where nothing is inside."""
        (columns, rows), (width, height) = self.grid, self.film
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
        inside = boxes.clip(box, *self.film)
        return boxes.rounded(inside) if inside else None


def frame_of(grid: tuple[int, int], film: tuple[int, int], fit: Fit | None) -> Frame:
    """The frame that `fit` means; without one a grid of the film's own shape fills it.

    Raises MedgroundError where the shapes differ and nobody said why.
    """
    if fit in ("crop", "letterbox") and grid[0] != grid[1]:
        raise NoFit(f"masks of {grid[0]} x {grid[1]} are no square, as --mask-fit {fit} takes them")
    apart = abs(grid[0] * film[1] / (grid[1] * film[0]) - 1)
    if fit is None and apart > SAME_SHAPE:
        sizes = f"masks are {grid[0]} x {grid[1]}, the film is {film[0]} x {film[1]}"
        raise NoFit(f"{sizes}: say how they lie on it: --mask-fit {', '.join(FITS)}")
    return Frame(grid, film, fit or "stretch")


def to_regions(shapes: Mapping[str, Shape], frame: Frame) -> list[Region]:
    """The boxes of the shapes, and of what the rules make of them, on the film, in the order of the names."""
    whole, found = complete(shapes), []
    for name in regions.NAMES:
        box = frame.to_film(whole[name].box) if name in whole else None
        if box is not None:
            found.append(Region(name=name, box=box, score=round(whole[name].score, 4)))
    return found
