"""Random views of images, so that a detector learns anatomy and not the exposure of one machine.

There are no flips: left and right are different regions. A few views are negatives (rotated, upside down,
shuffled, far too close, not an X-ray): they contain no region, and the detector learns to find none.

Letters: B images, S side, Q regions. Boxes are [x1, y1, x2, y2] in shares of the side.
All random numbers come from the given generator.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from medground.anatomy.region_query import SMALLEST

LEAST_SEEN = 0.6  # minimum visible share of a box for its position to be a target


@dataclass(frozen=True, slots=True)
class Views:
    """images (B, 1, S, S) in [0, 1]; boxes (B, Q, 4); known (B, Q) 1 where the box is a target;
    present (B, Q) 1, 0, or -1 for unknown."""

    images: Tensor
    boxes: Tensor
    known: Tensor
    present: Tensor


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The ranges of the random changes.

    `shift` in shares of the side; `zoom`, `stretch`, `bend` as logarithms of factors; `turn` in degrees;
    `light`, `shadow`, `noise` in standard deviations of the greys; the rest are probabilities, `smear` that
    of padding with the edge of the image instead of black.
    """

    shift: float = 0.10
    zoom: float = 0.25
    stretch: float = 0.15
    bend: float = 0.5
    smear: float = 0.5
    turn: float = 8.0
    light: float = 1.5
    shadow: float = 1.2
    noise: float = 0.4
    blur: float = 0.3
    border: float = 0.3
    device: float = 0.3
    inversion: float = 0.05
    spoilt: float = 0.08


