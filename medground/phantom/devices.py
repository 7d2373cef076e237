"""Lines and tubes, pacemakers, wires, electrodes: their courses in the patient, drawn at image resolution."""

from collections.abc import Sequence

import numpy as np

from medground.phantom.beam import Array
from medground.phantom.findings import Finding
from medground.phantom.patient import SIGN, Patient
from medground.phantom.splat import Tubes, join, smooth, tube

PLASTIC, METAL = 2.2, 20.0


def device(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return the segments of one device, chosen by `finding.name`."""
    build = {
        "endotracheal tube": endotracheal_tube,
        "enteric tube": enteric_tube,
        "picc": picc,
        "ij line": ij_line,
        "cardiac pacer and wires": pacer,
        "chest tube": chest_tube,
        "sternotomy wires": sternotomy_wires,
    }[finding.name]
    return build(rng, patient, finding)


def _wobble(rng: np.random.Generator, path: Sequence[tuple[float, float, float]], amount: float) -> Array:
    knots = np.array(path) + rng.normal(0, amount, (len(path), 3)) * [1, 1, 0]
    return smooth([tuple(each) for each in knots], 120)


def endotracheal_tube(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return a tube in the trachea with a dense stripe, its tip some cm above the carina."""
    f = patient.frame
    above = float(rng.uniform(1.5, 6.5))
    finding.detail["above"] = round(above, 1)
    tip = 0.37 * f - above
    path = _wobble(rng, [(0.2, -0.5 * f, -1), (0, -0.1 * f, -1.2), (0.05, tip, -1.6)], 0.1)
    return join([tube(path, 0.5, 0.3), tube(path + np.array([0.35, 0, 0]), 0.08, 9.0)])


def enteric_tube(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return a thin tube down the oesophagus into the stomach."""
    f, h = patient.frame, patient.height
    path = [
        (0.2, -0.5 * f, -2),
        (0.2, 0.0, -2.5),
        (0.6, 0.4 * f, -3),
        (0.5, 0.7 * f, -3),
        (2.2, 0.98 * h, -1),
        (5.5, 1.12 * h, 1),
        (4.5, 1.3 * h, 2),
    ]
    return tube(_wobble(rng, path, 0.25), 0.17, PLASTIC * 1.6)


def picc(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return a line from the arm along the subclavian vein into the superior vena cava."""
    s, w, f = SIGN[finding.side or "right"], patient.half_width, patient.frame
    path = [
        (s * 1.5 * w, 0.4 * f, 0),
        (s * 1.25 * w, 0.2 * f, 0),
        (s * 0.8 * w, 0.1 * f, 1),
        (s * 0.35 * w, 0.1 * f, 2),
    ]
    return tube(
        _wobble(rng, [*path, *_caval(finding, f, float(rng.uniform(0.42, 0.56)))], 0.2), 0.09, PLASTIC * 2.6
    )


def ij_line(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return a line from the neck straight down into the superior vena cava."""
    s, f = SIGN[finding.side or "right"], patient.frame
    path = [(s * 5, -0.35 * f, 2), (s * 4.2, -0.15 * f, 2), (s * 3.2, 0.0, 2)]
    return tube(
        _wobble(rng, [*path, *_caval(finding, f, float(rng.uniform(0.34, 0.52)))], 0.15), 0.13, PLASTIC * 2
    )


def _caval(finding: Finding, f: float, end: float) -> list[tuple[float, float, float]]:
    """Return the last part of a central line, across the midline first if it comes from the left."""
    cross = (
        [(1.5, 0.15 * f, 2.0), (-1.2, 0.2 * f, 1.5)] if finding.side == "left" else [(-2.4, 0.14 * f, 1.5)]
    )
    return [*cross, (-2.2, 0.3 * f, 1.0), (-2.3, end * f, 1.0)]


def pacer(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return a can below the left clavicle and one or two leads into the right heart."""
    w, f, h = patient.half_width, patient.frame, patient.height
    x, y, r = 0.72 * w, 0.2 * f, float(rng.uniform(1.9, 2.4))
    offsets = np.linspace(-0.8, 0.8, 9) * r
    cans = [
        tube(np.array([[x - c, y + o, 7.0], [x + c, y + o, 7.0]]), 0.12 * r, 4.0)
        for o in offsets
        for c in [0.95 * np.sqrt(r * r - o * o)]
    ]
    shared = [
        (x - 1.5, y - 1.0, 6.5),
        (0.4 * w, 0.09 * f, 4),
        (1.5, 0.14 * f, 2),
        (-1.8, 0.22 * f, 1.5),
        (-2.3, 0.45 * f, 1),
    ]
    leads = [[*shared, (-2.5, 0.72 * h, 2), (1.0, 0.8 * h, 3), (3.8, 0.8 * h, 3.5)]]
    if rng.random() < 0.6:
        leads.append([*shared, (-2.6, 0.68 * h, 1), (-1.5, 0.62 * h, 2.5)])
    return join([*cans, *(tube(_wobble(rng, lead, 0.2), 0.11, METAL * 0.5) for lead in leads)])


def chest_tube(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return a tube through the lateral wall up towards the apex, with a dense stripe."""
    s, w, f = SIGN[finding.side or "right"], patient.half_width, patient.frame
    path = [
        (s * 1.35 * w, 0.78 * f, 2),
        (s * 0.98 * w, 0.66 * f, 1),
        (s * 0.72 * w, 0.42 * f, -3),
        (s * 0.45 * w, float(rng.uniform(0.1, 0.25)) * f, -3),
    ]
    course = _wobble(rng, path, 0.3)
    return join([tube(course, 0.42, 0.4), tube(course, 0.09, PLASTIC * 4)])


def sternotomy_wires(rng: np.random.Generator, patient: Patient, finding: Finding) -> Tubes:
    """Return about five twisted rings in the midline."""
    rings = []
    for y in np.linspace(0.2, 0.72, int(rng.integers(4, 7))) * patient.frame:
        t = np.linspace(0, 2 * np.pi, 24)
        x0, wide, tall = rng.normal(0, 0.15), float(rng.uniform(0.7, 1.0)), float(rng.uniform(0.25, 0.5))
        path = np.stack(
            [x0 + wide * np.cos(t), y + tall * np.sin(t) * (0.4 + 0.6 * np.cos(t) ** 2), np.full(24, 7.5)], 1
        )
        rings.append(tube(path, 0.05, METAL))
    return join(rings)


def electrodes(rng: np.random.Generator, patient: Patient) -> Tubes:
    """Return two to four stickers of an ECG on the skin and their cables, which no report mentions."""
    w, f, front = patient.half_width, patient.frame, patient.half_depth + patient.wall
    parts = []
    for _ in range(int(rng.integers(2, 5))):
        x, y = float(rng.uniform(-1.0, 1.0)) * w, float(rng.uniform(0.0, 1.0)) * f
        parts.append(tube(np.array([[x - 0.4, y, front], [x + 0.4, y + 0.1, front]]), 0.35, 2.0))
        away = [(x, y, front)]
        heading = rng.normal([0, 0.6 * np.sign(y - 0.4 * f)], 1)
        for _ in range(4):
            heading = 0.75 * heading + rng.normal(0, 0.45, 2)
            away.append((away[-1][0] + 5 * heading[0], away[-1][1] + 5 * heading[1], front))
        parts.append(tube(smooth(away, 160), 0.09, METAL * 0.3))
    return join(parts)
