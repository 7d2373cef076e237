"""Thin things (ribs, vessels, lines and tubes): their mass is added to the image sample by sample.

A tube is cut into samples about half a pixel apart; each adds its attenuation (volume times density) on the
pixel it projects to. So the mass is conserved at every angle to the beam: a rib viewed along its length is
bright without a special case.

Letters: S segments, N samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground.phantom.beam import Array, Beam

STEP = 0.55  # pixels between samples
HALF, GOLDEN = np.float32(0.5), np.float32(0.618034)


@dataclass(slots=True)
class Tubes:
    """S round, tapering segments: (S, 3) ends, (S,) radii in cm, (S,) attenuation per cm."""

    start: Array
    end: Array
    r0: Array
    r1: Array
    density: Array


def tube(path: Array, radius: float | Array, density: float) -> Tubes:
    """Return the segments of one polyline (P, 3)."""
    radii = np.broadcast_to(np.asarray(radius, float), (len(path),))
    return Tubes(path[:-1], path[1:], radii[:-1], radii[1:], np.full(len(path) - 1, density))


def join(parts: list[Tubes]) -> Tubes:
    """Return all segments of all parts; there must be one part at least."""
    columns = zip(*((p.start, p.end, p.r0, p.r1, p.density) for p in parts), strict=True)
    return Tubes(*(np.concatenate(each) for each in columns))


def samples(tubes: Tubes, scale: float) -> tuple[Array, Array, NDArray[np.integer[Any]]]:
    """Return ((N, 3) points, (N,) attenuation mass, (N,) segment of each), for an image of `scale` pixels per
    cm.
    """
    axis = tubes.end - tubes.start
    length = np.linalg.norm(axis, axis=1)
    seen = np.hypot(axis[:, 0], axis[:, 1])
    radius = np.maximum(tubes.r0, tubes.r1)
    steep = np.abs(axis[:, 2]) / np.maximum(length, 1e-9)  # 1 where the tube runs along the beam
    along = np.maximum(1, np.ceil((seen + 2 * radius * steep) * scale / STEP)).astype(np.int32)
    across = np.maximum(1, np.ceil(2 * radius * scale / STEP)).astype(np.int32)
    count = along * across
    owner = np.repeat(np.arange(len(length), dtype=np.int32), count)
    first = (np.cumsum(count) - count).astype(np.int32)
    local = np.arange(len(owner), dtype=np.int32) - np.repeat(first, count)
    wide = np.repeat(across, count)
    row = local // wide
    place = local - row * wide
    # rows and columns are shifted by the golden ratio, so that the samples make no pattern with the pixels
    shifts = (HALF + GOLDEN * np.arange(int((across + 7 * along).max(initial=0)))) % 1
    t = ((row + shifts[place]) / np.repeat(along, count)).astype(np.float32)
    s = (2 * (place + shifts[row]) / wide - 1).astype(np.float32)
    r = _each(tubes.r0, count) + t * _each(tubes.r1 - tubes.r0, count)
    way = np.where(seen[:, None] > 1e-6, axis[:, :2] / np.maximum(seen, 1e-6)[:, None], [1.0, 0.0])
    disc = np.sqrt(1 - s * s)
    lean = _each(steep, count) * (2 * shifts[place + 7 * row] - 1).astype(np.float32)
    lean *= r * disc  # the disc of a steep tube projects to an ellipse, not as a line
    off = s * r
    points = np.empty((3, len(owner)), np.float32)
    for n, to in enumerate(points):
        to[:] = _each(tubes.start[:, n], count)
        to += t * _each(axis[:, n], count)
    points[0] += off * _each(-way[:, 1], count)
    points[1] += off * _each(way[:, 0], count)
    for n in range(2):
        points[n] += lean * _each(way[:, n], count)
    mass = _each(tubes.density * length / (along * across), count) * (4 * r * r * disc)
    return points.T, mass, owner


def _each(values: Array, count: NDArray[np.integer[Any]]) -> Array:
    """Return its segment's value for every sample; `count`: samples of each segment."""
    return np.repeat(values.astype(np.float32), count)


def lay(image: Array, beam: Beam, points: Array, mass: Array) -> None:
    """Add the mass of the samples to the image's attenuation; samples outside the image are dropped."""
    column, row = np.floor(beam.project(points)).astype(np.int32).T
    inside = (column >= 0) & (column < beam.width) & (row >= 0) & (row < beam.height)
    k = beam.scale * beam.magnification(points[:, 2][inside])
    index = row[inside] * beam.width + column[inside]
    image += np.bincount(index, mass[inside] * k * k, image.size).reshape(image.shape).astype(np.float32)


def draw(image: Array, beam: Beam, tubes: Tubes) -> None:
    """Add tubes to the image."""
    points, mass, _ = samples(tubes, beam.scale * 1.1)
    lay(image, beam, points, mass)


def box_of(beam: Beam, points: Array, margin: float = 0.0) -> tuple[float, float, float, float]:
    """Return the box of the projected points, `margin` cm wider on every side."""
    at = beam.project(points)
    pad = margin * beam.scale
    low, high = at.min(0) - pad, at.max(0) + pad
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def smooth(points: Sequence[tuple[float, float, float]], count: int) -> Array:
    """Return (count, 3) points of a Catmull-Rom curve through the given ones (two at least)."""
    knots = np.asarray(points, float)
    padded = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    t = np.linspace(0, len(knots) - 1, count)
    i = np.minimum(t.astype(int), len(knots) - 2)
    f = (t - i)[:, None]
    a, b, c, d = (padded[i + n] for n in range(4))
    result: Array = 0.5 * (
        2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3
    )
    return result
