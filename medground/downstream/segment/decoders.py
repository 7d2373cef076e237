"""Decoders: feature maps of an image encoder -> logits of each class at each pixel.

unet      for encoders with maps of several strides, as `segmentation_models_pytorch.Unet`: the coarsest map
          is doubled in size and joined with the next finer one, up to the size of the image.
setr-pup  for encoders with one map, as SETR-PUP in MGCA: a linear layer of the same width, then for each
          width a convolution, batch norm, ReLU and bilinear doubling.

The logits are resized to the square if the doublings do not end there (patches of 14 or 32 pixels).
Letters: B images, S side of the square, D widths of maps, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground import config_limits
from medground.errors import MedgroundError

UNET, SETR_PUP = "unet", "setr-pup"
NAMES = (UNET, SETR_PUP)
WIDTHS = {UNET: (256, 128, 64, 32, 16), SETR_PUP: (512, 256, 128, 64)}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a decoder: its name, the square's side, channels of its stages, and number of classes.

    maps: (width, side) of each feature map, fine to coarse.
    """

    name: str
    maps: tuple[tuple[int, int], ...]
    size: int
    widths: tuple[int, ...]
    classes: int

    def to_json(self) -> dict[str, Any]:
        """Return the shape as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Shape":
        """Return the shape from `to_json`; raise MedgroundError for any other object."""
        import msgspec

        config_limits.check(values, "shape")
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError:
            raise MedgroundError("not the shape of a decoder") from None

    def build(self) -> nn.Module:
        """Return the decoder, with random weights of torch's generator."""
        return UNet(self) if self.name == UNET else SetrPup(self)


def shape_of(
    maps: Sequence[tuple[int, int]],
    size: int,
    classes: int,
    name: str | None = None,
    widths: Sequence[int] | None = None,
) -> Shape:
    """Return the shape of the decoder that fits these maps; None stands for the default of this encoder.

    Raises MedgroundError for a U-Net over a single map, and for a number of widths that does not fit.
    """
    name = name or (UNET if len(maps) > 1 else SETR_PUP)
    if name == UNET and len(maps) == 1:
        raise MedgroundError(
            f"--decoder {UNET} needs an encoder with several maps; this one needs {SETR_PUP}"
        )
    doublings = max(1, round(math.log2(size / maps[-1][1])))
    if widths is None:
        widths = WIDTHS[name][-doublings:] if name == UNET else WIDTHS[name]
    if name == UNET and len(widths) != doublings:
        raise MedgroundError(f"--width: expected {doublings} numbers for the maps of this encoder")
    return Shape(name=name, maps=tuple(maps), size=size, widths=tuple(widths), classes=classes)


class UNet(nn.Module):
    """The decoder of a U-Net: fine to coarse (B, D, h, w) maps -> (B, K, S, S) logits."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.size = shape.size
        (before, _), *finer = reversed(shape.maps)
        beside = [width for width, _ in finer] + [0] * len(shape.widths)
        blocks = []
        for width, skipped in zip(shape.widths, beside, strict=False):
            blocks.append(nn.Sequential(_convolution(before + skipped, width), _convolution(width, width)))
            before = width
        self.blocks = nn.ModuleList(blocks)
        self.out = nn.Conv2d(before, shape.classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        features, *finer = reversed(maps)
        for number, block in enumerate(self.blocks):
            if number < len(finer):
                beside = finer[number]
                resized = functional.interpolate(features, size=beside.shape[-2:], mode="nearest")
                features = torch.cat([resized, beside], dim=1)
            else:
                features = functional.interpolate(features, scale_factor=2, mode="nearest")
            features = block(features)
        return _to_square(self.out(features), self.size)


class SetrPup(nn.Module):
    """SETR's progressive upsampling: one (B, D, h, w) map -> (B, K, S, S) logits; finer maps are not used."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.size = shape.size
        before = shape.maps[-1][0]
        self.project = nn.Conv2d(before, before, 1)
        stages = []
        for width in shape.widths:
            stages.append(_convolution(before, width))
            before = width
        self.stages = nn.ModuleList(stages)
        self.out = nn.Conv2d(before, shape.classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        features = self.project(maps[-1])
        for stage in self.stages:
            features = functional.interpolate(stage(features), scale_factor=2, mode="bilinear")
        return _to_square(self.out(features), self.size)


def _convolution(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def _to_square(logits: Tensor, size: int) -> Tensor:
    if logits.shape[-1] == size:
        return logits
    return functional.interpolate(logits, size=(size, size), mode="bilinear")
