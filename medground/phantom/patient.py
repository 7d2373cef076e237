"""The parameters of one patient and one exposure.

Lengths are cm, angles radians; see the package for the axes. All ranges are for adults.
"""

from dataclasses import dataclass

import numpy as np

SIDES = ("right", "left")
SIGN = {"right": -1.0, "left": 1.0}


@dataclass(slots=True)
class Patient:
    """The body. `height` is the lungs' from apex to lateral costophrenic angle, after this breath,
    `frame` the same after a full breath (the skeleton depends on it).

    `half_width` and `half_depth` are the rib cage's inner half axes, `share` what a side has of the width,
    `floor` the y of its costophrenic angle, `dome` the height of the dome above that, as a share of `height`;
    `medial` is how far from the midline the lungs begin, `ctr` the cardiothoracic ratio to reach; `clavicle`
    the cm by which the shoulders are drawn up.
    """

    female: bool
    age: int
    half_width: float
    half_depth: float
    height: float
    frame: float
    wall: float
    side_wall: float
    breast: float
    ctr: float
    share: dict[str, float]
    floor: dict[str, float]
    dome: dict[str, float]
    lung_density: float
    medial: float
    mediastinum: float
    aorta: float
    tortuosity: float
    vessel: float
    rib_slope: float
    clavicle: float
    scoliosis: float
    arms_up: bool
    gas: float
    bone: float


@dataclass(slots=True)
class Exposure:
    """The image: geometry of the beam, position of the patient, and the response of the detector.

    `width` x `height` are pixels; `reach` is the share of the image width that the lungs fill; `shift` moves
    the lungs in the remaining space (0 centered, -1 and 1 at the borders). `blur` and `sharpen` are in cm and
    share.
    """

    view: str
    width: int
    height: int
    distance: float
    rotation: float
    tilt: float
    roll: float
    reach: float
    shift: tuple[float, float]
    scatter: float
    noise: float
    blur: float
    sharpen: float
    gamma: float
    range: tuple[float, float]
    local: float


def draw_patient(rng: np.random.Generator) -> Patient:
    """Return a patient without findings."""
    female = bool(rng.random() < 0.48)
    size = float(np.clip(rng.normal(0.97 if female else 1.05, 0.055), 0.8, 1.2))
    weight = float(np.clip(rng.lognormal(0.0, 0.45), 0.45, 2.8))
    frame = 24.6 * size * float(rng.normal(1, 0.06))
    breath = float(rng.uniform(0.84, 1.04) if rng.random() < 0.75 else rng.uniform(0.66, 0.84))
    lean = float(rng.normal(0, 0.035))
    raised = rng.normal([0.02, 0.0], 0.035)
    if rng.random() < 0.12:
        raised[int(rng.integers(2))] += float(rng.uniform(0.05, 0.2))
    return Patient(
        female=female,
        age=int(np.clip(rng.normal(61, 17), 18, 95)),
        half_width=13.8 * size * float(rng.normal(1, 0.055)),
        half_depth=8.2 * size * float(rng.normal(1, 0.07)),
        height=frame * breath,
        frame=frame,
        wall=1.7 + 1.5 * weight,
        side_wall=1.4 + 1.2 * weight,
        breast=float(rng.uniform(0.5, 1.0) * weight**0.5) if female else float(rng.uniform(0, 0.25) * weight),
        ctr=float(rng.uniform(0.39, 0.485)),
        share={"right": 1 + lean, "left": 1 - lean},
        floor={side: frame * breath * float(1 - up) for side, up in zip(SIDES, raised, strict=True)},
        dome={"right": float(rng.uniform(0.07, 0.25)), "left": float(rng.uniform(0.05, 0.21))},
        lung_density=float(rng.uniform(0.2, 0.31)),
        medial=float(rng.uniform(0.9, 1.6)),
        mediastinum=float(rng.uniform(0.85, 1.2)),
        aorta=float(rng.uniform(0.85, 1.2)),
        tortuosity=0.0,
        vessel=float(rng.uniform(0.85, 1.2)),
        rib_slope=float(rng.uniform(0.75, 1.2)),
        clavicle=float(rng.normal(0.7, 1.2)),
        scoliosis=float(rng.normal(0, 0.35)),
        arms_up=bool(rng.random() < 0.5),
        gas=float(rng.random()),
        bone=float(rng.uniform(0.7, 1.25)),
    )


def draw_exposure(rng: np.random.Generator, size: int, view: str) -> Exposure:
    """Return an exposure whose long side is `size` pixels; `view` is PA, AP or LATERAL."""
    width, height = _format(rng, size, view)
    portable = view == "AP"
    spread = 2.0 if portable else 1.0
    low = float(rng.uniform(0.0, 0.16)) if rng.random() < 0.7 else float(rng.uniform(0.1, 0.34))
    return Exposure(
        view=view,
        width=width,
        height=height,
        distance=float(rng.uniform(95, 130) if portable else rng.uniform(170, 190)),
        rotation=float(rng.normal(0, 0.035 * spread)),
        tilt=float(rng.normal(-0.06 if portable else 0.0, 0.05 * spread)),
        roll=float(rng.normal(0, 0.018 * spread)),
        reach=_reach(rng),
        shift=(float(np.clip(rng.normal(0, 0.35), -1, 1)), float(np.clip(rng.normal(-0.1, 0.45), -1, 1))),
        scatter=float(rng.uniform(0.1, 0.5) * (1.5 if portable else 1.0)),
        noise=float(rng.lognormal(-4.3, 0.55)),
        blur=float(rng.uniform(0.02, 0.1) * (1.3 if portable else 1.0)),
        sharpen=float(max(0.0, rng.normal(0.9, 0.8))),
        gamma=float(np.clip(rng.lognormal(0.0, 0.22), 0.6, 1.7)),
        range=(low, low + float(rng.uniform(0.55, 1.0) if rng.random() < 0.8 else rng.uniform(0.25, 0.5))),
        local=float(rng.uniform(0.1, 1.0)) if rng.random() < 0.7 else 0.0,
    )


def _format(rng: np.random.Generator, size: int, view: str) -> tuple[int, int]:
    """Return (width, height): real detectors' proportions, sometimes a square or a free crop."""
    draw = rng.random()
    free = float(rng.uniform(0.82, 1.22))
    if draw < 0.42 or view == "LATERAL":
        ratio = 2544 / 3056
    elif draw < 0.74:
        ratio = 3056 / 2544
    else:
        ratio = 1.0 if draw < 0.88 else free
    return (round(size * min(1.0, ratio)), round(size * min(1.0, 1 / ratio)))


def _reach(rng: np.random.Generator) -> float:
    """Return the share of the image width that the lungs fill: mostly close, sometimes far or cut off."""
    draw = rng.random()
    if draw < 0.8:
        return float(rng.uniform(0.76, 0.98))
    return float(rng.uniform(0.5, 0.76) if draw < 0.9 else rng.uniform(0.96, 1.08))
