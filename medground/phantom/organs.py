"""Heart, vessels and mediastinum as solids, and the space that remains for the lungs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.phantom.beam import Array
from medground.phantom.patient import SIDES, SIGN, Patient
from medground.phantom.solids import (
    Grid,
    Solid,
    cage,
    column,
    diaphragm,
    ellipsoid,
    hull,
    lateral_wall,
    length,
    outside,
)


@dataclass(slots=True)
class Chest:
    """The soft parts of one patient on one grid. `lung` is the inside of each side without the part under
    the dome, and reaches behind the heart; `air` is its path less heart, mediastinum and spine."""

    grid: Grid
    patient: Patient
    heart: dict[str, Solid]
    vessels: dict[str, Solid]
    front: Solid
    back: Solid
    domes: dict[str, Solid]
    cages: dict[str, Solid]
    lung: dict[str, Array]
    air: dict[str, Array]


def build_chest(grid: Grid, patient: Patient) -> Chest:
    """Return all big solids of the chest."""
    heart, vessels = heart_of(grid, patient), vessels_of(grid, patient)
    front = hull([*heart.values(), *(vessels[n] for n in ("ascending", "trunk", "arch", "svc", "center"))])
    back = hull([vessels["descending"], vessels["column"]])
    domes = {side: diaphragm(grid, patient, side) for side in SIDES}
    cages = {side: cage(grid, patient, side) for side in SIDES}
    return Chest(
        grid=grid,
        patient=patient,
        heart=heart,
        vessels=vessels,
        front=front,
        back=back,
        domes=domes,
        cages=cages,
        lung={side: outside(cages[side], [domes[side]]) for side in SIDES},
        air={side: outside(cages[side], [domes[side], front, back]) for side in SIDES},
    )


def heart_scale(patient: Patient) -> float:
    """Return how much wider than the standard heart this one is, from the ratio that it should reach."""
    standard = (4.5 + 8.9) / (2 * 13.2)
    return patient.ctr / standard * patient.half_width / 13.2


def heart_of(grid: Grid, patient: Patient) -> dict[str, Solid]:
    """Return the chambers. The left ventricle grows more than the rest when the heart is large."""
    s = heart_scale(patient)
    tall = 0.5 * s + 0.5 * patient.frame / 25.2
    base = sum(dome_top(patient, side) for side in SIDES) / 2 + 1.6
    y = base - 5.0 * tall
    return {
        "right atrium": ellipsoid(grid, (-1.7 * s, y + 0.3, 1.5), (2.8 * s, 4.6 * tall, 4.0)),
        "right ventricle": ellipsoid(grid, (0.8 * s, y + 1.0, 2.5), (4.6 * s, 4.3 * tall, 4.2), 0.1),
        "left ventricle": ellipsoid(grid, (2.7 * s, y + 0.1, 1.8), (7.3 * s, 4.1 * tall, 4.6), 0.72, 2.3),
        "left atrium": ellipsoid(grid, (0.6 * s, y - 2.2 * tall, -0.5), (3.6 * s, 3.4 * tall, 3.4)),
    }


def vessels_of(grid: Grid, patient: Patient) -> dict[str, Solid]:
    """Return great vessels, mediastinal fat, and the soft shape of the spinal column."""
    f, a, m = patient.frame, patient.aorta, patient.mediastinum
    bow = patient.tortuosity
    svc = np.array([[-1.9, 0.12 * f, 1], [-2.1, 0.3 * f, 1], [-2.2, 0.56 * f, 1]])
    down = np.array([[2.3, 0.33 * f, -4.6], [2.4 + bow, 0.5 * f, -4.6], [1.0, 1.02 * f, -4.6]])
    center = np.array([[0, -0.3 * f, 0], [0, 0.08 * f, 0], [0, 0.3 * f, 0], [0, 0.6 * f, 0], [0, 1.2 * f, 0]])
    spine = np.array([[0, -0.4 * f, -5.5], [0, 0.5 * f, -5.5], [0, 2 * f, -5.5]])
    wide = np.array([2.2, 2.1, 2.3, 2.4, 2.0]) * m
    return {
        "arch": ellipsoid(grid, (1.9 * a, 0.32 * f, -1.0), (1.75 * a, 1.75 * a, 3.2)),
        "ascending": ellipsoid(grid, (-1.2 - 0.4 * bow, 0.46 * f, 1.5), (1.9 * a, 0.15 * f, 2.2)),
        "trunk": ellipsoid(grid, (1.9, 0.47 * f, 1.8), (2.3, 0.12 * f, 2.4), -0.3),
        "svc": column(grid, svc, 0.95, 1.0),
        "center": column(grid, center, 1.15 * wide, 4.6, 1.1),
        "descending": column(grid, down, 1.25 * a, 1.4),
        "column": column(grid, spine, patient.medial + 0.7, 3.2, 1.0),
    }


def body_path(grid: Grid, patient: Patient) -> Array:
    """Return the path through the whole body (twice its half depth, the parts being centered about the same
    plane).
    """
    x, y = grid.plane(0.0)
    wide = lateral_wall(patient, np.maximum(y, 0.28 * patient.frame)) + 0.9 + patient.side_wall
    waist = 1 + 0.05 * np.clip(y / patient.frame - 0.9, 0, 1) * np.clip(patient.wall - 3, -1, 3)
    depth = patient.half_depth + patient.wall
    trunk = depth * np.sqrt(np.maximum(1 - np.abs(x / (wide * waist)) ** 2.6, 0))
    trunk = trunk * np.clip((y + 3) / 0.3 / patient.frame, 0, 1) ** 0.7
    parts = (trunk, *_shoulders(x, y, patient), _arms(x, y, patient))
    merged = np.add.reduce([each.astype(np.float32) ** 4 for each in parts]) ** 0.25  # no creases
    return np.asarray(2 * merged)


def _shoulders(x: Array, y: Array, patient: Patient) -> tuple[Array, ...]:
    """Return half depth of neck, trapezius and deltoids."""
    q = np.abs(x)
    neck_wide = 4.6 + 0.55 * patient.wall
    neck = (4.4 + 0.5 * patient.wall) * np.sqrt(np.maximum(1 - (q / neck_wide) ** 2, 0))
    neck = neck * np.sqrt(np.clip((9 - y) / 8, 0, 1))
    edge = patient.half_width + 3.6 + patient.side_wall
    slope = np.clip((q - 0.7 * neck_wide) / (edge - 0.7 * neck_wide), 0, 1)
    top = -7.0 + 7.2 * slope**0.75
    thick = (0.62 * patient.half_depth + 0.8 * patient.wall) * (1 - 0.35 * slope)
    thick = thick * np.sqrt(np.clip((y - top) / 6.0, 0, 1)) * np.clip((13 - y) / 12, 0, 1) ** 0.5
    trapezius = thick * np.sqrt(np.clip((edge + 1.5 - q) / 3.0, 0, 1))
    radius = 4.6 + 0.7 * patient.side_wall
    ball = 1 - ((q - edge) / radius) ** 2 - ((y - 5.2) / (radius + 0.6)) ** 2
    return neck, trapezius, radius * np.sqrt(np.maximum(ball, 0))


def _arms(x: Array, y: Array, patient: Patient) -> Array:
    """Return half depth of the upper arms; raised or rotated away they soon leave the image."""
    lean = 0.75 if patient.arms_up else 0.18
    middle = patient.half_width + 3.6 + patient.side_wall + lean * np.maximum(y - 4, 0)
    radius = 3.4 + 0.7 * patient.side_wall
    half = radius * np.sqrt(np.maximum(1 - ((np.abs(x) - middle) / radius) ** 2, 0))
    return half * np.sqrt(np.clip((y - 3) / 4, 0, 1))


def breast_path(grid: Grid, patient: Patient) -> Array:
    """Return the path through both breasts: half ellipsoids on the front wall with a fuller lower edge."""
    total = np.zeros(grid.shape, np.float32)
    if patient.breast < 0.1:
        return total
    b = patient.breast
    for side in SIDES:
        x, y = grid.plane(patient.half_depth + patient.wall)
        dx = x - SIGN[side] * 0.58 * patient.half_width
        dy = y - (0.6 + 0.05 * b) * patient.frame
        dy = np.where(dy < 0, dy / 1.7, dy)
        inside = 1 - (dx / (5.0 + 1.6 * b)) ** 2 - (dy / (3.6 + 2.0 * b)) ** 2
        total += 3.6 * b * np.sqrt(np.maximum(inside, 0))
    return total


def dome_top(patient: Patient, side: str) -> float:
    """Return y of the top of a dome."""
    return patient.floor[side] - patient.dome[side] * patient.height


def heart_mask(chest: Chest) -> NDArray[np.bool_]:
    """Return where the heart's shadow is (bool)."""
    return np.asarray(np.maximum.reduce([length(each) for each in chest.heart.values()]) > 0.6)
