"""One image: the patient, the findings and the exposure put together into an image with exact boxes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medground import boxes
from medground.phantom import image_formation, opacities
from medground.phantom.beam import Array, Beam, aim
from medground.phantom.devices import device, electrodes
from medground.phantom.findings import DEVICES, OPACITIES, Finding
from medground.phantom.marks import burn_in
from medground.phantom.opacities import SOFT
from medground.phantom.organs import Chest, body_path, breast_path, build_chest, dome_top, heart_mask
from medground.phantom.patient import SIDES, SIGN, Exposure, Patient
from medground.phantom.regions import mask_box, region_boxes
from medground.phantom.skeleton import draw_girdle, draw_ribs, girdle_path, spine_path
from medground.phantom.solids import Grid, coarse_grid, ellipsoid, lateral_wall, length
from medground.phantom.splat import Tubes, box_of, draw, join, lay, samples, smooth, tube
from medground.phantom.vessel_tree import vessel_tree
from medground.records import Box

VESSEL = 1.9  # more than blood: the tree is coarser than a real one
SEEN = 0.3  # the box of a finding contains changes above this share of its largest change


@dataclass(slots=True)
class Scene:
    """(H, W) attenuation and the boxes of the regions; each finding has its own box."""

    beam: Beam
    chest: Chest
    attenuation: Array
    regions: dict[str, Box]


def render_scene(
    rng: np.random.Generator, patient: Patient, exposure: Exposure, findings: list[Finding]
) -> tuple[NDArray[np.uint8], dict[str, Box]]:
    """Return the (H, W) image of one patient and the boxes of its regions; fills in the boxes of
    `findings`.
    """
    scene = project(rng, patient, exposure, findings)
    bright = image_formation.develop(rng, scene.attenuation, scene.beam, exposure)
    return burn_in(rng, image_formation.to_bytes(bright), exposure), scene.regions


def project(rng: np.random.Generator, patient: Patient, exposure: Exposure, findings: list[Finding]) -> Scene:
    """Send the beam through one patient; fills in the boxes of `findings`.

    Each part draws from its own generator, so that a finding changes only its own surroundings.
    """
    soft, found, trees, skin = rng.spawn(4)
    beam = aim(patient, exposure)
    chest = build_chest(coarse_grid(beam), patient)
    regions = region_boxes(chest)
    fine = np.zeros((exposure.height, exposure.width), np.float32)
    coarse = _soft(soft, chest)  # before findings displace lung
    coarse += _place(found, chest, fine, findings, exposure)
    _vessels(trees, chest, fine, findings)
    _airways(chest, fine)
    draw_ribs(fine, beam, patient)
    draw_girdle(fine, beam, patient)
    if skin.random() < (0.6 if exposure.view == "AP" else 0.04):
        draw(fine, beam, _attenuating(electrodes(skin, patient)))
    attenuation = image_formation.enlarge(coarse, exposure.width, exposure.height) + image_formation.blurred(
        fine, 0.5
    )
    return Scene(beam, chest, attenuation, regions)


def _soft(rng: np.random.Generator, chest: Chest) -> Array:
    """Return the attenuation of everything smooth."""
    grid, patient = chest.grid, chest.patient
    air = sum(chest.air.values()) * (1 - patient.lung_density * opacities.cloud(rng, chest, 0.5, 0.13))
    path = body_path(grid, patient) + breast_path(grid, patient) - air - _gas(rng, grid, patient)
    path += 0.55 * patient.vessel * opacities.hila(chest) * opacities.cloud(rng, chest, 0.6, 0.25)
    bone = girdle_path(grid, patient) + spine_path(grid, patient)
    return SOFT * np.maximum(path, 0) + bone


def _gas(rng: np.random.Generator, grid: Grid, patient: Patient) -> Array:
    """Return the path through the stomach bubble and some loops of bowel."""
    total = np.zeros(grid.shape, np.float32)
    top = dome_top(patient, "left")
    if patient.gas > 0.4:
        wide = 1.2 + 2.8 * patient.gas
        place = (0.42 * patient.half_width, top + 1.3 + 0.55 * wide, 1.5)
        total += length(
            ellipsoid(grid, place, (wide, 0.62 * wide, 0.5 * wide + 1.0), float(rng.normal(0, 0.25)))
        )
    for _ in range(int(rng.integers(0, 9) * (patient.gas > 0.5))):
        x, y = rng.uniform(-0.4, 0.9) * patient.half_width, top + rng.uniform(4, 14)
        size = rng.uniform(0.8, 1.9)
        total += 0.6 * length(
            ellipsoid(grid, (float(x), float(y), 3.0), (size * 1.3, size, size), float(rng.uniform(0, 3)))
        )
    return total


def _place(
    rng: np.random.Generator, chest: Chest, fine: Array, findings: list[Finding], exposure: Exposure
) -> Array:
    """Return the attenuation that the findings add to the smooth part; fine parts go to `fine`. Fills in the
    boxes.
    """
    total = np.zeros(chest.grid.shape, np.float32)
    rank = {"pneumothorax": 0, "pleural effusion": 1}
    supine = exposure.view == "AP" and rng.random() < 0.35
    for finding in sorted(findings, key=lambda each: rank.get(each.name, 2)):
        if finding.name in DEVICES:
            _place_device(rng, chest, fine, finding)
            continue
        if finding.name == "enlarged cardiac silhouette":
            finding.box = _kept(chest.grid.beam, mask_box(chest.grid, heart_mask(chest)))
            continue
        change = _change(rng, chest, fine, finding, supine)
        total += change
        finding.mask = change_mask(chest.grid, change)
        finding.box = _kept(chest.grid.beam, mask_box(chest.grid, finding.mask))
    return total


def _change(rng: np.random.Generator, chest: Chest, fine: Array, finding: Finding, supine: bool) -> Array:
    """Return the smooth change of one finding of the lung or pleura."""
    beam = chest.grid.beam
    if finding.name == "pleural effusion":
        return opacities.effusion(rng, chest, finding, supine)
    if finding.name == "pneumothorax":
        change, line = opacities.pneumothorax(rng, chest, finding)
        if len(line) > 1:
            draw(fine, beam, tube(line, 0.06, SOFT * 9))
        return np.where(change < 0, change, 0.2 * change)
    if finding.name in OPACITIES:
        return opacities.blobs(rng, chest, finding)
    if finding.name == "pulmonary edema/hazy opacity":
        draw(fine, beam, _kerley(rng, chest.patient, finding))
        return opacities.edema(rng, chest, finding)
    if finding.name == "atelectasis":
        haze = opacities.basal_haze(rng, chest, finding)
        draw(fine, beam, _bands(rng, chest.patient, finding))
        return haze
    return opacities.nodule(rng, chest, finding)


def change_mask(grid: Grid, change: Array) -> NDArray[np.bool_]:
    """Return where a change is visible, on the grid; nowhere if it is too weak."""
    strength = np.abs(ndimage.gaussian_filter(change, 0.15 / grid.cm))
    peak = float(strength.max())
    result: NDArray[np.bool_] = strength > (SEEN * peak if peak >= 0.01 else np.inf)
    return result


def _kept(beam: Beam, box: Box | None) -> Box | None:
    inside = boxes.clip(box, beam.width, beam.height) if box else None
    return boxes.rounded(inside) if inside else None


def _place_device(rng: np.random.Generator, chest: Chest, fine: Array, finding: Finding) -> None:
    parts = device(rng, chest.patient, finding)
    draw(fine, chest.grid.beam, _attenuating(parts))
    finding.box = _kept(
        chest.grid.beam, box_of(chest.grid.beam, np.concatenate([parts.start, parts.end]), 0.2)
    )


def _attenuating(parts: Tubes) -> Tubes:
    return Tubes(parts.start, parts.end, parts.r0, parts.r1, parts.density * SOFT)


def _kerley(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return short horizontal lines at the lateral base: thickened septa."""
    s = SIGN[finding.side or "right"]
    lines = []
    side = finding.side or "right"
    for y in rng.uniform(0.6, 0.95, int(rng.integers(6, 14))) * patient.floor[side]:
        x = float(lateral_wall(patient, y, side)) - 0.3
        long, z = float(rng.uniform(1.0, 2.2)), float(rng.uniform(-3, 3))
        path = np.array([[s * x, y, z], [s * (x - long), y + rng.normal(0, 0.12), z]])
        lines.append(tube(path, 0.07, SOFT * 4))
    return join(lines)


