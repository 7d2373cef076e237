"""The beam: from the patient's centimeters to the image's pixels, with a diverging source.

A structure at depth z is magnified by distance / (distance - gap), where gap is its distance to the
detector. The front of the body faces the detector in a PA image, the back in an AP image. So the heart is
larger in AP images.
Surfaces are evaluated on planes of one depth; points are projected one by one. Both use the same formulas.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground.phantom.patient import Exposure, Patient

Array = NDArray[np.floating[Any]]


@dataclass(slots=True)
class Beam:
    """Geometry of one image. `scale` is pixels per cm on the detector; (`x0`, `y0`) the pixel of the
    central ray, which meets the midline at `level` cm below the apices."""

    scale: float
    x0: float
    y0: float
    level: float
    distance: float
    detector: float
    rotation: float
    tilt: float
    roll: float
    width: int
    height: int

    def magnification(self, z: Array | float) -> Array:
        """Return how much larger than life a structure at depth z appears on the detector."""
        return np.asarray(self.distance / (self.distance - np.abs(z - self.detector)))

    def project(self, points: Array) -> Array:
        """Return (N, 2) pixels of (N, 3) points; they may lie outside the image."""
        x, y, z = points[:, 0], points[:, 1], points[:, 2]
        across = x * float(np.cos(self.rotation)) + z * float(np.sin(self.rotation))
        down = y + z * float(np.sin(self.tilt)) - self.level
        k = self.scale * self.magnification(z)
        cos, sin = float(np.cos(self.roll)), float(np.sin(self.roll))
        at = np.empty((2, len(points)), points.dtype)  # column by column: it is used so, and written faster
        at[0] = self.x0 + k * (cos * across - sin * down)
        at[1] = self.y0 + k * (sin * across + cos * down)
        return at.T

    def plane(self, u: Array, v: Array, z: float) -> tuple[Array, Array]:
        """Return the x and y at depth z of the pixels (u, v): the inverse of `project`."""
        k = self.scale * float(self.magnification(z))
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        a, b = (u - self.x0) / k, (v - self.y0) / k
        across, down = cos * a + sin * b, cos * b - sin * a
        x = (across - z * np.sin(self.rotation)) / np.cos(self.rotation)
        return x.astype(np.float32), (down + self.level - z * np.sin(self.tilt)).astype(np.float32)


def aim(patient: Patient, exposure: Exposure) -> Beam:
    """Place the beam so that the lungs fill their share of the image."""
    front = exposure.view != "AP"
    reach = patient.half_depth + patient.wall
    beam = Beam(
        scale=1.0,
        x0=0.0,
        y0=0.0,
        level=0.45 * patient.height,
        distance=exposure.distance,
        detector=reach + 2.0 if front else -reach - 3.0,
        rotation=exposure.rotation,
        tilt=exposure.tilt,
        roll=exposure.roll,
        width=exposure.width,
        height=exposure.height,
    )
    size = float(beam.magnification(0.0))
    lungs = 2 * patient.half_width * size, patient.height * size
    beam.scale = min(exposure.reach * exposure.width / lungs[0], 0.97 * exposure.height / lungs[1])
    slack_x = exposure.width - beam.scale * lungs[0]
    slack_y = exposure.height - beam.scale * lungs[1]
    top = slack_y * (0.5 + 0.5 * exposure.shift[1]) * (0.75 if slack_y > 0 else 1)
    beam.x0 = exposure.width / 2 + abs(slack_x) / 2 * exposure.shift[0]
    beam.y0 = top + beam.scale * size * beam.level
    return beam
