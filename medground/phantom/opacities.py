"""Attenuation changes of findings, on the coarse grid.

Each function changes the chest if the lung moves, and returns its change of attenuation:
fluid and consolidated lung attenuate like soft tissue, free air not at all.
"""

import numpy as np
from scipy import ndimage

from medground.phantom.beam import Array
from medground.phantom.findings import Finding
from medground.phantom.organs import Chest, dome_top
from medground.phantom.patient import SIDES, SIGN
from medground.phantom.solids import Solid, apex, cage, ellipsoid, lateral_wall, outside, overlap
from medground.phantom.vessel_tree import hilum

SOFT = 0.19  # attenuation of soft tissue, per cm
BANDS = {"apical zone": (0.0, 0.13), "upper lung zone": (0.06, 0.36), "mid lung zone": (0.37, 0.62)}
BANDS |= {"lower lung zone": (0.62, 0.92), "lung": (0.1, 0.9)}


def hila(chest: Chest) -> Array:
    """Return the path through the knots of vessels and nodes at both hila, where they displace lung."""
    total = np.zeros(chest.grid.shape, np.float32)
    for side in SIDES:
        x, y, z = hilum(chest.patient, side)
        out = SIGN[side]
        upper = ellipsoid(chest.grid, (x + 0.2 * out, y - 0.8, z), (1.3, 1.7, 1.3), -0.5 * out)
        lower = ellipsoid(chest.grid, (x + 0.9 * out, y + 1.6, z), (0.9, 2.6, 1.1), -0.3 * out)
        total += np.maximum(aerated(chest, upper, side), aerated(chest, lower, side))
    return total


def aerated(chest: Chest, solid: Solid, side: str) -> Array:
    """Return the path through aerated lung inside a solid that lies in one side's cage."""
    return outside(overlap(solid, chest.cages[side]), [chest.domes[side], chest.front, chest.back])


