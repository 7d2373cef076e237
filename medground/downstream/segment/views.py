"""Random views of images and their masks: scaled and rotated about the center, with a probability.

MGCA scales by up to 10 % and rotates by up to 10 degrees, with probability .5. Letters: B images, K classes,
S side of the square.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The largest change of the scale, as a share, and of the angle, in degrees; and how often they occur."""

    scale: float = 0.1
    rotate: float = 10.0
    probability: float = 0.5


def draw(
    images: Tensor, masks: Tensor, ranges: Ranges, rngs: Sequence[np.random.Generator]
) -> tuple[Tensor, Tensor]:
    """Return views of (B, 2, S, S) images with their insides and of (B, K, S, S) masks.

    Each view depends only on the generator of its image. Pixels from outside are black and no part of the
    image.
    """
    draws = np.stack([rng.uniform(-1, 1, 3) for rng in rngs])
    changed = (draws[:, 0] + 1) / 2 < ranges.probability
    zoom = np.where(changed, 1 + draws[:, 1] * ranges.scale, 1.0)
    angle = np.where(changed, draws[:, 2] * math.radians(ranges.rotate), 0.0)
    theta = np.zeros((len(rngs), 2, 3), np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = np.cos(angle) / zoom
    theta[:, 0, 1], theta[:, 1, 0] = -np.sin(angle) / zoom, np.sin(angle) / zoom
    grid = functional.affine_grid(torch.from_numpy(theta), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bilinear", align_corners=False)
    inside = (moved[:, 1:] >= 0.5).to(images.dtype)
    shown = functional.grid_sample(masks, grid, mode="nearest", align_corners=False)
    return torch.cat([moved[:, :1] * inside, inside], dim=1), shown * inside
