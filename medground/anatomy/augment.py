"""Random views of films, so that a detector learns anatomy and not one machine's exposure.

Never a flip: left and right are different regions. A few views are spoilt on purpose (turned on the side,
upside down, shuffled, far too close, no film at all): nothing is there to be found, and the detector learns
to say so instead of inventing a chest.

Letters: B films, S side, Q regions. Boxes are [x1, y1, x2, y2] in shares of the side.
All randomness comes from the generator that is handed in.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from medground.anatomy.region_query import SMALLEST

LEAST_SEEN = 0.6  # share of a box that must still be on the view for its place to be taught


@dataclass(frozen=True, slots=True)
class Views:
    """films (B, 1, S, S) in [0, 1]; boxes (B, Q, 4); known (B, Q) 1 where the box teaches;
    present (B, Q) 1, 0, or -1 where nobody knows."""

    films: Tensor
    boxes: Tensor
    known: Tensor
    present: Tensor


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """How far a view may be from its film.

    `shift` in shares of the side; `zoom`, `stretch`, `bend` as logarithms of factors; `turn` in degrees;
    `light`, `shadow`, `noise` in standard deviations of the greys; the rest are chances, `smear` that of
    going on with a film's edge, not black, where the view is larger than the film.
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
    """Random numbers from one generator, on the CPU so that every device sees the same."""

    def __init__(self, generator: Generator):
        self.generator = generator

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform numbers."""
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator)

    def chance(self, share: float, count: int) -> Tensor:
        """(count,) True for about this share."""
        return torch.rand(count, generator=self.generator) < share

    def below(self, end: int) -> int:
        """One whole number from 0 to end - 1."""
        return int(torch.randint(end, (1,), generator=self.generator))


def views(given: Views, ranges: Ranges, generator: Generator) -> Views:
    """A new view of each film, with the boxes where they then lie."""
    dice = Dice(generator)
    moved = _move(given, ranges, dice)
    films = _expose(moved.films, ranges, dice)
    return _spoil(Views(films, moved.boxes, moved.known, moved.present), ranges, dice)


def _move(given: Views, ranges: Ranges, dice: Dice) -> Views:
    """Bend, zoom, stretch, turn and shift; what leaves the view teaches nothing."""
    count = len(given.films)
    angle = dice.between(-ranges.turn, ranges.turn, count) * math.pi / 180
    zoom, stretch = (dice.between(-each, each, count) for each in (ranges.zoom, ranges.stretch))
    wide, high = torch.exp(zoom + stretch), torch.exp(zoom - stretch)
    cos, sin = torch.cos(angle), torch.sin(angle)
    ahead = torch.stack([cos * wide, -sin * high, sin * wide, cos * high], dim=1).view(-1, 2, 2)
    shift = dice.between(-2 * ranges.shift, 2 * ranges.shift, count, 2)
    back = torch.linalg.inv(ahead)
    theta = torch.cat([back, -back @ shift[:, :, None]], dim=2)
    grid = functional.affine_grid(theta, list(given.films.shape), align_corners=False)
    steps = bends(count, ranges.bend, dice)
    places = unbend(grid, steps)
    smeared = dice.chance(ranges.smear, count)[:, None, None, None]
    places = torch.where(smeared, places.clamp(-1, 1), places)
    films = functional.grid_sample(given.films, places, align_corners=False, padding_mode="zeros")
    boxes = move_boxes(bend_boxes(given.boxes, steps), ahead, shift)
    return _cut(Views(films, boxes, given.known, given.present))


def bends(count: int, strength: float, dice: Dice) -> Tensor:
    """(count, 2, 5): into what shares of the width, and of the height, a film's fifths are stretched or
    squeezed. Chests differ in how far the lungs reach down, and how wide the heart is between them."""
    steps = torch.exp(dice.between(-strength, strength, count, 2, 5))
    return steps / steps.sum(dim=2, keepdim=True)


def bend_boxes(boxes: Tensor, steps: Tensor) -> Tensor:
    """(B, Q, 4) boxes on the bent film: across and down bend apart, so that boxes stay boxes, exactly."""
    place = boxes.unflatten(2, (2, 2))[..., None]  # (B, Q, corner, across or down, 1)
    count = steps.shape[-1]
    inside = (place * count - torch.arange(count)).clamp(0, 1)  # how much of each fifth lies before the place
    bent = (inside * steps[:, None, None]).sum(-1)
    return (bent + _outside(place[..., 0])).flatten(2)


def unbend(grid: Tensor, steps: Tensor) -> Tensor:
    """(B, S, S, 2) places on the bent film in [-1, 1] -> those on the film: the inverse of `bend_boxes`."""
    place = (grid + 1) / 2
    film, count = _outside(place), steps.shape[-1]
    for n in range(count):  # one fifth after the other: all at once would need five times the memory
        start, step = steps[..., :n].sum(-1)[:, None, None], steps[..., n][:, None, None]
        film = film + ((place - start) / step).clamp(0, 1) / count
    return film * 2 - 1


def _outside(place: Tensor) -> Tensor:
    """How far a place lies outside [0, 1]: bending leaves that as it is."""
    return place.clamp(max=0) + (place - 1).clamp(min=0)


def move_boxes(boxes: Tensor, ahead: Tensor, shift: Tensor) -> Tensor:
    """(B, Q, 4) boxes after the film's points went to `ahead` (B, 2, 2) x + `shift` (B, 2), x in [-1, 1].

    A turned box gets the box of the turned ellipse inside it: the box of its turned corners would be too
    large for anything round, and organs are.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) - 1
    half = boxes[..., 2:] - boxes[..., :2]
    centre = centre @ ahead.transpose(1, 2) + shift[:, None]
    half = (half**2 @ (ahead**2).transpose(1, 2)).sqrt()
    return torch.cat([centre - half, centre + half], dim=-1) / 2 + 0.5