def cloud(rng: np.random.Generator, chest: Chest, cm: float, depth: float) -> Array:
    """Return a smooth random texture around 1 with lumps of size `cm`; never negative."""
    factor = max(1, int(cm / chest.grid.cm / 2))
    rows, columns = chest.grid.shape
    small = rng.standard_normal((rows // factor + 2, columns // factor + 2), dtype=np.float32)
    small = ndimage.gaussian_filter(small, max(0.5, cm / chest.grid.cm / factor))
    small /= max(float(small.std()), 1e-6)
    field = ndimage.zoom(small, factor, order=1)[:rows, :columns]
    field = np.pad(field, ((0, rows - field.shape[0]), (0, columns - field.shape[1])), mode="edge")
    return np.clip(1 + depth * field, 0, 3)


def effusion(rng: np.random.Generator, chest: Chest, finding: Finding, supine: bool) -> Array:
    """Return fluid that fills the pleural space from below, its upper edge climbing at the wall (the
    meniscus)."""
    side, patient = finding.side or "right", chest.patient
    _, y = chest.grid.plane(0.0)
    low, high = {"small": (0.02, 0.09), "moderate": (0.15, 0.32), "large": (0.38, 0.7)}[finding.severity]
    level = patient.floor[side] * (1 - float(rng.uniform(low, high)))
    below = y - level
    tail = {"small": 0.3, "moderate": 0.5, "large": 0.6}[finding.severity]
    inset = np.where(below < 0, tail * np.exp(below / 1.6), tail + 0.9 * below + 0.2 * below * below)
    before = chest.air[side]
    _shrink(chest, side, 0.7 * inset if supine else inset)
    fluid = np.maximum(before - chest.air[side], 0)
    if supine:  # most of it lies behind the lung, as a veil
        layer = {"small": 0.4, "moderate": 1.2, "large": 2.4}[finding.severity] * float(rng.uniform(0.8, 1.2))
        fluid += np.minimum(layer * np.clip(y / patient.floor[side], 0, 1) ** 1.3, 0.5 * chest.air[side])
    finding.detail["level"] = round(level, 2)
    return SOFT * (1 - patient.lung_density) * fluid


def _shrink(chest: Chest, side: str, inset: Array) -> None:
    """Peel the lung off the chest wall."""
    chest.cages[side] = cage(chest.grid, chest.patient, side, inset)
    chest.air[side] = outside(chest.cages[side], [chest.domes[side], chest.front, chest.back])


def pneumothorax(rng: np.random.Generator, chest: Chest, finding: Finding) -> tuple[Array, Array]:
    """Return free air between wall and lung, widest at the apex, and the (P, 3) course of the pleural
    line."""
    side, patient = finding.side or "right", chest.patient
    _, y = chest.grid.plane(0.0)
    low, high = {"small": (1.0, 1.9), "moderate": (2.0, 3.6), "large": (4.0, 7.0)}[finding.severity]
    wide = float(rng.uniform(low, high))
    ends = {"small": 0.55, "moderate": 0.85, "large": 1.15}[finding.severity]

    def gap(height: Array) -> Array:
        result: Array = (wide * np.clip(1 - height / (ends * patient.height), 0, 1) ** 0.7).astype(np.float32)
        return result

    before = chest.air[side]
    _shrink(chest, side, gap(y))
    free = np.maximum(before - chest.air[side], 0)
    collapse = {"small": 0.05, "moderate": 0.2, "large": 0.6}[finding.severity]
    line = np.linspace(0.0, min(ends, 0.97) * patient.height, 120, dtype=np.float32)
    x = lateral_wall(patient, line, side) - gap(line)
    seen = x > patient.medial + (apex(patient, side) - patient.medial) * np.clip(1 - line / 3, 0, 1)
    path = np.stack([SIGN[side] * x, line, np.full_like(line, -1.0)], 1)[seen]
    return SOFT * patient.lung_density * (collapse * chest.air[side] - free), path


def blobs(rng: np.random.Generator, chest: Chest, finding: Finding) -> Array:
    """Return an opacity, pneumonia or consolidation: lumps of denser lung in the zone or in the whole lung.

    Half to all of a zone is common: in real images such boxes average 6 % of the image.
    """
    side = finding.side or "right"
    solid, diffuse = finding.name == "consolidation", finding.regions[0].endswith("lung")
    count = int(rng.integers(2, 6) if finding.name != "lung opacity" else rng.integers(1, 4))
    size = {"small": 3.0, "moderate": 5.2, "large": 7.4}[finding.severity] * float(rng.uniform(0.8, 1.25))
    center = _spot(rng, chest, finding, size)
    total = np.zeros(chest.grid.shape, np.float32)
    scatter = np.array([0.42, 0.9 if diffuse else 0.42, 0.42]) * size
    for _ in range(count + 2 * diffuse):
        jitter = rng.normal(0, scatter) * (count > 1 or diffuse)
        semi = size * rng.uniform(0.75, 1.25, 3) * (0.72 if count > 1 or diffuse else 1.0)
        lump = ellipsoid(chest.grid, tuple(center + jitter), tuple(semi), float(rng.uniform(0, 3)))
        total = np.maximum(total, aerated(chest, lump, side))
    low, high = {"consolidation": (0.52, 0.75), "pneumonia": (0.35, 0.6)}.get(finding.name, (0.26, 0.5))
    total *= cloud(rng, chest, 0.9, 0.15 if solid else 0.28)
    total = ndimage.gaussian_filter(total, (0.15 if solid else 0.5) / chest.grid.cm)
    thin = (3.1 / max(size, 3.1)) ** 0.5  # a wide lump is seldom as deep
    result: Array = SOFT * float(rng.uniform(low, high)) * thin * total
    return result


def _spot(rng: np.random.Generator, chest: Chest, finding: Finding, size: float) -> Array:
    """Return a point in the finding's zone that keeps most of a lump of this size inside it."""
    patient, side = chest.patient, finding.side or "right"
    top, bottom = BANDS[finding.regions[0].split(" ", 1)[1]]
    top, bottom = top * patient.floor[side], bottom * patient.floor[side]
    room = max(0.0, (bottom - top) / 2 - 0.6 * size)
    y = (top + bottom) / 2 + float(rng.uniform(-room, room))
    inner, outer = patient.medial + 1.5, float(lateral_wall(patient, y, side))
    if side == "left" and y > 0.5 * patient.height:
        inner += 3.0
    x = inner + (outer - inner) * float(rng.uniform(0.25, 0.8))
    return np.array([SIGN[side] * x, y, float(rng.uniform(-0.5, 0.45)) * patient.half_depth])


def edema(rng: np.random.Generator, chest: Chest, finding: Finding) -> Array:
    """Return haze around the hilum that thins towards the pleura, with interstitial texture."""
    side = finding.side or "right"
    x, y = chest.grid.plane(0.0)
    at = hilum(chest.patient, side)
    reach = {"small": 5.0, "moderate": 6.5, "large": 8.5}[finding.severity]
    away = np.hypot(x - at[0] * 1.7, (y - at[1] - 1.5) / 1.25)
    amount = {"small": 0.09, "moderate": 0.16, "large": 0.26}[finding.severity] * float(rng.uniform(0.8, 1.2))
    texture = cloud(rng, chest, 0.45, 0.16) * cloud(rng, chest, 1.8, 0.2)
    result: Array = SOFT * amount * chest.air[side] * (0.3 + np.exp(-((away / reach) ** 2))) * texture
    return result


def basal_haze(rng: np.random.Generator, chest: Chest, finding: Finding) -> Array:
    """Return airless lung on the dome (or in the zone) next to the bands of atelectasis."""
    side, patient = finding.side or "right", chest.patient
    size = {"small": 1.5, "moderate": 2.6, "large": 3.7}[finding.severity]
    low = finding.regions[0].endswith("lower lung zone")
    y = dome_top(patient, side) - 0.3 if low else _spot(rng, chest, finding, size)[1]
    x = SIGN[side] * patient.half_width * float(rng.uniform(0.38, 0.66))
    lump = ellipsoid(chest.grid, (x, float(y), -2.0), (2.2 * size, size, 3.5))
    haze = ndimage.gaussian_filter(
        aerated(chest, lump, side) * cloud(rng, chest, 1.0, 0.3), 0.35 / chest.grid.cm
    )
    finding.detail |= {"x": round(x, 2), "y": round(float(y), 2)}
    result: Array = SOFT * float(rng.uniform(0.3, 0.55)) * haze
    return result


def nodule(rng: np.random.Generator, chest: Chest, finding: Finding) -> Array:
    """Return a round lump of soft tissue."""
    side = finding.side or "right"
    radius = {"small": 0.45, "moderate": 0.9, "large": 1.8}[finding.severity] * float(rng.uniform(0.85, 1.2))
    spot = _spot(rng, chest, finding, radius)
    lump = ellipsoid(chest.grid, tuple(spot), tuple(radius * rng.uniform(0.9, 1.1, 3)))
    finding.detail["radius"] = round(radius, 2)
    return SOFT * 1.4 * (1 - chest.patient.lung_density) * aerated(chest, lump, side)
