"""Random augmentation of the images of a batch.

Images are flipped left-right only with --hflip-prob, and the text is not changed. The left lung of a flipped
image is still the one with the apex of the heart, so a model trained on such images has to use the anatomy.

mild: shift, scale, exposure, noise. rotate: shift of 2 %, rotation by 2 degrees, exposure, noise. AGP
fine-tunes with these and a crop [its code]; the ranges of exposure and noise are ours. jitter: exposure and
noise only, as in AGP's pre-training. crop: crop, scale and translation as in TransVG and MedRPG
(`data.crop`), with exposure. window: ASG's square of 224 out of 256 pixels. strong: the augmentation of the
detector (`anatomy.augment`), for images of other devices. Each view depends only on the random generator of
its image.

Random numbers are drawn on the CPU, and boxes are moved there. The images are made from these numbers where
the network is (`Views.of`), except those of strong views.
Letters: B images, S side, N boxes. Boxes are normalized [cx, cy, w, h].
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medground import ops
from medground.anatomy import augment as anatomy
from medground.data import crop
from medground.data.crop import Crops
from medground.models import letterboxed

KINDS = ("none", "mild", "rotate", "jitter", "crop", "window", "strong")
Generators = Sequence[np.random.Generator]


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


@dataclass(frozen=True)
class Views:
    """The random numbers of the views of a batch, on any device.

    inner: (B, 4) [x1, y1, x2, y2] in pixels, the image inside its square. flipped: (B,), True for a
    left-right flip. crops: those of "crop". numbers: (B, DRAWS) in [-1, 1], with a column for the angle if
    there is one. noise: (B, S, S) standard normal; with `seeds` it comes from the device's own generator.
    """

    inner: Tensor
    ranges: Ranges = field(default_factory=Ranges)
    flipped: Tensor | None = None
    crops: Crops | None = None
    numbers: Tensor | None = None
    noise: Tensor | None = None
    seeds: tuple[int, ...] = ()

    def of(self, squares: Tensor) -> Tensor:
        """Return the (B, 2, S, S) views of (B, S, S) bytes: in [0, 1], and their masks, 0 on padding."""
        images = letterboxed.planes_of(squares, self.inner)
        if self.flipped is not None:
            images = torch.where(self.flipped[:, None, None, None], images.flip(3), images)
        if self.crops is not None:
            images = self.crops.of(images)
        if self.numbers is None:
            return images
        noise = _noise(self.seeds, squares) if self.seeds else self.noise
        return transformed(images, self.ranges, self.numbers, noise)


def draw(
    kind: str,
    given: Views,
    side: int,
    boxes: Tensor,
    image_of: Tensor,
    rngs: Generators,
    flip_prob: float = 0.0,
    on_device: bool = False,
) -> tuple[Views, Tensor, Tensor]:
    """Return the views, the (M, 4) boxes on them, and (M,) whether each box is still inside.

    kind: one of `KINDS`; of "strong", only the flip (`strong` does the rest). given: the images as they are.
    Row i of `boxes` belongs to image image_of[i]. rngs: one generator per image. flip_prob: the probability
    of a left-right flip before it. on_device: noise is drawn by the device that makes the images.
    """
    views, there = given, torch.ones(len(boxes), dtype=torch.bool)
    if flip_prob:
        flipped = torch.tensor([rng.random() < flip_prob for rng in rngs])
        views, boxes = replace(views, flipped=flipped), flipped_boxes(boxes, flipped[image_of])
    if kind in ("none", "strong"):
        return views, boxes, there
    if kind == "crop":
        crops = crop.draw(_flipped_inner(views, side), side, rngs)
        views = replace(views, crops=crops)
        boxes, there = crops.moved(boxes, image_of)
    ranges = RANGES[kind]
    count = DRAWS + (ranges.angle > 0)
    numbers = torch.from_numpy(np.stack([rng.uniform(-1, 1, count) for rng in rngs]).astype(np.float32))
    views = replace(views, ranges=ranges, numbers=numbers)
    return _with_noise(views, side, rngs, on_device), moved(boxes, image_of, ranges, numbers), there


def _with_noise(views: Views, side: int, rngs: Generators, on_device: bool) -> Views:
    if not views.ranges.noise:
        return views
    if on_device:
        return replace(views, seeds=tuple(int(rng.integers(2**62)) for rng in rngs))
    noise = np.stack([rng.standard_normal((side, side), dtype=np.float32) for rng in rngs])
    return replace(views, noise=torch.from_numpy(noise))


def _noise(seeds: Sequence[int], squares: Tensor) -> Tensor:
    """Return (B, S, S) standard normal numbers of the device of the squares."""
    shape, device = squares.shape[1:], squares.device
    generator = torch.Generator(device)
    return torch.stack(
        [torch.randn(shape, generator=generator.manual_seed(seed), device=device) for seed in seeds]
    )


def flipped_boxes(boxes: Tensor, flipped: Tensor) -> Tensor:
    """Return (N, 4) boxes, flipped left-right if (N,) `flipped` is True."""
    across = torch.where(flipped, 1 - boxes[:, 0], boxes[:, 0])
    return torch.cat([across[:, None], boxes[:, 1:]], dim=1)


def _flipped_inner(views: Views, side: int) -> Tensor:
    if views.flipped is None:
        return views.inner
    x1, y1, x2, y2 = views.inner.unbind(1)
    return torch.where(views.flipped[:, None], torch.stack([side - x2, y1, side - x1, y2], 1), views.inner)


def strong(
    images: Tensor, boxes: Tensor, image_of: Tensor, rngs: Generators
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the detector's views of (B, 2, S, S) images, their boxes, and which are inside, as in `draw`.

    Views that it corrupts have no boxes any more.
    """
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


