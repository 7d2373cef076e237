"""Random views of a batch, so that a model learns anatomy.

Left and right are words here: so a film is mirrored only where that is asked for, and its words then stay
with its anatomy. The left lung of a mirrored film is still the one with the heart's apex; a model that learns
from such films tells sides by what it sees.

mild: shift, scale, exposure, noise; AGP fine-tunes with colour jitter, noise, shift and crop [its code]; the
ranges are ours. strong: the detector's views (`anatomy.augment`), for models that are to read films of
machines that they never saw. Each view follows from its image's own random numbers.
Letters: B images, S side, N boxes. Boxes are normalised [cx, cy, w, h].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medground import ops
from medground.anatomy import augment as anatomy

KINDS = ("none", "mild", "strong")
Drawn = tuple[Tensor, Tensor, Tensor]


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


def draw(
    kind: str,
    pictures: Tensor,
    boxes: Tensor,
    image_of: Tensor,
    rngs: Sequence[np.random.Generator],
    mirror: float = 0.0,
) -> Drawn:
    """New (B, 2, S, S) pictures of a kind, the (M, 4) boxes on them, and (M,) whether each is still there.

    Row i of `boxes` lies on picture image_of[i]; rngs has one for each picture. `mirror` is the share of
    pictures that are mirrored first.
    """
    if mirror:
        turned = torch.tensor([rng.random() < mirror for rng in rngs])
        pictures, boxes = mirrored(pictures, boxes, image_of, turned)
    if kind == "none":
        return pictures, boxes, torch.ones(len(boxes), dtype=torch.bool)
    if kind == "strong":
        return _strong(pictures, boxes, image_of, rngs)
    draws = np.stack([rng.uniform(-1, 1, DRAWS) for rng in rngs]).astype(np.float32)
    noise = np.stack([rng.standard_normal(pictures.shape[2:], dtype=np.float32) for rng in rngs])
    ranges = Ranges()
    moved = views(pictures, boxes, image_of, ranges, torch.from_numpy(draws), torch.from_numpy(noise))
    return *moved, torch.ones(len(boxes), dtype=torch.bool)


def mirrored(pictures: Tensor, boxes: Tensor, image_of: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures and boxes, as `draw` has them, left and right changed where (B,) `turned` is true."""
    across = torch.where(turned[image_of], 1 - boxes[:, 0], boxes[:, 0])
    pictures = torch.where(turned[:, None, None, None], pictures.flip(3), pictures)
    return pictures, torch.cat([across[:, None], boxes[:, 1:]], dim=1)


def _strong(pictures: Tensor, boxes: Tensor, image_of: Tensor, rngs: Sequence[np.random.Generator]) -> Drawn:
    """Views as the detector learns from; on those that are spoilt on purpose no box is there any more."""
    films = pictures[:, :1].clamp(min=1 / 255) * pictures[:, 1:]  # black is where no film is
    corners = ops.cxcywh_to_xyxy(boxes)
    seen, there = [], torch.ones(len(boxes), dtype=torch.bool)
    for row, rng in enumerate(rngs):
        (mine,) = (image_of == row).nonzero(as_tuple=True)
        all_there = torch.ones(1, len(mine))
        given = anatomy.Views(films[row : row + 1], corners[None, mine], all_there, all_there)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        moved = anatomy.views(given, anatomy.Ranges(), generator)
        seen.append(moved.images[0])
        corners[mine], there[mine] = moved.boxes[0], moved.present[0] != 0
    new = torch.stack(seen)
    return torch.cat([new, (new > 0).float()], dim=1), _with_area(corners), there


def _with_area(corners: Tensor) -> Tensor:
    """Return xyxy boxes as cxcywh, each side at least a thousandth of the square's."""
    centre, sides = ops.xyxy_to_cxcywh(corners).split(2, dim=1)
    return torch.cat([centre, sides.clamp(min=1e-3)], dim=1)


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
    moved = torch.cat([centre, boxes[:, 2:] * scale[:, None]], dim=1)
    return _with_area(ops.cxcywh_to_xyxy(moved).clamp(0, 1))
