"""Ribs, clavicles, shoulder girdle and spine, as swept curves whose mass is added to the image.

Bone is a dense cortex round a lighter middle: the edges of a rib are brighter than its center.
`density` is the attenuation of bone above soft tissue, per cm.
"""

import numpy as np

from medground.phantom.beam import Array, Beam
from medground.phantom.patient import SIDES, SIGN, Patient
from medground.phantom.solids import Grid, depth_of_cage, lateral_wall
from medground.phantom.splat import STEP, draw, lay, smooth, tube

BONE = 0.42


def rib_path(patient: Patient, side: str, number: int, count: int = 240) -> Array:
    """Return (count, 3) points of one rib (1 to 12), from the spine to where cartilage begins."""
    n = number - 1
    f = patient.frame / 25.2
    head = f * (-1.3 + 1.95 * n + 0.03 * n * n)
    last = np.radians(np.interp(number, [1, 2, 7, 10, 11, 12], [128, 138, 142, 120, 78, 58]))
    drop = f * patient.rib_slope * np.interp(number, [1, 2, 4, 8, 12], [3.6, 5.6, 8.6, 10.6, 5.0])
    angle = np.linspace(np.radians(13), last, count)
    s = angle / np.radians(140)
    bend = np.interp(number, [1, 3, 6], [1.0, 1.2, 1.4])
    y = max(head, -0.7) + drop * s**bend - min(0.5, 0.2 * n) * np.sin(np.clip(s * 3.2, 0, np.pi))
    reach = np.maximum(y, 0.004 * patient.frame)
    half, center = depth_of_cage(patient, reach)
    x = SIGN[side] * (lateral_wall(patient, reach, side) + 0.35) * np.sin(angle)
    return np.stack([x, y, center - (half + 0.4) * np.cos(angle)], 1)


def draw_ribs(image: Array, beam: Beam, patient: Patient) -> None:
    """Lay all ribs on the image."""
    for side in SIDES:
        for number in range(1, 13):
            path = rib_path(patient, side, number)
            high = float(np.interp(number, [1, 3, 12], [0.69, 0.59, 0.47])) * patient.frame / 25.2
            sweep(image, beam, path, high, 0.3, 0.8 * BONE * patient.bone)


def sweep(image: Array, beam: Beam, path: Array, high: float, thick: float, density: float) -> None:
    """Lay a flat bone, `2 high` tall and `2 thick` thick, that follows (P, 3) points."""
    path = resampled(path, beam.scale).astype(np.float32)
    along = np.gradient(path, axis=0)
    step = np.linalg.norm(along, axis=1)
    along /= np.maximum(step, 1e-9)[:, None]
    up = np.array([0, 1, 0], np.float32) - along[:, 1:2] * along
    up /= np.maximum(np.linalg.norm(up, axis=1), 1e-6)[:, None]
    out = np.cross(along, up)
    n = max(2, int(np.ceil(2 * high * beam.scale * 1.1 / STEP / 1.25)))
    o = ((np.arange(n) + 0.5) / n * 2 - 1).astype(np.float32)
    taper = np.minimum(1, np.minimum(np.linspace(0, 14, len(path)), np.linspace(14, 0, len(path))) + 0.4)
    taper = taper.astype(np.float32)
    shell = np.sqrt(1 - o * o) * (0.4 + 1.6 * np.abs(o) ** 6)
    mass = step[:, None] * (shell * 2 * high / n * thick * density) * taper[:, None]
    middle = [path[:, axis, None] + up[:, axis, None] * (o * high) for axis in range(3)]
    for level in (-0.7, 0.7):
        off = out * (level * thick)
        points = [(each + off[:, axis, None]).ravel() for axis, each in enumerate(middle)]
        lay(image, beam, np.stack(points).T, mass.ravel())


def resampled(path: Array, scale: float) -> Array:
    """Return the polyline with points a little less than an image pixel apart."""
    gap = np.linalg.norm(np.diff(path, axis=0), axis=1)
    at = np.concatenate([[0], np.cumsum(gap)])
    t = np.linspace(0, at[-1], max(8, int(at[-1] * scale * 1.1 / STEP / 1.25)))
    return np.stack([np.interp(t, at, path[:, i]) for i in range(3)], 1)


def clavicle_path(patient: Patient, side: str) -> Array:
    """Return (60, 3) points from the sternum to the acromion."""
    w, f, s = patient.half_width, patient.frame / 25.2, SIGN[side]
    half, _ = depth_of_cage(patient, 0.1 * patient.frame)
    front, up = float(half), patient.clavicle
    points = [
        (s * 1.9, 3.6 * f - 0.4 * up, front),
        (s * 0.33 * w, 2.9 * f - 0.7 * up, front + 0.9),
        (s * 0.66 * w, 1.5 * f - up, front - 0.8),
        (s * 0.95 * w, 0.6 * f - up, front - 3.2),
        (s * 1.18 * w, 1.0 * f - up, front - 4.0),
    ]
    return smooth(points, 60)