def _cut(moved: Views) -> Views:
    """Boxes cut at the view's edge; those mostly outside are neither taught nor asked for."""
    cut = moved.boxes.clamp(0, 1)
    size, whole = cut[..., 2:] - cut[..., :2], moved.boxes[..., 2:] - moved.boxes[..., :2]
    seen = size.prod(-1) / whole.prod(-1).clamp(min=SMALLEST**2)
    lost = (seen < LEAST_SEEN) & (moved.known > 0)
    return Views(moved.films, cut, moved.known.masked_fill(lost, 0), moved.present.masked_fill(lost, -1))


def _expose(films: Tensor, ranges: Ranges, dice: Dice) -> Tensor:
    """What machines, patients and printers do to a film's greys; the padding of a letterbox stays black.

    Strengths are in standard deviations of the film's greys, so that a pale film is not drowned. Gamma and
    window are left alone: the network evens the greys of what it gets, up to where they were cut off.
    """
    count, side = len(films), films.shape[-1]
    inside = films > 0
    film = standardise(films, inside)
    film = film + ranges.light * _clouds(count, 3, side, dice)
    film = film + ranges.shadow * _shadows(count, side, dice)
    film = _blur(film, dice.chance(ranges.blur, count))
    film = film + ranges.noise * dice.between(0, 1, count, 1, 1, 1) ** 2 * dice.normal(*films.shape)
    low, high = dice.between(-2.5, -1.2, count, 1, 1, 1), dice.between(1.2, 2.5, count, 1, 1, 1)
    film = ((film - low) / (high - low)).clamp(0, 1)
    film = _devices(film, dice.chance(ranges.device, count), dice)
    inverse = dice.chance(ranges.inversion, count)[:, None, None, None]
    film = torch.where(inverse, 1 - film, film).clamp(1 / 255, 1)
    return _borders(film * inside, dice.chance(ranges.border, count), dice)


def standardise(films: Tensor, inside: Tensor) -> Tensor:
    """(B, 1, S, S) films with mean 0 and deviation 1 where they are `inside`."""
    number = inside.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (films * inside).sum((1, 2, 3), keepdim=True) / number
    spread = (((films - mean) * inside) ** 2).sum((1, 2, 3), keepdim=True) / number
    return (films - mean) / spread.sqrt().clamp(min=1e-3)


def _clouds(count: int, cells: int, side: int, dice: Dice) -> Tensor:
    """(count, 1, side, side) smooth random light, about -0.5 to 0.5."""
    coarse = dice.between(-0.5, 0.5, count, 1, cells, cells)
    return functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)


def _shadows(count: int, side: int, dice: Dice) -> Tensor:
    """(count, 1, side, side) two soft ellipses each, anywhere, mostly bright: disease hides edges."""
    steps = torch.linspace(0, 1, side)
    total = torch.zeros(count, 1, side, side)
    for _ in range(2):
        across, down = dice.between(0.1, 0.9, count, 1, 1), dice.between(0.1, 0.9, count, 1, 1)
        wide, high = dice.between(0.03, 0.2, count, 1, 1), dice.between(0.03, 0.2, count, 1, 1)
        far = ((steps[None, None] - across) / wide) ** 2 + ((steps[None, :, None] - down) / high) ** 2
        total += (dice.between(-0.5, 1, count, 1, 1) * torch.sigmoid(4 * (1 - far)))[:, None]
    return total