def transformed(images: Tensor, ranges: Ranges, numbers: Tensor, noise: Tensor | None) -> Tensor:
    """Return views of (B, 2, S, S) images with masks, clipped to the square.

    numbers, noise: as in `Views`; None is without noise.
    """
    scale, shift, turn = _geometry(ranges, numbers)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -2 * shift / scale[:, None]  # affine_grid maps new to old positions in [-1, 1]
    if turn is not None:
        theta = _turned(turn).transpose(1, 2) @ theta
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    pixels, inside = functional.grid_sample(images, grid, align_corners=False).unbind(1)
    contrast, gamma, light = (numbers[:, n, None, None] for n in (3, 4, 5))
    pixels = pixels.clamp(min=1e-4) ** torch.exp(gamma * ranges.gamma)
    pixels = (pixels - 0.5) * (1 + contrast * ranges.contrast) + 0.5 + light * ranges.light
    if noise is not None:
        pixels = pixels + noise * ranges.noise
    return torch.stack([pixels.clamp(0, 1) * inside, inside], dim=1)


def moved(boxes: Tensor, image_of: Tensor, ranges: Ranges, numbers: Tensor) -> Tensor:
    """Return (N, 4) boxes on the views, clipped to the square; each side is at least 1/1000 of the square's.

    A rotated box is the box around its corners.
    """
    scale, shift, turn = _geometry(ranges, numbers[image_of])
    centre, sides = boxes[:, :2] - 0.5, boxes[:, 2:]
    if turn is not None:
        matrix = _turned(turn)
        centre, sides = (matrix @ centre[..., None])[..., 0], (matrix.abs() @ sides[..., None])[..., 0]
    placed = torch.cat([centre * scale[:, None] + 0.5 + shift, sides * scale[:, None]], dim=1)
    return _with_area(ops.cxcywh_to_xyxy(placed).clamp(0, 1))


def _geometry(ranges: Ranges, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the scale (N,), the shift (N, 2), and the angle (N,) in radians, None without one."""
    scale, shift = ranges.zoom * (1 + numbers[:, 0] * ranges.scale), numbers[:, 1:3] * ranges.shift
    return scale, shift, torch.deg2rad(numbers[:, 6] * ranges.angle) if ranges.angle else None


def _turned(angle: Tensor) -> Tensor:
    """Return (B, 2, 2) matrices that rotate by angles in radians."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], dim=1).reshape(-1, 2, 2)
