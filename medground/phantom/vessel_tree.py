"""Pulmonary vessels: two trees that branch from each hilum and taper towards the pleura.

The larger child of a branch continues nearly straight, the smaller one branches off (Murray: r^3 = r1^3 +
r2^3). Segments outside the aerated lung are dropped sample by sample when they are added to the image.
"""

from collections.abc import Iterator

import numpy as np

from medground.phantom.beam import Array
from medground.phantom.patient import SIGN, Patient
from medground.phantom.splat import Tubes, join

GENERATIONS = 8
AIMS = np.array(  # first directions: lateral, down, to the front
    [
        [0.45, -0.95, -0.25],
        [0.75, -0.75, 0.3],
        [0.95, -0.25, -0.3],
        [0.95, 0.1, 0.45],
        [0.85, 0.5, -0.4],
        [0.55, 0.9, 0.2],
        [0.35, 1.0, -0.3],  # the interlobar artery, the largest
        [0.7, 0.7, 0.45],
        [0.3, -0.9, 0.4],
        [0.9, 0.35, 0.1],
    ]
)


def hilum(patient: Patient, side: str) -> Array:
    """Return the point where a lung's vessels begin; the left one is a little higher."""
    y = (0.5 if side == "right" else 0.465) * patient.frame
    return np.array([SIGN[side] * 3.3, min(y, 0.6 * patient.height), -0.8])


def vessel_tree(rng: np.random.Generator, patient: Patient, side: str) -> Tubes:
    """Return one lung's arteries and veins."""
    s = SIGN[side]
    root = hilum(patient, side)
    f = patient.height / 25.2
    aims = AIMS * [s, 1, 1] + rng.normal(0, 0.12, AIMS.shape)
    lower = aims[:, 1] > 0
    radius = np.where(lower, 0.44, 0.34) * patient.vessel * rng.uniform(0.8, 1.15, len(aims))
    radius[6] = 0.55 * patient.vessel
    start = root + rng.normal(0, 0.5, (len(aims), 3)) + np.where(lower, 0.4, -0.4)[:, None] * [0, 1, 0]
    long = rng.uniform(1.8, 2.9, len(aims)) * f
    return join(list(_grow(rng, start, _unit(aims), radius, long)))


def _grow(rng: np.random.Generator, start: Array, way: Array, radius: Array, long: Array) -> Iterator[Tubes]:
    """Yield each generation's segments."""
    for _ in range(GENERATIONS):
        bent = _unit(way + rng.normal(0, 0.16, way.shape))
        middle = start + way * long[:, None] * 0.5
        end = middle + bent * long[:, None] * 0.5
        density = np.ones(len(start))
        yield Tubes(start, middle, radius, radius * 0.96, density)
        yield Tubes(middle, end, radius * 0.96, radius * 0.9, density)
        share = rng.uniform(0.55, 0.85, len(radius))
        away = _unit(np.cross(bent, _unit(rng.normal(size=way.shape))))
        turn = rng.uniform(0.45, 0.95, len(radius))[:, None]
        straight, side = _unit(bent - 0.3 * turn * away), _unit(bent + turn * away)
        start = np.concatenate([end, end])
        way = np.concatenate([straight, side])
        radius = np.concatenate([radius * share ** (1 / 3), radius * (1 - share) ** (1 / 3)]) * 0.86
        long = np.concatenate([long * 0.88, long * 0.78]) * rng.uniform(0.8, 1.15, 2 * len(long))


def _unit(vectors: Array) -> Array:
    result: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return result
