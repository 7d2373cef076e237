"""Random views of a batch: shift, scale, exposure, noise. Never a flip: left and right are words here.

AGP fine-tunes with colour jitter, noise, shift and crop [its code]; the ranges are ours.
Letters: B images, S side, N boxes. Boxes are normalised [cx, cy, w, h].
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Ranges:
    """How far a view may be from its image: shares of the side, factors, deviations; 0 turns a part off."""

    shift: float = 0.08
    scale: float = 0.15
    contrast: float = 0.3
    gamma: float = 0.3
    light: float = 0.1
    noise: float = 0.02


DRAWS = 6  # numbers that one view takes


def views(
    pictures: Tensor, boxes: Tensor, image_of: Tensor, ranges: Ranges, draws: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """New (B, 2, S, S) pictures (film, and where film is) and the (N, 4) boxes on them.

    draws: (B, DRAWS) in [-1, 1]; noise: (B, S, S) standard normal. Row i of `boxes` lies on picture
    image_of[i]. What is shifted out of the square is lost, from boxes too; a box keeps at least a
    thousandth of the side.
    """
    scale, shift = 1 + draws[:, 0] * ranges.scale, draws[:, 1:3] * ranges.shift
    theta = torch.zeros(len(pictures), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -2 * shift / scale[:, None]  # affine_grid maps new places to old ones in [-1, 1]
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures, grid, align_corners=False)
    film, inside = moved[:, 0], moved[:, 1]
    contrast, gamma, light = (draws[:, n, None, None] for n in (3, 4, 5))
    film = film.clamp(min=1e-4) ** torch.exp(gamma * ranges.gamma)
    film = (film - 0.5) * (1 + contrast * ranges.contrast) + 0.5 + light * ranges.light + noise * ranges.noise
    return (
        torch.stack([film.clamp(0, 1) * inside, inside], dim=1),
        _moved(boxes, scale[image_of], shift[image_of]),
    )


def _moved(boxes: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centre = (boxes[:, :2] - 0.5) * scale[:, None] + 0.5 + shift
    half = boxes[:, 2:] * scale[:, None] / 2
    low, high = (centre - half).clamp(0, 1), (centre + half).clamp(0, 1)
    return torch.cat([(low + high) / 2, (high - low).clamp(min=1e-3)], dim=1)
