"""EfficientNet-Lite0 and -Lite2 (Tan and Le 2019) as image encoders: convolutions pre-trained on ImageNet.

The feature map has stride 32. It contains the last map of stride 32, together with the 2 x 2 cells of the
last map of stride 16, so small findings keep their place. `tools/convert_lite` reads the published weights.
Both encoders may also run side by side: `Pair`.

Letters: B images, S side (a multiple of 32), C channels.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground import checkpoints

MODEL_TYPE = "efficientnet-lite0"
GREY = [0.498, 0.502]  # mean and deviation of its training images: (gray value - 127) / 128
STAGES = {  # repeats, kernel, stride, expansion, channels
    MODEL_TYPE: (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ),
    "efficientnet-lite2": (
        (1, 3, 1, 1, 16),
        (3, 3, 2, 6, 24),
        (3, 5, 2, 6, 48),
        (4, 3, 2, 6, 88),
        (4, 5, 1, 6, 120),
        (5, 5, 2, 6, 208),
        (1, 3, 1, 6, 352),
    ),
}
PAIR = f"{MODEL_TYPE}+lite2"
MODEL_TYPES = (*STAGES, PAIR)
STRIDE_16 = 4  # the stage whose map has stride 16


class LiteConfig:
    """The attributes of a transformers config that this package reads."""

    num_channels = 3
    patch_size = 32

    def __init__(self, model_type: str):
        self.model_type = model_type

    def to_diff_dict(self) -> dict[str, Any]:
        """Return no keys: the model type tells the size."""
        return {}


class Conv(nn.Module):
    """A convolution without bias and its batch norm, padded as TensorFlow does."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(after, eps=1e-3)
        low, high = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.padding = (max(low, 0), max(high, 0)) * 2

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.norm(self.conv(functional.pad(features, self.padding)))
        return result


class Block(nn.Module):
    """An inverted residual block: expansion, convolution by channel, projection."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = before * expansion
        self.expand = Conv(before, wide) if expansion > 1 else None
        self.depth = Conv(wide, wide, kernel, stride, groups=wide)
        self.project = Conv(wide, after)
        self.adds = stride == 1 and before == after

    def forward(self, features: Tensor) -> Tensor:
        wide = features if self.expand is None else functional.relu6(self.expand(features))
        result: Tensor = self.project(functional.relu6(self.depth(wide)))
        return features + result if self.adds else result


class Lite(nn.Module):
    """(B, 3, S, S) images -> one feature map (B, C, S / 32, S / 32). Its batch norms never learn.

    C is 768 for Lite0 and 832 for Lite2. model_type: a key of `STAGES`.
    """

    def __init__(self, model_type: str = MODEL_TYPE) -> None:
        super().__init__()
        self.config, shape = LiteConfig(model_type), STAGES[model_type]
        self.stem = Conv(3, 32, 3, 2)
        stages, before = [], 32
        for repeats, kernel, stride, expansion, after in shape:
            blocks = []
            for number in range(repeats):
                blocks.append(Block(before, after, kernel, stride if number == 0 else 1, expansion))
                before = after
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.fine = 4 * shape[STRIDE_16][-1]  # channels of the map of stride 16, in cells of stride 32
        self.channels = [self.fine + shape[-1][-1]]
        self.early_channels = self.fine + shape[-2][-1]

    def train(self, mode: bool = True) -> "Lite":
        """Set the mode, but leave the batch norms as in predictions: batches here are too small for them."""
        super().train(mode)
        for each in self.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.eval()
        return self

    def maps(self, images: Tensor, count: int | None = None) -> list[Tensor]:
        """Return the feature map of each stage, fine to coarse, or of the first `count`."""
        features, found = functional.relu6(self.stem(images)), []
        for stage in self.stages[:count]:
            features = stage(features)
            found.append(features)
        return found

    def early(self, images: Tensor) -> Tensor:
        """Return (B, E, S / 32, S / 32): the map of stride 16, and that of the last stage but one."""
        maps = self.maps(images, len(self.stages) - 1)
        return torch.cat([functional.pixel_unshuffle(maps[STRIDE_16], 2), maps[-1]], dim=1)

    def late(self, maps: Tensor) -> Tensor:
        """Return the feature map for a map of `early`."""
        return torch.cat([maps[:, : self.fine], self.stages[-1](maps[:, self.fine :])], dim=1)

    def forward(self, images: Tensor) -> Any:
        """Return `feature_maps` as backbones of transformers do."""
        from transformers.modeling_outputs import BackboneOutput

        return BackboneOutput(feature_maps=(self.late(self.early(images)),))


class Pair(nn.Module):
    """Lite0 and Lite2 on the same images. Their maps are concatenated over channels, those of Lite0 first.

    C is 1600. The maps of Lite2 are the means of those of an image and of its flipped copy, flipped back.
    first: the number of channels of Lite0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = LiteConfig(PAIR)
        self.one, self.two = (Lite(kind) for kind in STAGES)
        self.first = self.one.channels[0]
        self.channels = [self.first + self.two.channels[0]]

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of each stage, fine to coarse."""
        own, both = self.one.maps(images), self.two.maps(torch.cat([images, images.flip(3)]))
        return [torch.cat([one, unflipped(two)], dim=1) for one, two in zip(own, both, strict=True)]

    def early(self, images: Tensor) -> Tensor:
        """Return the maps of `Lite.early`: of Lite0, and of Lite2 for the image and for its flipped copy."""
        both = self.two.early(torch.cat([images, images.flip(3)]))
        return torch.cat([self.one.early(images), *both.chunk(2)], dim=1)

    def late(self, maps: Tensor) -> Tensor:
        """Return the feature map for a map of `early`."""
        sizes = [each.early_channels for each in (self.one, self.two, self.two)]
        of_one, *both = maps.split(sizes, dim=1)
        return torch.cat([self.one.late(of_one), unflipped(self.two.late(torch.cat(both)))], dim=1)

    def forward(self, images: Tensor) -> Any:
        """Return `feature_maps` as backbones of transformers do."""
        from transformers.modeling_outputs import BackboneOutput

        return BackboneOutput(feature_maps=(self.late(self.early(images)),))


def unflipped(maps: Tensor) -> Tensor:
    """Return the means of the maps of B images and of those of their flipped copies, flipped back."""
    own, flipped = maps.chunk(2)
    return (own + flipped.flip(3)) / 2


def build(model_type: str) -> Lite | Pair:
    """Return an untrained encoder of one of `MODEL_TYPES`."""
    return Pair() if model_type == PAIR else Lite(model_type)


def type_of(name: str) -> str | None:
    """Return the model type of a folder that `tools/convert_lite` wrote, None for any other name."""
    config = Path(name, "config.json")
    text = config.read_text(errors="replace") if config.is_file() else ""
    return next((each for each in MODEL_TYPES if f'"{each}"' in text), None)


def load(folder: Path) -> Lite | Pair:
    """Return the pre-trained encoder of a folder; raises MedgroundError if its weights do not fit."""
    path, network = folder / checkpoints.WEIGHTS, build(type_of(str(folder)) or MODEL_TYPE)
    weights, _ = checkpoints.load(path)
    checkpoints.fit(network, weights, path)
    return network