def _blur(films: Tensor, chosen: Tensor) -> Tensor:
    soft = functional.avg_pool2d(films, 3, 1, 1, count_include_pad=False)
    return torch.where(chosen[:, None, None, None], soft, films)


def _devices(films: Tensor, chosen: Tensor, dice: Dice) -> Tensor:
    """Bright lines and blocks: tubes, wires, electrodes, side markers, burned-in text."""
    films, side = films.clone(), films.shape[-1]
    for row in chosen.nonzero().flatten().tolist():
        for _ in range(1 + dice.below(4)):
            high, wide = (2 + dice.below(side // 4), 1 + dice.below(3))[:: 1 - 2 * dice.below(2)]
            top, left = dice.below(side - high), dice.below(side - wide)
            films[row, :, top : top + high, left : left + wide] = float(dice.between(0.6, 1.0, 1))
    return films


def _borders(films: Tensor, chosen: Tensor, dice: Dice) -> Tensor:
    """Collimation and frames: up to a twelfth of the side on each edge, black or white."""
    films, side = films.clone(), films.shape[-1]
    for row in chosen.nonzero().flatten().tolist():
        grey = float(dice.below(4) == 0)
        for turn in range(4):
            edge = torch.rot90(films[row], turn, (1, 2))  # a view: writing to it writes to the film
            edge[:, : dice.below(side // 12)] = grey
    return films


def _spoil(given: Views, ranges: Ranges, dice: Dice) -> Views:
    """Make some of the views what no detector should find a chest in."""
    films, chosen = given.films.clone(), dice.chance(ranges.spoilt, len(given.films))
    for row in chosen.nonzero().flatten().tolist():
        films[row] = _no_chest(films[row], dice)
    known, present = given.known.clone(), given.present.clone()
    known[chosen], present[chosen] = 0, 0
    return Views(films, given.boxes, known, present)


def _no_chest(film: Tensor, dice: Dice) -> Tensor:
    """(1, S, S): the film on its side, upside down, in shuffled quarters, far too close; a limb; clouds."""
    side = film.shape[-1]
    kind = dice.below(10)
    if kind < 3:
        return torch.rot90(film, kind + 1, (1, 2))
    if kind == 3:
        return film.roll((side // 2, side // 2), (1, 2))
    if kind == 4:
        top, left, part = dice.below(side * 3 // 4), dice.below(side * 3 // 4), side // 4
        near = film[None, :, top : top + part, left : left + part]
        return functional.interpolate(near, (side, side), mode="bilinear")[0]
    if kind == 5:
        grain = float(dice.between(0, 0.5, 1)) * dice.normal(1, side, side)
        return (_clouds(1, 4 + dice.below(12), side, dice)[0] + grain + 0.5).clamp(0, 1)
    return _limb(side, dice)


def _limb(side: int, dice: Dice) -> Tensor:
    """(1, S, S): one to four long bones in soft tissue at any angle, joints, a collimator black or white."""
    steps = torch.linspace(-1, 1, side)
    angle = float(dice.between(-0.4, 0.4, 1)) + math.pi / 2 * (dice.below(3) == 0)
    across = math.cos(angle) * steps[None] + math.sin(angle) * steps[:, None]
    along = math.cos(angle) * steps[:, None] - math.sin(angle) * steps[None]
    across = across + float(dice.between(-0.3, 0.3, 1)) + float(dice.between(-0.2, 0.2, 1)) * along**2
    wide = float(dice.between(0.15, 0.6, 1)) * (1 + float(dice.between(-0.4, 0.4, 1)) * along)
    film = float(dice.between(0.2, 0.9, 1)) * (1 - (across / wide) ** 2).clamp(min=0).sqrt()
    for _ in range(1 + dice.below(4)):
        bone = float(dice.between(0.08, 0.35, 1)) * wide
        middle = float(dice.between(-0.6, 0.6, 1)) * wide
        joint = 1 + torch.exp(-(((along - float(dice.between(-1.2, 1.2, 1))) / 0.2) ** 2))
        film = film + 0.5 * (1 - ((across - middle) / (bone * joint)) ** 2).clamp(min=0).sqrt()
    film = (film / film.max() + 0.02 * dice.normal(side, side)).clamp(1 / 255, 1)
    frame = float(dice.between(0, 1.4, 1))
    outside = (steps.abs() > frame) if dice.below(2) else (steps.abs() > 2)
    shade = float(dice.below(2))
    return torch.where(outside.expand(side, side), shade, film)[None]
