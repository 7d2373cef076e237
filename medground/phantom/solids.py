"""The big smooth bodies, as intervals of depth along each ray.

A solid is a pair of arrays (near, far): the depths between which a pixel's ray runs inside it, with
far <= near where the ray misses. They live on a coarse grid (C rows, D columns) that is enlarged to the image
at the end: no solid is sharper than that. Overlaps (lung less heart less diaphragm) are arithmetic on
intervals, so the path through air is exact for these shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medground.phantom.beam import Array, Beam
from medground.phantom.patient import SIGN, Patient

Solid = tuple[Array, Array]


@dataclass(slots=True)
class Grid:
    """The coarse pixels of one image: `u` (1, D) and `v` (C, 1) are their centers in image pixels.

    On a `lateral` image the beam runs from side to side: x becomes depth, and -z the horizontal axis.
    """

    beam: Beam
    u: Array
    v: Array
    lateral: bool = False
    planes: dict[float, tuple[Array, Array]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(C, D)."""
        return self.v.shape[0], self.u.shape[1]

    @property
    def cm(self) -> float:
        """Size of a coarse pixel at the middle of the chest."""
        step = self.beam.width / self.u.shape[1]
        return float(step / self.beam.scale / self.beam.magnification(0.0))

    def plane(self, z: float) -> tuple[Array, Array]:
        """Return x and y of each pixel at depth z, (C, D) each; they are shared, so change copies only."""
        if z not in self.planes:
            self.planes[z] = self.beam.plane(self.u, self.v, z)
        return self.planes[z]

    def window(self, center: Sequence[float], half: tuple[float, float]) -> tuple[slice, slice]:
        """Return the rows and columns that hold a rectangle at the depth of its (x, y, z) center.

        half: half of its width and height in cm.
        """
        x, y, z = center
        corners = [[x + a * half[0], y + b * half[1], z] for a in (-1, 1) for b in (-1, 1)]
        at = self.beam.project(np.array(corners, float))
        at *= [self.shape[1] / self.beam.width, self.shape[0] / self.beam.height]
        low, high = np.floor(at.min(0)).astype(int) - 1, np.ceil(at.max(0)).astype(int) + 1
        first = np.clip(low, 0, self.shape[::-1])
        end = np.clip(high, first, self.shape[::-1])
        return slice(first[1], end[1]), slice(first[0], end[0])

    def filled(self, values: Array, window: tuple[slice, slice], outside: float) -> Array:
        """Return (C, D): `values` in the window, and one value outside."""
        whole = np.full(self.shape, outside, values.dtype)
        whole[window] = values
        return whole


def coarse_grid(beam: Beam, lateral: bool = False) -> Grid:
    """Return a grid of two image pixels per cell, but at least 192 cells (or one per pixel) on the long
    side.
    """
    long = max(beam.width, beam.height)
    cells = max(long // 2, min(long, 192))
    columns, rows = round(beam.width * cells / long), round(beam.height * cells / long)
    u = (np.arange(columns, dtype=np.float32)[None] + 0.5) * (beam.width / columns)
    v = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) * (beam.height / rows)
    return Grid(beam, u, v, lateral)


def turned(points: Array) -> Array:
    """Return (..., 3) points of the patient in a lateral image: across, down, depth."""
    return np.stack([-points[..., 2], points[..., 1], points[..., 0]], -1)


def ellipsoid(
    grid: Grid,
    center: tuple[float, float, float],
    semi: tuple[float, float, float],
    angle: float = 0.0,
    power: float = 2.0,
) -> Solid:
    """Return a (super)ellipsoid whose first axis is turned by `angle` from x towards y (on a frontal
    image).
    """
    if grid.lateral:
        center, semi, angle = (-center[2], center[1], center[0]), (semi[2], semi[1], semi[0]), 0.0
    cos, sin = np.cos(angle), np.sin(angle)
    wide = abs(semi[0] * cos) + abs(semi[1] * sin)
    high = abs(semi[0] * sin) + abs(semi[1] * cos)
    window = grid.window(center, (wide, high))
    x, y = grid.beam.plane(grid.u[:, window[1]], grid.v[window[0]], center[2])
    dx, dy = x - center[0], y - center[1]
    a, b = np.abs((cos * dx + sin * dy) / semi[0]), np.abs((cos * dy - sin * dx) / semi[1])
    inside = 1 - a * a - b * b if power == 2 else 1 - a**power - b**power
    half = semi[2] * np.sqrt(np.maximum(inside, 0))
    near, far = center[2] - half, center[2] + half
    return grid.filled(near, window, center[2]), grid.filled(far, window, center[2])


