"""The lateral image of a study: the same body seen from the side, the patient facing left.

It is simpler than the frontal image: of the findings it shows only the heart size. It has no boxes.
"""

import numpy as np
from numpy.typing import NDArray

from medground.phantom import image_formation
from medground.phantom.beam import Array, Beam, aim
from medground.phantom.marks import burn_in
from medground.phantom.opacities import SOFT
from medground.phantom.organs import heart_of, vessels_of
from medground.phantom.patient import SIDES, SIGN, Patient, draw_exposure
from medground.phantom.skeleton import BONE, rib_path, sweep
from medground.phantom.solids import (
    Grid,
    Solid,
    coarse_grid,
    depth_of_cage,
    diaphragm,
    hull,
    lateral_wall,
    outside,
    turned,
)
from medground.phantom.splat import Tubes, draw, lay, samples, smooth, tube
from medground.phantom.vessel_tree import vessel_tree


def render_lateral(rng: np.random.Generator, patient: Patient, size: int) -> NDArray[np.uint8]:
    """Return (H, W) image from the side; its long side is `size` pixels."""
    exposure = draw_exposure(rng, size, "LATERAL")
    exposure.reach = float(rng.uniform(1.0, 1.3))  # of the chest width, along the beam
    beam = aim(patient, exposure)
    grid = coarse_grid(beam, lateral=True)
    front, back = _middle(grid, patient)
    fine = np.zeros((exposure.height, exposure.width), np.float32)
    path = _body(grid, patient)
    for side in SIDES:
        cage, dome = _cage(grid, patient, side), diaphragm(grid, patient, side)
        path = path - (1 - patient.lung_density) * outside(cage, [dome, front, back])
        _draw_vessels(rng, fine, grid, patient, side, (cage, dome, front))
    _draw_bones(fine, beam, patient)
    coarse = SOFT * np.maximum(path, 0) + _vertebrae(grid, patient)
    attenuation = image_formation.enlarge(coarse, exposure.width, exposure.height) + image_formation.blurred(
        fine, 0.5
    )
    bright = image_formation.develop(rng, 0.75 * attenuation, beam, exposure)
    return burn_in(rng, image_formation.to_bytes(bright), exposure)


def _middle(grid: Grid, patient: Patient) -> tuple[Solid, Solid]:
    """Return the tissue between the lungs, in front and behind."""
    heart, vessels = heart_of(grid, patient), vessels_of(grid, patient)
    front = hull([*heart.values(), *(vessels[n] for n in ("ascending", "trunk", "arch", "center"))])
    return front, hull([vessels["descending"], vessels["column"]])


def _cage(grid: Grid, patient: Patient, side: str) -> Solid:
    """Return one lung's space, from the spine's side to the lateral wall."""
    across, y = grid.plane(0.0)
    half, center = depth_of_cage(patient, y)
    inside = 1 - np.clip(np.abs((-across - center) / half), 0, 1) ** 2.2
    reach = (
        lateral_wall(patient, y, side)
        * inside ** (1 / 2.4)
        * np.clip((1.14 - y / patient.floor[side]) / 0.2, 0, 1)
    )
    reach = np.where((y < 0) | (reach < patient.medial), patient.medial, reach)
    inner = np.full_like(reach, patient.medial)
    return (inner, reach) if side == "left" else (-reach, -inner)


def _body(grid: Grid, patient: Patient) -> Array:
    """Return the path from side to side; the arms are raised out of the image."""
    across, y = grid.plane(0.0)
    half, center = depth_of_cage(patient, np.maximum(y, 0.2 * patient.frame))
    depth = half + patient.wall
    wide = lateral_wall(patient, np.maximum(y, 0.2 * patient.frame)) + 0.9 + patient.side_wall
    trunk = wide * np.sqrt(np.maximum(1 - np.abs((-across - center) / depth) ** 2.6, 0))
    above = np.clip((y + 6) / (0.3 * patient.frame), 0.35, 1)
    return np.asarray(2 * trunk * above, np.float32)


def _draw_vessels(
    rng: np.random.Generator,
    fine: Array,
    grid: Grid,
    patient: Patient,
    side: str,
    solids: tuple[Solid, Solid, Solid],
) -> None:
    tree = vessel_tree(rng, patient, side)
    beam = grid.beam
    seen = Tubes(turned(tree.start), turned(tree.end), tree.r0, tree.r1, tree.density)
    points, mass, _ = samples(seen, beam.scale)
    at = beam.project(points) * (grid.shape[1] / beam.width)
    i = np.clip(at[:, 1].astype(int), 0, grid.shape[0] - 1)
    j = np.clip(at[:, 0].astype(int), 0, grid.shape[1] - 1)
    cage, dome, front = ((a[i, j] < points[:, 2]) & (points[:, 2] < b[i, j]) for a, b in solids)
    kept = cage & ~dome & ~front
    lay(fine, beam, points.T[:, kept].T, mass[kept] * 1.5 * SOFT * (1 - patient.lung_density))


def _draw_bones(fine: Array, beam: Beam, patient: Patient) -> None:
    """Ribs, the sternum and the trachea's air."""
    f, half = patient.frame, patient.half_depth
    for side in SIDES:
        for number in range(1, 13):
            sweep(
                fine,
                beam,
                turned(rib_path(patient, side, number)),
                0.6 * f / 25.2,
                0.3,
                0.7 * BONE * patient.bone,
            )
        arm = np.array([[SIGN[side] * 9, -0.5 * f, 0], [SIGN[side] * 9, 0.05 * f, -1]])
        draw(fine, beam, tube(turned(arm), 1.2, 0.4 * BONE))
    sternum = np.array([(0, 0.16 * f, 0.72 * half), (0, 0.4 * f, half + 0.3), (0, 0.75 * f, half + 0.6)])
    draw(fine, beam, tube(turned(smooth(list(map(tuple, sternum)), 40)), 0.6, 1.6 * BONE * patient.bone))
    trachea = smooth([(0, -9, -0.5), (0, 0.1 * f, -1.5), (0.1, 0.4 * f, -2.4)], 60)
    draw(fine, beam, tube(turned(trachea), 0.85, -1.4 * SOFT))


def _vertebrae(grid: Grid, patient: Patient) -> Array:
    """Return the attenuation of the vertebral bodies, from the side."""
    across, y = grid.plane(0.0)
    f = patient.frame / 25.2
    phase = (y / (2.15 * f + 0.008 * y)) % 1.0
    bend = 0.8 * np.cos((y - 0.5 * patient.frame) / (7 * f))
    off = np.abs(across - 0.62 * patient.half_depth - bend)
    body = np.clip((1.5 - off) / 0.25, 0, 1) * np.clip(np.minimum(phase, 1 - phase) / 0.12, 0.3, 1)
    rim = np.exp(-(((off - 1.4) / 0.18) ** 2)) * (body > 0.1)
    return np.asarray((1.4 * body + 0.5 * rim) * BONE * patient.bone, np.float32)
