"""Crop, scale and translation of images as in TransVG, whose code MedRPG uses.

Half of the images are cropped: the short side becomes 400, 500 or 600 pixels, and the window has sides of 384
to 600 pixels. Then the long side becomes 0.7 to 1 of the square, in steps of 0.05, and the image lies
anywhere in the square [TransVG's code, 640 px]. A box outside the window is left out; TransVG draws another
window.

Letters: B images, S side, M boxes, [x1, y1, x2, y2] in [0, 1] of the square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medground import ops

SHORT, LEAST, MOST = (400, 500, 600), 384, 600  # pixels
SCALES = 1 - 0.05 * np.arange(7)
CROPPED = 0.5  # share of images
Array = NDArray[Any]


@dataclass(frozen=True)
class Crops:
    """Windows (B, 4) of images, the factors (B,) of their sizes and their new top left corners (B, 2)."""

    windows: Tensor
    factors: Tensor
    starts: Tensor

    def of(self, images: Tensor) -> Tensor:
        """Return the windows of (B, 2, S, S) images at their new places; all else is padding."""
        windows, factors = self.windows, self.factors
        theta = torch.zeros(len(images), 2, 3, device=images.device)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / factors
        # from new to old places, both in [-1, 1]
        theta[:, :, 2] = (1 - 2 * self.starts) / factors[:, None] + 2 * windows[:, :2] - 1
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        moved = functional.grid_sample(images, grid, align_corners=False)
        low, high = windows[:, None, None, :2] * 2 - 1, windows[:, None, None, 2:] * 2 - 1
        within = ((grid >= low) & (grid <= high)).all(dim=3)[:, None]
        return moved * within

    def moved(self, boxes: Tensor, image_of: Tensor) -> tuple[Tensor, Tensor]:
        """Return (M, 4) boxes [cx, cy, w, h] of images image_of, moved, and (M,) which remain."""
        corners, own = ops.cxcywh_to_xyxy(boxes), self.windows[image_of]
        low, high = own[:, :2].repeat(1, 2), own[:, 2:].repeat(1, 2)
        cut = torch.minimum(torch.maximum(corners, low), high)
        there = (cut[:, 2:] - cut[:, :2] > 1e-3).all(dim=1)
        moved = (cut - low) * self.factors[image_of, None] + self.starts[image_of].repeat(1, 2)
        return ops.xyxy_to_cxcywh(moved), there


def draw(inner: Tensor, side: int, rngs: Sequence[np.random.Generator]) -> Crops:
    """Return the crops of images that take (B, 4) `inner` pixels of their squares; one generator each."""
    made = [
        _placed(content.astype(float) / side, rng) for content, rng in zip(inner.numpy(), rngs, strict=True)
    ]
    return Crops(*(torch.from_numpy(np.array(each, dtype=np.float32)) for each in zip(*made, strict=True)))


def _placed(content: Array, rng: np.random.Generator) -> tuple[Array, float, Array]:
    """Return the window (4,) of an image, the factor of its size and its new top left corner (2,)."""
    start, size = content[:2], content[2:] - content[:2]
    if rng.random() < CROPPED:
        pixels = size / size.min() * rng.choice(SHORT)
        share = rng.uniform(np.minimum(LEAST, pixels), np.minimum(MOST, pixels)) / pixels
        start, size = start + rng.uniform(size=2) * size * (1 - share), size * share
    factor = rng.choice(SCALES) / size.max()
    corner = rng.uniform(size=2) * (1 - size * factor)
    return np.concatenate([start, start + size]), factor, corner