def column(grid: Grid, path: Array, radius: Array | float, depth: float, power: float = 0.5) -> Solid:
    """Return a near-vertical tube: (P, 3) points with y rising, its radius at each, its half depth; a `power`
    of 0.5 makes it round, a larger one flattens its sides.
    """
    if grid.lateral:
        path, radius, depth = turned(path), depth, float(np.mean(radius))
    z = float(path[:, 2].mean())
    x, y = grid.plane(z)
    middle = np.interp(y, path[:, 1], path[:, 0])
    wide = np.interp(y, path[:, 1], np.broadcast_to(np.asarray(radius, float), len(path)))
    inside = 1 - ((x - middle) / wide) ** 2
    inside = np.where((y < path[0, 1]) | (y > path[-1, 1]), 0, inside)
    half = depth * np.maximum(inside, 0) ** power
    return (z - half).astype(np.float32), (z + half).astype(np.float32)


def length(solid: Solid) -> Array:
    """Return the path inside a solid, 0 where the ray misses."""
    gap = solid[1] - solid[0]
    return np.maximum(gap, 0, out=gap)


def overlap(a: Solid, b: Solid) -> Solid:
    """Return the intersection of both."""
    return np.maximum(a[0], b[0]), np.minimum(a[1], b[1])


def hull(solids: list[Solid]) -> Solid:
    """Return the span from the nearest to the farthest of touching solids; misses if all miss."""
    near, far = np.full_like(solids[0][0], np.inf), np.full_like(solids[0][0], -np.inf)
    for a, b in solids:
        hit = b > a
        near, far = np.where(hit, np.minimum(near, a), near), np.where(hit, np.maximum(far, b), far)
    miss = far < near
    return np.where(miss, 0, near), np.where(miss, 0, far)


def outside(solid: Solid, others: list[Solid]) -> Array:
    """Return the path inside `solid` and in none of up to three others, by inclusion and exclusion."""
    cut = [overlap(solid, each) for each in others]
    left = length(solid)
    for i, a in enumerate(cut):
        left = left - length(a)
        for j in range(i):
            left = left + length(overlap(a, cut[j]))
    if len(cut) == 3:
        left = left - length(overlap(overlap(cut[0], cut[1]), cut[2]))
    return np.maximum(left, 0)


def lateral_wall(patient: Patient, y: Array | float, side: str | None = None) -> Array:
    """Return how far the rib cage's inside reaches from the midline at height y, on one side or on the
    average.
    """
    t = np.clip(np.asarray(y) / patient.frame, 0, 1)
    wide = patient.half_width * (patient.share[side] if side else 1.0)
    return wide * (0.36 + 0.64 * (1 - (1 - t) ** 3.6) ** 0.62)


def apex(patient: Patient, side: str) -> float:
    """Return how far from the midline the lung's highest point is."""
    return 0.36 * patient.half_width * patient.share[side]


def depth_of_cage(patient: Patient, y: Array | float) -> tuple[Array, Array]:
    """Return (half depth, center) of the rib cage's inside at height y."""
    t = np.clip(np.asarray(y) / patient.frame, 0, 1)
    half = patient.half_depth * (0.35 + 0.65 * (1 - (1 - t) ** 2.5) ** 0.7)
    return half, -2.2 * (1 - t) ** 2


def cage(grid: Grid, patient: Patient, side: str, inset: Array | float = 0.0) -> Solid:
    """Return one side of the rib cage's inside, medially to the spine; `inset` cm are peeled off its
    outside.
    """
    x, y = grid.plane(0.0)
    q = SIGN[side] * x
    outer = lateral_wall(patient, y, side) - inset
    t = y / patient.frame
    rise = np.clip(1 - t / 0.12, 0, 1)
    inner = patient.medial + (apex(patient, side) - patient.medial) * (1 - np.sqrt(1 - rise**2))
    half, center = depth_of_cage(patient, y)
    across = np.sqrt(np.maximum(1 - np.clip(q / np.maximum(outer, 0.1), 0, 1) ** 2.4, 0))
    near_spine = np.clip((inner + 2.4 - q) / 2.4, 0, 1)
    below = np.clip((1.14 - y / patient.floor[side]) / 0.2, 0, 1)
    half = np.maximum(half - inset, 0) * across * np.sqrt(1 - near_spine**2) * below**1.5
    half = np.where((y < 0) | (q < inner), 0, half).astype(np.float32)
    return center - half, center + half


def diaphragm(grid: Grid, patient: Patient, side: str) -> Solid:
    """Return one dome and what lies under it; it meets the lateral wall at the costophrenic angle."""
    rise = patient.dome[side] * patient.height
    drop, power = 4.5, 2.2
    ay = rise + drop
    x = 0.49 * patient.half_width * patient.share[side]
    floor = patient.floor[side]
    edge = float(lateral_wall(patient, floor, side))
    ax = (edge - x) / (1 - (drop / ay) ** power) ** (1 / power)
    center = (SIGN[side] * x, floor + drop, 1.2)
    return ellipsoid(grid, center, (ax, ay, patient.half_depth + 0.5), power=power)
