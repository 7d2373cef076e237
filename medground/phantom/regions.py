"""The boxes of Chest ImaGenome's 29 regions, from the projected structures of one patient.

A region has no box if less than a quarter of it is inside the image.
"""

import numpy as np
from numpy.typing import NDArray

from medground import boxes
from medground.phantom.beam import Array
from medground.phantom.organs import Chest, dome_top, heart_mask
from medground.phantom.patient import SIDES, SIGN
from medground.phantom.skeleton import clavicle_path
from medground.phantom.solids import Grid, apex, lateral_wall, length
from medground.phantom.vessel_tree import hilum
from medground.records import Box

ZONE_CUTS = {"upper lung zone": (0.0, 0.37), "mid lung zone": (0.37, 0.62), "lower lung zone": (0.62, 1.2)}
SEEN = 0.25


def region_boxes(chest: Chest) -> dict[str, Box]:
    """Return each region that the image shows, in pixels, clipped to the image and rounded."""
    raw = _of_lungs(chest) | _of_mediastinum(chest) | _of_frame(chest)
    beam = chest.grid.beam
    kept = {}
    for name in sorted(raw):
        whole = raw[name]
        inside = boxes.clip(whole, beam.width, beam.height)
        if inside and _size(inside) >= SEEN * _size(whole):
            kept[name] = boxes.rounded(inside)
    return kept


def _size(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def mask_box(grid: Grid, mask: NDArray[np.bool_]) -> Box | None:
    """Return the box, in image pixels, of a mask on the coarse grid; None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    sx, sy = grid.beam.width / mask.shape[1], grid.beam.height / mask.shape[0]
    right, bottom = float((columns[-1] + 1) * sx), float((rows[-1] + 1) * sy)
    return (float(columns[0] * sx), float(rows[0] * sy), right, bottom)


def span_box(grid: Grid, x: tuple[float, float], y: tuple[float, float], z: float = 0.0) -> Box:
    """Return the box of a rectangle in the patient, given in cm at depth z."""
    corners = np.array([(a, b, z) for a in x for b in y], float)
    at = grid.beam.project(corners)
    left, top, right, bottom = map(float, (*at.min(0), *at.max(0)))
    return (left, top, right, bottom)


def _of_lungs(chest: Chest) -> dict[str, Box]:
    grid, patient = chest.grid, chest.patient
    found = {}
    for side in SIDES:
        s, h = SIGN[side], patient.floor[side]
        lung = lung_extent(chest, side)
        found[f"{side} lung"] = lung
        wall = (s * patient.medial, s * float(lateral_wall(patient, h, side)))
        clavicle = clavicle_path(patient, side)
        levels = {"apical zone": (0.0, float(clavicle[12, 1]) / h), **ZONE_CUTS}
        for zone, (top, bottom) in levels.items():
            found[f"{side} {zone}"] = _zone(chest, side, top * h, bottom * h)
        root = hilum(patient, side)
        found[f"{side} hilar structures"] = span_box(
            grid, (root[0] - s * 1.6, root[0] + s * 3.2), (root[1] - 3.4, root[1] + 3.6), -0.8
        )
        found[f"{side} costophrenic angle"] = span_box(
            grid, (wall[1] - s * 3.6, wall[1] + s * 0.3), (h - 3.4, h + 0.5)
        )
        found[f"{side} hemidiaphragm"] = span_box(grid, wall, (dome_top(patient, side) - 0.2, h + 0.3))
        found[f"{side} clavicle"] = _curve(grid, clavicle, 0.6)
    return found


def lung_extent(chest: Chest, side: str) -> Box:
    """Return a lung's box in exact geometry: apex to costophrenic angle, spine to lateral wall."""
    patient, s = chest.patient, SIGN[side]
    floor = patient.floor[side]
    y = np.linspace(0, floor, 60)
    high = y[(y > 0.12 * patient.frame) & (y < 0.9 * floor)]  # lower down the dome is in between
    outer = np.stack([s * lateral_wall(patient, y, side), y, np.zeros(60)], 1)
    inner = np.stack([np.full(len(high), s * (patient.medial + 0.4)), high, np.zeros(len(high))], 1)
    at = np.concatenate([outer, inner])
    return _curve(chest.grid, at, 0.0)


def _zone(chest: Chest, side: str, top: float, bottom: float) -> Box:
    """Return the part of the lung between two heights, its width from the lung's shape there."""
    patient, s = chest.patient, SIGN[side]
    bottom = min(bottom, patient.floor[side])
    level = np.linspace(top, bottom, 30)
    outer = np.stack([s * lateral_wall(patient, level, side), level, np.zeros(30)], 1)
    rise = np.clip(1 - level / (0.12 * patient.frame), 0, 1)
    edge = patient.medial + 0.4
    inner = s * (edge + (apex(patient, side) - edge) * (1 - np.sqrt(1 - rise**2)))
    at = np.concatenate(
        [outer, np.stack([inner, np.minimum(level, 0.9 * patient.floor[side]), np.zeros(30)], 1)]
    )
    return _curve(chest.grid, at, 0.0)


def _curve(grid: Grid, points: Array, margin: float) -> Box:
    at = grid.beam.project(points)
    low, high = at.min(0) - margin * grid.beam.scale, at.max(0) + margin * grid.beam.scale
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _of_mediastinum(chest: Chest) -> dict[str, Box]:
    grid, patient = chest.grid, chest.patient
    f, a = patient.frame, patient.aorta
    heart = mask_box(grid, heart_mask(chest))
    right_atrium = mask_box(grid, length(chest.heart["right atrium"]) > 0.6)
    found = {
        "trachea": span_box(grid, (-1.2, 1.3), (-0.12 * f, 0.375 * f), -1.5),
        "carina": span_box(grid, (-1.6, 1.8), (0.335 * f, 0.41 * f), -2.0),
        "aortic arch": span_box(
            grid, (0.0, 1.9 * a + 1.75 * a), (0.32 * f - 1.9 * a, 0.32 * f + 1.9 * a), -1.0
        ),
        "svc": span_box(grid, (-3.2, -1.0), (0.12 * f, 0.54 * f), 1.0),
        "cavoatrial junction": span_box(grid, (-3.6, -0.8), (0.49 * f, 0.59 * f), 1.0),
        "upper mediastinum": span_box(grid, (-3.3, 1.9 * a + 1.75 * a), (0.03 * f, 0.4 * f), 0.0),
    }
    if heart:
        found["cardiac silhouette"] = heart
        found["mediastinum"] = boxes.union([heart, found["upper mediastinum"]])
    if right_atrium:
        found["right atrium"] = right_atrium
    return found


def _of_frame(chest: Chest) -> dict[str, Box]:
    """Return the regions that reach the borders: the spine, and the abdomen below the domes."""
    beam, patient = chest.grid.beam, chest.patient
    spine = span_box(chest.grid, (-2.4, 2.4), (0.0, patient.frame), -5.5)
    top = min(dome_top(patient, side) for side in SIDES)
    wide = patient.half_width + patient.side_wall
    abdomen = span_box(chest.grid, (-wide, wide), (top, top + 1.0))
    return {
        "spine": (spine[0], 0.0, spine[2], float(beam.height)),
        "abdomen": (max(abdomen[0], 0.0), abdomen[1], min(abdomen[2], beam.width), float(beam.height)),
    }
