"""The frozen stages of an image encoder and its last one, for `--freeze early-stages`.

The outputs of the frozen stages are computed once per image, so a step costs little more than with a frozen
encoder, and the encoder still learns. Letters: B images, C channels, S side of the square, h x w patches.
"""

from typing import Any

import torch
from torch import Tensor, nn

from medground.errors import MedgroundError
from medground.models.lite import Lite, Pair


def frozen(encoder: Any) -> list[nn.Module]:
    """Return the modules before the last stage; raise MedgroundError for an encoder without stages."""
    if isinstance(encoder, Pair):
        return [*frozen(encoder.one), *frozen(encoder.two)]
    if isinstance(encoder, Lite):
        return [encoder.stem, *encoder.stages[:-1]]
    last = _last(encoder)
    return [encoder.embedder, *encoder.encoder.stages[:last]]


def early(encoder: Any, images: Tensor) -> Tensor:
    """Return the (B, C, h, w) map of the frozen stages for the encoder's (B, C, S, S) input."""
    images = images.contiguous(memory_format=torch.channels_last)  # half the time on processors
    if isinstance(encoder, Lite | Pair):
        return encoder.early(images).contiguous()
    for stage in frozen(encoder):
        images = stage(images)
    return images.contiguous()


def late(encoder: Any, maps: Tensor) -> Tensor:
    """Return the encoder's feature map for a map of `early`."""
    maps = maps.contiguous(memory_format=torch.channels_last)
    if isinstance(encoder, Lite | Pair):
        return encoder.late(maps)
    result: Tensor = encoder.encoder.stages[_last(encoder)](maps)
    return result


def _last(encoder: Any) -> int:
    """Return the index of the last stage of a ResNet."""
    kind = encoder.config.model_type
    if kind != "resnet":
        known = "ResNet or EfficientNet-Lite"
        raise MedgroundError(f"--freeze early-stages: the image encoder is a {kind}, not a {known}")
    return int(encoder.stage_names.index(encoder.out_features[-1])) - 1