class Dice:
    """Random numbers from one generator, on the CPU, equal for every device."""

    def __init__(self, generator: Generator):
        self.generator = generator

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Return uniform numbers."""
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, generator=self.generator)

    def chance(self, share: float, count: int) -> Tensor:
        """Return (count,) True for about this share."""
        return torch.rand(count, generator=self.generator) < share

    def below(self, end: int) -> int:
        """Return one whole number from 0 to end - 1."""
        return int(torch.randint(end, (1,), generator=self.generator))


def views(given: Views, ranges: Ranges, generator: Generator) -> Views:
    """Return a new view of each image, with its boxes."""
    dice = Dice(generator)
    moved = _move(given, ranges, dice)
    images = _expose(moved.images, ranges, dice)
    return _spoil(Views(images, moved.boxes, moved.known, moved.present), ranges, dice)


def _move(given: Views, ranges: Ranges, dice: Dice) -> Views:
    """Bend, zoom, stretch, turn and shift; boxes that leave the view are no targets."""
    count = len(given.images)
    angle = dice.between(-ranges.turn, ranges.turn, count) * math.pi / 180
    zoom, stretch = (dice.between(-each, each, count) for each in (ranges.zoom, ranges.stretch))
    wide, high = torch.exp(zoom + stretch), torch.exp(zoom - stretch)
    cos, sin = torch.cos(angle), torch.sin(angle)
    ahead = torch.stack([cos * wide, -sin * high, sin * wide, cos * high], dim=1).view(-1, 2, 2)
    shift = dice.between(-2 * ranges.shift, 2 * ranges.shift, count, 2)
    back = torch.linalg.inv(ahead)
    theta = torch.cat([back, -back @ shift[:, :, None]], dim=2)
    grid = functional.affine_grid(theta, list(given.images.shape), align_corners=False)
    steps = bends(count, ranges.bend, dice)
    places = unbend(grid, steps)
    smeared = dice.chance(ranges.smear, count)[:, None, None, None]
    places = torch.where(smeared, places.clamp(-1, 1), places)
    images = functional.grid_sample(given.images, places, align_corners=False, padding_mode="zeros")
    boxes = move_boxes(bend_boxes(given.boxes, steps), ahead, shift)
    return _cut(Views(images, boxes, given.known, given.present))


def bends(count: int, strength: float, dice: Dice) -> Tensor:
    """Return (count, 2, 5): the shares of the width and of the height to which the fifths of an image are
    stretched.

    Chests differ in the length of the lungs and in the width of the heart.

    """
    steps = torch.exp(dice.between(-strength, strength, count, 2, 5))
    return steps / steps.sum(dim=2, keepdim=True)


def bend_boxes(boxes: Tensor, steps: Tensor) -> Tensor:
    """Return (B, Q, 4) boxes on the bent image: the axes bend separately, so boxes stay boxes."""
    place = boxes.unflatten(2, (2, 2))[..., None]  # (B, Q, corner, across or down, 1)
    count = steps.shape[-1]
    inside = (place * count - torch.arange(count)).clamp(
        0, 1
    )  # how much of each fifth lies before the position
    bent = (inside * steps[:, None, None]).sum(-1)
    result: Tensor = (bent + _outside(place[..., 0])).flatten(2)
    return result


def unbend(grid: Tensor, steps: Tensor) -> Tensor:
    """Return (B, S, S, 2) positions on the bent image in [-1, 1] -> positions on the image: the inverse of
    `bend_boxes`.
    """
    place = (grid + 1) / 2
    image, count = _outside(place), steps.shape[-1]
    for n in range(count):  # one fifth after the other: all at once would need five times the memory
        start, step = steps[..., :n].sum(-1)[:, None, None], steps[..., n][:, None, None]
        image = image + ((place - start) / step).clamp(0, 1) / count
    return image * 2 - 1


def _outside(place: Tensor) -> Tensor:
    """Return the distance of a position outside [0, 1]: bending does not change it."""
    return place.clamp(max=0) + (place - 1).clamp(min=0)


def move_boxes(boxes: Tensor, ahead: Tensor, shift: Tensor) -> Tensor:
    """Return (B, Q, 4) boxes after the image's points went to `ahead` (B, 2, 2) x + `shift` (B, 2), x in [-1,
    1].

    A rotated box becomes the box of the rotated ellipse inside it: the box of its rotated corners would be
    too large for round organs.
    """
    center = (boxes[..., :2] + boxes[..., 2:]) - 1
    half = boxes[..., 2:] - boxes[..., :2]
    center = center @ ahead.transpose(1, 2) + shift[:, None]
    half = (half**2 @ (ahead**2).transpose(1, 2)).sqrt()
    return torch.cat([center - half, center + half], dim=-1) / 2 + 0.5


def _cut(moved: Views) -> Views:
    """Clip the boxes to the view; boxes mostly outside are no targets."""
    cut = moved.boxes.clamp(0, 1)
    size, whole = cut[..., 2:] - cut[..., :2], moved.boxes[..., 2:] - moved.boxes[..., :2]
    seen = size.prod(-1) / whole.prod(-1).clamp(min=SMALLEST**2)
    lost = (seen < LEAST_SEEN) & (moved.known > 0)
    return Views(moved.images, cut, moved.known.masked_fill(lost, 0), moved.present.masked_fill(lost, -1))


def _expose(images: Tensor, ranges: Ranges, dice: Dice) -> Tensor:
    """Change grey values as machines, patients and printers do; the letterbox padding stays black.

    Strengths are in standard deviations of the image's greys, so that a pale image keeps its content. Gamma
    and window are not changed: the network equalizes the grey values of its input.
    """
    count, side = len(images), images.shape[-1]
    inside = images > 0
    image = standardise(images, inside)
    image = image + ranges.light * _clouds(count, 3, side, dice)
    image = image + ranges.shadow * _shadows(count, side, dice)
    image = _blur(image, dice.chance(ranges.blur, count))
    image = image + ranges.noise * dice.between(0, 1, count, 1, 1, 1) ** 2 * dice.normal(*images.shape)
    low, high = dice.between(-2.5, -1.2, count, 1, 1, 1), dice.between(1.2, 2.5, count, 1, 1, 1)
    image = ((image - low) / (high - low)).clamp(0, 1)
    image = _devices(image, dice.chance(ranges.device, count), dice)
    inverse = dice.chance(ranges.inversion, count)[:, None, None, None]
    image = torch.where(inverse, 1 - image, image).clamp(1 / 255, 1)
    return _borders(image * inside, dice.chance(ranges.border, count), dice)


def standardise(images: Tensor, inside: Tensor) -> Tensor:
    """Return (B, 1, S, S) images with mean 0 and deviation 1 over the pixels `inside`."""
    number = inside.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (images * inside).sum((1, 2, 3), keepdim=True) / number
    spread = (((images - mean) * inside) ** 2).sum((1, 2, 3), keepdim=True) / number
    return (images - mean) / spread.sqrt().clamp(min=1e-3)


def _clouds(count: int, cells: int, side: int, dice: Dice) -> Tensor:
    """Return (count, 1, side, side) smooth random light, about -0.5 to 0.5."""
    coarse = dice.between(-0.5, 0.5, count, 1, cells, cells)
    return functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)


def _shadows(count: int, side: int, dice: Dice) -> Tensor:
    """Return (count, 1, side, side) two soft ellipses each, anywhere, mostly bright, since disease hides
    edges."""
    steps = torch.linspace(0, 1, side)
    total = torch.zeros(count, 1, side, side)
    for _ in range(2):
        across, down = dice.between(0.1, 0.9, count, 1, 1), dice.between(0.1, 0.9, count, 1, 1)
        wide, high = dice.between(0.03, 0.2, count, 1, 1), dice.between(0.03, 0.2, count, 1, 1)
        far = ((steps[None, None] - across) / wide) ** 2 + ((steps[None, :, None] - down) / high) ** 2
        total += (dice.between(-0.5, 1, count, 1, 1) * torch.sigmoid(4 * (1 - far)))[:, None]
    return total


def _blur(images: Tensor, chosen: Tensor) -> Tensor:
    soft = functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    return torch.where(chosen[:, None, None, None], soft, images)


def _devices(images: Tensor, chosen: Tensor, dice: Dice) -> Tensor:
    """Bright lines and blocks: tubes, wires, electrodes, side markers, burned-in text."""
    images, side = images.clone(), images.shape[-1]
    for row in chosen.nonzero().flatten().tolist():
        for _ in range(1 + dice.below(4)):
            high, wide = (2 + dice.below(side // 4), 1 + dice.below(3))[:: 1 - 2 * dice.below(2)]
            top, left = dice.below(side - high), dice.below(side - wide)
            images[row, :, top : top + high, left : left + wide] = float(dice.between(0.6, 1.0, 1))
    return images


def _borders(images: Tensor, chosen: Tensor, dice: Dice) -> Tensor:
    """Collimation and frames: up to a twelfth of the side on each edge, black or white."""
    images, side = images.clone(), images.shape[-1]
    for row in chosen.nonzero().flatten().tolist():
        grey = float(dice.below(4) == 0)
        for turn in range(4):
            edge = torch.rot90(images[row], turn, (1, 2))  # a NumPy view: writing to it changes the image
            edge[:, : dice.below(side // 12)] = grey
    return images


def _spoil(given: Views, ranges: Ranges, dice: Dice) -> Views:
    """Replace some of the views by negatives without a chest."""
    images, chosen = given.images.clone(), dice.chance(ranges.spoilt, len(given.images))
    for row in chosen.nonzero().flatten().tolist():
        images[row] = _no_chest(images[row], dice)
    known, present = given.known.clone(), given.present.clone()
    known[chosen], present[chosen] = 0, 0
    return Views(images, given.boxes, known, present)


def _no_chest(image: Tensor, dice: Dice) -> Tensor:
    """Return (1, S, S): the image on its side, upside down, in shuffled quarters, far too close; a limb;
    clouds.
    """
    side = image.shape[-1]
    kind = dice.below(10)
    if kind < 3:
        return torch.rot90(image, kind + 1, (1, 2))
    if kind == 3:
        return image.roll((side // 2, side // 2), (1, 2))
    if kind == 4:
        top, left, part = dice.below(side * 3 // 4), dice.below(side * 3 // 4), side // 4
        near = image[None, :, top : top + part, left : left + part]
        return functional.interpolate(near, (side, side), mode="bilinear")[0]
    return clouds(side, dice) if kind == 5 else limb(side, dice)


def clouds(side: int, dice: Dice) -> Tensor:
    """Return (1, S, S): smooth random light with noise."""
    grain = float(dice.between(0, 0.5, 1)) * dice.normal(1, side, side)
    return (_clouds(1, 4 + dice.below(12), side, dice)[0] + grain + 0.5).clamp(0, 1)


def limb(side: int, dice: Dice) -> Tensor:
    """Return (1, S, S): one to four long bones in soft tissue at any angle, joints, a collimator black or
    white.
    """
    steps = torch.linspace(-1, 1, side)
    angle = float(dice.between(-0.4, 0.4, 1)) + math.pi / 2 * (dice.below(3) == 0)
    across = math.cos(angle) * steps[None] + math.sin(angle) * steps[:, None]
    along = math.cos(angle) * steps[:, None] - math.sin(angle) * steps[None]
    across = across + float(dice.between(-0.3, 0.3, 1)) + float(dice.between(-0.2, 0.2, 1)) * along**2
    wide = float(dice.between(0.15, 0.6, 1)) * (1 + float(dice.between(-0.4, 0.4, 1)) * along)
    image = float(dice.between(0.2, 0.9, 1)) * (1 - (across / wide) ** 2).clamp(min=0).sqrt()
    for _ in range(1 + dice.below(4)):
        bone = float(dice.between(0.08, 0.35, 1)) * wide
        middle = float(dice.between(-0.6, 0.6, 1)) * wide
        joint = 1 + torch.exp(-(((along - float(dice.between(-1.2, 1.2, 1))) / 0.2) ** 2))
        image = image + 0.5 * (1 - ((across - middle) / (bone * joint)) ** 2).clamp(min=0).sqrt()
    image = (image / image.max() + 0.02 * dice.normal(side, side)).clamp(1 / 255, 1)
    frame = float(dice.between(0, 1.4, 1))
    outside = (steps.abs() > frame) if dice.below(2) else (steps.abs() > 2)
    shade = float(dice.below(2))
    return torch.where(outside.expand(side, side), shade, image)[None]