def draw_girdle(image: Array, beam: Beam, patient: Patient) -> None:
    """Lay clavicles, scapular borders and upper arms on the image."""
    w, f = patient.half_width, patient.frame / 25.2
    density = BONE * patient.bone
    for side in SIDES:
        s = SIGN[side]
        path = clavicle_path(patient, side)
        sweep(image, beam, path, 0.62 * f, 0.5, 1.15 * density)
        away = 1.0 if patient.arms_up else -1.2
        border = [
            (s * (1.16 * w), 3.5 * f, -4),
            (s * (1.05 * w + away), 9 * f, -5.5),
            (s * (0.9 * w + away), 15 * f, -6),
        ]
        draw(image, beam, tube(smooth(border, 40), np.linspace(0.55, 0.35, 40), 0.9 * density))
        spine = [
            (s * (0.62 * w + away), 4.5 * f, -7),
            (s * 0.95 * w, 2.2 * f, -6),
            (s * 1.27 * w, 0.4 * f, -3),
        ]
        draw(image, beam, tube(smooth(spine, 40), np.linspace(0.25, 0.6, 40), 0.8 * density))
        lean = 0.75 if patient.arms_up else 0.18
        shaft = [(s * (1.26 * w + 1), 4.2 * f, -1), (s * (1.26 * w + 1.5 + 18 * lean), 24 * f, -1)]
        draw(image, beam, tube(smooth(shaft, 20), 1.2, 0.8 * density))


def girdle_path(grid: Grid, patient: Patient) -> Array:
    """Return the attenuation of the flat and round parts: scapular blades and humeral heads."""
    w, f = patient.half_width, patient.frame / 25.2
    total = np.zeros(grid.shape, np.float32)
    away = 1.0 if patient.arms_up else -1.2
    for side in SIDES:
        s = SIGN[side]
        x, y = grid.plane(-5.5)
        q = s * x
        t = np.clip((y - 1.5 * f) / (14 * f), 0, 1)
        outer = (1.16 * w) + (0.9 * w + away - 1.16 * w) * t
        inner = (0.6 * w + away) + (0.3 * w) * t**2
        blade = np.minimum(np.minimum(q - inner, outer - q), np.minimum(y - 1.5 * f, 15.5 * f - y))
        total += 0.35 * np.clip(blade / 0.5, 0, 1)
        x, y = grid.plane(-1.0)
        ball = 1 - ((s * x - 1.26 * w - 0.4) / 2.5) ** 2 - ((y - 3.2 * f) / 2.5) ** 2
        total += 2.2 * np.sqrt(np.maximum(ball, 0)) + 0.5 * (ball > 0)
    return total * BONE * patient.bone


def spine_path(grid: Grid, patient: Patient) -> Array:
    """Return the attenuation of vertebral bodies, pedicles and spinous processes."""
    x, y = grid.plane(-patient.half_depth * 0.62)
    f = patient.frame / 25.2
    x = x - patient.scoliosis * np.sin(y / (9 * f))
    high = 2.15 * f + 0.008 * y
    phase = (y / high) % 1.0
    wide = 1.55 + 0.018 * np.clip(y, -5, 40)
    waist = wide * (1 - 0.1 * np.sin(np.pi * phase))
    body = np.clip((waist - np.abs(x)) / 0.3, 0, 1) * np.clip(np.minimum(phase, 1 - phase) / 0.12, 0.45, 1)
    rim = (
        np.exp(-(((np.abs(x) - waist + 0.2) / 0.16) ** 2))
        + 0.8 * (np.minimum(phase, 1 - phase) < 0.17) * body
    )
    eye = np.hypot((np.abs(x) - 0.72 * wide) / 0.42, (phase - 0.35) * high / 0.6)
    pedicle = np.exp(-(((eye - 1) / 0.35) ** 2))
    process = np.exp(-((x / 0.33) ** 2) - (((phase - 0.75) * high / 0.75) ** 2))
    side = 0.9 * np.exp(-(((np.abs(x) - wide - 0.7) / 0.8) ** 2) - (((phase - 0.3) * high / 0.5) ** 2))
    result: Array = (
        (0.36 * body + 0.3 * rim + 0.3 * pedicle + 0.34 * process + 0.2 * side) * BONE * patient.bone
    ).astype(np.float32)
    return result