def _bands(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return one to three plates of airless lung, viewed edge on."""
    s, lines = SIGN[finding.side or "right"], []
    for _ in range(int(rng.integers(1, 4))):
        x, y = finding.detail["x"], finding.detail["y"] - float(rng.uniform(-0.2, 1.8))
        long, tilt = float(rng.uniform(1.6, 3.2)), float(rng.normal(0.15, 0.25))
        knots = [
            (x + s * long * t, y + long * tilt * t + 0.4 * t * t * float(rng.uniform(-1, 1)), -2.0)
            for t in (-1.0, 0.0, 1.0)
        ]
        thick = float(rng.uniform(0.07, 0.17)) * np.sin(np.linspace(0.15, np.pi - 0.15, 30)) ** 0.6
        lines.append(tube(smooth(knots, 30), thick, SOFT * float(rng.uniform(2, 4.5))))
    return join(lines)


def _vessels(rng: np.random.Generator, chest: Chest, fine: Array, findings: list[Finding]) -> None:
    """Lay the pulmonary vessels that run in aerated lung; edema makes them thicker and less sharp."""
    patient, beam = chest.patient, chest.grid.beam
    full = {each.side for each in findings if each.name == "pulmonary edema/hazy opacity"}
    for side in SIDES:
        tree = vessel_tree(rng, patient, side)
        if side in full:
            tree = Tubes(tree.start, tree.end, tree.r0 * 1.25, tree.r1 * 1.25, tree.density)
        points, mass, _ = samples(tree, beam.scale)
        inside = _in_lung(chest, side, points)
        lay(fine, beam, points.T[:, inside].T, mass[inside] * VESSEL * SOFT * (1 - patient.lung_density))


def _in_lung(chest: Chest, side: str, points: Array) -> NDArray[np.bool_]:
    """Return which points lie in aerated lung, a little off its surface."""
    grid = chest.grid
    at = grid.beam.project(points)
    rows, columns = grid.shape
    i = np.clip((at[:, 1] * (rows / grid.beam.height)).astype(int), 0, rows - 1)
    j = np.clip((at[:, 0] * (columns / grid.beam.width)).astype(int), 0, columns - 1)
    z = points[:, 2]
    near, far = chest.cages[side]
    inside = (z > near[i, j] + 0.3) & (z < far[i, j] - 0.3)
    for solid in (chest.domes[side], chest.front):
        inside &= ~((z > solid[0][i, j]) & (z < solid[1][i, j]))
    result: NDArray[np.bool_] = inside
    return result


def _airways(chest: Chest, fine: Array) -> None:
    """Trachea and main bronchi: columns of air in soft tissue."""
    f, beam = chest.patient.frame, chest.grid.beam
    trachea = smooth([(0, -9, -1), (0, 0.1 * f, -1.5), (0.1, 0.37 * f, -2)], 60)
    draw(fine, beam, tube(trachea, 0.85, -1.4 * SOFT))
    for end in ((-3.4, 0.5 * f, -1), (4, 0.46 * f, -1)):
        middle = (0.45 * end[0], 0.42 * f, -1.6)
        bronchus = smooth([(0.1, 0.365 * f, -2), middle, end], 30)
        draw(fine, beam, tube(bronchus, np.linspace(0.6, 0.3, 30), -SOFT))
