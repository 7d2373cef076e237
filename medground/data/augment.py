"""Random augmentation of the images of a batch.

Images are flipped left-right only with --hflip-prob, and the text is not changed. The left lung of a flipped
image is still the one with the apex of the heart, so a model trained on such images has to use the anatomy.

mild: shift, scale, exposure, noise. rotate: shift of 2 %, rotation by 2 degrees, exposure, noise. AGP
fine-tunes with these and a crop [its code]; the ranges of exposure and noise are ours. jitter: exposure and
noise only, as in AGP's pre-training. crop: crop, scale and translation as in TransVG and MedRPG
(`data.crop`), with exposure. window: ASG's square of 224 out of 256 pixels. strong: the augmentation of the
detector (`anatomy.augment`), for images of other devices. Each view depends only on the random generator of
its image.
Letters: B images, S side, N boxes. Boxes are normalized [cx, cy, w, h].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medground import ops
from medground.anatomy import augment as anatomy
from medground.data import crop

KINDS = ("none", "mild", "rotate", "jitter", "crop", "window", "strong")
Augmented = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Ranges:
    """The ranges of an augmentation: shares of the side, factors, standard deviations, degrees; 0 disables a
    part.
    """

    shift: float = 0.08
    scale: float = 0.15
    contrast: float = 0.3
    gamma: float = 0.3
    light: float = 0.1
    noise: float = 0.02
    zoom: float = 1.0  # of every view
    angle: float = 0.0


WINDOW, OF = 224, 256  # pixels, of ASG
RANGES = {
    "mild": Ranges(),
    "rotate": Ranges(shift=0.02, scale=0, angle=2),
    "jitter": Ranges(shift=0, scale=0),
    "crop": Ranges(shift=0, scale=0, contrast=0.4, gamma=0, light=0.2, noise=0),
    "window": Ranges((OF - WINDOW) / 2 / WINDOW, 0, 0, 0, 0, 0, zoom=OF / WINDOW),
}
DRAWS = 6  # random numbers per view; one more with an angle


def draw(
    kind: str,
    images: Tensor,
    boxes: Tensor,
    image_of: Tensor,
    rngs: Sequence[np.random.Generator],
    flip_prob: float = 0.0,
) -> Augmented:
    """Return augmented (B, 2, S, S) images, their (M, 4) boxes, and (M,) whether each box is still inside.

    kind: one of `KINDS`. Row i of `boxes` belongs to image image_of[i]. rngs: one generator per image.
    flip_prob: the probability of a left-right flip before it.
    """
    if flip_prob:
        flipped = torch.tensor([rng.random() < flip_prob for rng in rngs])
        images, boxes = flip(images, boxes, image_of, flipped)
    if kind == "none":
        return images, boxes, torch.ones(len(boxes), dtype=torch.bool)
    if kind == "strong":
        return _strong(images, boxes, image_of, rngs)
    there = torch.ones(len(boxes), dtype=torch.bool)
    if kind == "crop":
        images, boxes, there = crop.draw(images, boxes, image_of, rngs)
    count = DRAWS + (RANGES[kind].angle > 0)
    draws = np.stack([rng.uniform(-1, 1, count) for rng in rngs]).astype(np.float32)
    noise = np.stack([rng.standard_normal(images.shape[2:], dtype=np.float32) for rng in rngs])
    moved = views(images, boxes, image_of, RANGES[kind], torch.from_numpy(draws), torch.from_numpy(noise))
    return *moved, there


def flip(images: Tensor, boxes: Tensor, image_of: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images and boxes of `draw`, flipped left-right if (B,) `flipped` is True."""
    across = torch.where(flipped[image_of], 1 - boxes[:, 0], boxes[:, 0])
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images, torch.cat([across[:, None], boxes[:, 1:]], dim=1)


def _strong(
    images: Tensor, boxes: Tensor, image_of: Tensor, rngs: Sequence[np.random.Generator]
) -> Augmented:
    """Return the augmentation of the detector; views that it corrupts have no boxes any more."""
    pixels = images[:, :1].clamp(min=1 / 255) * images[:, 1:]  # 0 means padding
    corners = ops.cxcywh_to_xyxy(boxes)
    views_made, there = [], torch.ones(len(boxes), dtype=torch.bool)
    for row, rng in enumerate(rngs):
        (mine,) = (image_of == row).nonzero(as_tuple=True)
        all_there = torch.ones(1, len(mine))
        given = anatomy.Views(pixels[row : row + 1], corners[None, mine], all_there, all_there)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        moved = anatomy.views(given, anatomy.Ranges(), generator)
        views_made.append(moved.images[0])
        corners[mine], there[mine] = moved.boxes[0], moved.present[0] != 0
    new = torch.stack(views_made)
    return torch.cat([new, (new > 0).float()], dim=1), _with_area(corners), there


def _with_area(corners: Tensor) -> Tensor:
    """Return xyxy boxes as cxcywh, each side at least a thousandth of the square's."""
    centre, sides = ops.xyxy_to_cxcywh(corners).split(2, dim=1)
    return torch.cat([centre, sides.clamp(min=1e-3)], dim=1)


def views(
    images: Tensor, boxes: Tensor, image_of: Tensor, ranges: Ranges, draws: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return augmented (B, 2, S, S) images with masks, and their (N, 4) boxes.

    draws: (B, DRAWS) in [-1, 1], with a column for the angle if there is one. A rotated box is the box around
    its corners. noise: (B, S, S) standard normal. Row i of `boxes` belongs to image
    image_of[i]. Images and boxes are clipped to the square; a box keeps at least 1/1000 of the side.
    """
    scale, shift = ranges.zoom * (1 + draws[:, 0] * ranges.scale), draws[:, 1:3] * ranges.shift
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -2 * shift / scale[:, None]  # affine_grid maps new to old positions in [-1, 1]
    turn = None
    if ranges.angle:
        turn = torch.deg2rad(draws[:, 6] * ranges.angle)
        theta = _turned(turn).transpose(1, 2) @ theta
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    pixels, inside = moved[:, 0], moved[:, 1]
    contrast, gamma, light = (draws[:, n, None, None] for n in (3, 4, 5))
    pixels = pixels.clamp(min=1e-4) ** torch.exp(gamma * ranges.gamma)
    pixels = (
        (pixels - 0.5) * (1 + contrast * ranges.contrast) + 0.5 + light * ranges.light + noise * ranges.noise
    )
    return (
        torch.stack([pixels.clamp(0, 1) * inside, inside], dim=1),
        _moved(boxes, scale[image_of], shift[image_of], None if turn is None else turn[image_of]),
    )


def _turned(angle: Tensor) -> Tensor:
    """Return (B, 2, 2) matrices that rotate by angles in radians."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], dim=1).reshape(-1, 2, 2)


def _moved(boxes: Tensor, scale: Tensor, shift: Tensor, turn: Tensor | None) -> Tensor:
    centre, sides = boxes[:, :2] - 0.5, boxes[:, 2:]
    if turn is not None:
        matrix = _turned(turn)
        centre, sides = (matrix @ centre[..., None])[..., 0], (matrix.abs() @ sides[..., None])[..., 0]
    moved = torch.cat([centre * scale[:, None] + 0.5 + shift, sides * scale[:, None]], dim=1)
    return _with_area(ops.cxcywh_to_xyxy(moved).clamp(0, 1))
