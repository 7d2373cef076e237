"""The findings of a patient: kinds, sides, zones, severities.

A finding is one visible thing with one box; findings with the same `group` share one phrase ("bibasilar
atelectasis"). The names are Chest ImaGenome's attributes, the categories MS-CXR's.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medground.phantom.patient import SIDES, Patient
from medground.records import Box

CATEGORY = {
    "atelectasis": "Atelectasis",
    "enlarged cardiac silhouette": "Cardiomegaly",
    "consolidation": "Consolidation",
    "pulmonary edema/hazy opacity": "Edema",
    "lung opacity": "Lung Opacity",
    "pleural effusion": "Pleural Effusion",
    "pneumonia": "Pneumonia",
    "pneumothorax": "Pneumothorax",
}
ZONES = ("upper lung zone", "mid lung zone", "lower lung zone")
SEVERITIES = ("small", "moderate", "large")
OPACITIES = ("consolidation", "lung opacity", "pneumonia")
DIFFUSE = {"small": 0.0, "moderate": 0.2, "large": 0.5}  # probability that an opacity fills its whole lung
SHARE = {  # probability of each finding in a patient with findings; earlier ones choose their side first
    "pneumothorax": 0.2,
    "enlarged cardiac silhouette": 0.3,
    "pleural effusion": 0.36,
    "atelectasis": 0.3,
    "pulmonary edema/hazy opacity": 0.17,
    "lung opacity": 0.26,
    "pneumonia": 0.19,
    "consolidation": 0.17,
    "mass/nodule (not otherwise specified)": 0.1,
}
BOTH = {  # probability of both sides
    "pulmonary edema/hazy opacity": 0.9,
    "pleural effusion": 0.35,
    "atelectasis": 0.35,
    "lung opacity": 0.2,
    "pneumonia": 0.2,
    "consolidation": 0.2,
    "pneumothorax": 0.0,
    "mass/nodule (not otherwise specified)": 0.0,
}
DEVICES = {  # share of AP and of PA images
    "endotracheal tube": (0.3, 0.0),
    "enteric tube": (0.3, 0.02),
    "picc": (0.2, 0.05),
    "ij line": (0.22, 0.02),
    "cardiac pacer and wires": (0.12, 0.08),
    "chest tube": (0.0, 0.0),
    "sternotomy wires": (0.15, 0.1),
}


@dataclass(slots=True)
class Finding:
    """One finding. `regions` are its locations, `box` its extent in the image (None until it is drawn,
    and if it is not visible), `mask` its pixels on the coarse grid, if it is a change of lung or pleura.
    `side` is None for a finding without a side."""

    name: str
    group: int
    side: str | None
    severity: str
    regions: list[str]
    box: Box | None = None
    mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    mentioned: bool = True
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def category(self) -> str | None:
        """The MS-CXR category, or None."""
        return CATEGORY.get(self.name)


def draw_findings(rng: np.random.Generator, patient: Patient, view: str) -> list[Finding]:
    """Return a patient's findings; cardiomegaly and loss of volume change the patient."""
    found: list[Finding] = []
    if rng.random() > 0.28:
        chosen = [name for name, share in SHARE.items() if rng.random() < share]
        for name in chosen or [str(rng.choice(list(SHARE)))]:
            _add(rng, found, name, patient)
    for name, shares in DEVICES.items():
        if rng.random() < shares[0 if view == "AP" else 1]:
            _add_device(rng, found, name)
    if any(each.name == "pneumothorax" for each in found) and rng.random() < 0.4:
        side = next(each.side for each in found if each.name == "pneumothorax")
        found.append(Finding("chest tube", _next(found), side, "small", [f"{side} lung"]))
    _forget_some(rng, found)
    return found


def _next(found: list[Finding]) -> int:
    return 1 + max((each.group for each in found), default=-1)


def _add(rng: np.random.Generator, found: list[Finding], name: str, patient: Patient) -> None:
    """One group of findings of this name, on one side or both."""
    group, severity = _next(found), str(rng.choice(SEVERITIES, p=[0.4, 0.37, 0.23]))
    if name == "enlarged cardiac silhouette":
        patient.ctr = {"small": 0.535, "moderate": 0.585, "large": 0.64}[severity] + float(
            rng.uniform(-0.015, 0.03)
        )
        found.append(Finding(name, group, None, severity, ["cardiac silhouette"]))
        return
    for side in _sides(rng, name, found):
        regions = [f"{side} {zone}" for zone in _zones(rng, name, severity)]
        found.append(Finding(name, group, side, severity, regions))
        if name == "pleural effusion" and rng.random() < 0.4:
            severity = str(rng.choice(SEVERITIES))  # of the other side
        if name == "atelectasis":
            patient.dome[side] += float(rng.uniform(0, 0.05))


def _sides(rng: np.random.Generator, name: str, found: list[Finding]) -> tuple[str, ...]:
    """Return the sides that are still free: two opacities never share a lung, so that each keeps its own box,
    and nothing else fills the pleural space of a pneumothorax.
    """
    sides = SIDES if rng.random() < BOTH.get(name, 0.12) else (str(rng.choice(SIDES)),)
    rivals = {"pneumothorax"} if name == "pleural effusion" else set()
    if name in OPACITIES:
        rivals = {"pneumothorax", *OPACITIES}
    taken = {each.side for each in found if each.name in rivals}
    return tuple(side for side in sides if side not in taken)


def _zones(rng: np.random.Generator, name: str, severity: str) -> list[str]:
    """Return the zones of a finding, without the side."""
    if name == "pleural effusion":
        return ["costophrenic angle"] if severity == "small" else ["costophrenic angle", "lower lung zone"]
    if name == "pneumothorax":
        return ["apical zone"] if severity == "small" else ["lung"]
    if name == "pulmonary edema/hazy opacity":
        return ["lung"]
    if name == "atelectasis":
        return [str(rng.choice(ZONES, p=[0.05, 0.15, 0.8]))]
    if name in OPACITIES and rng.random() < DIFFUSE[severity]:
        return ["lung"]
    return [str(rng.choice(ZONES, p=[0.25, 0.27, 0.48]))]


def _add_device(rng: np.random.Generator, found: list[Finding], name: str) -> None:
    side = {"cardiac pacer and wires": "left", "picc": str(rng.choice(SIDES)), "ij line": "right"}.get(name)
    if name == "ij line" and rng.random() < 0.2:
        side = "left"
    regions = {
        "endotracheal tube": ["trachea"],
        "enteric tube": ["abdomen"],
        "picc": ["cavoatrial junction"],
        "ij line": ["svc"],
        "sternotomy wires": ["mediastinum"],
    }.get(name, [f"{side} lung"])
    found.append(Finding(name, _next(found), side, "small", regions))


def _forget_some(rng: np.random.Generator, found: list[Finding]) -> None:
    """Omit one finding in twelve from the report, more often a small one."""
    for group in sorted({each.group for each in found}):
        mine = [each for each in found if each.group == group]
        silent = rng.random() < (0.13 if mine[0].severity == "small" else 0.04)
        for each in mine:
            each.mentioned = not silent
