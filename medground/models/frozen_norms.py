"""Convolutions with frozen batch norms as one convolution each, for training on a processor.

A frozen norm multiplies each channel by a constant and adds another. The weights of the convolution are
multiplied instead, which are fewer than the numbers of the feature map. Outputs and gradients are the same to
rounding.
Letters: B images, C channels.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn


def fold(encoder: nn.Module) -> None:
    """Let the convolutions of a ResNet of transformers multiply for their norms, where `applies`.

    Parameters and their names stay the same. Layers of other encoders do not change.
    """
    for each in encoder.modules():
        if isinstance(getattr(each, "convolution", None), nn.Conv2d) and isinstance(
            getattr(each, "normalization", None), nn.BatchNorm2d
        ):
            each.forward = MethodType(_forward, each)


def applies(norm: nn.BatchNorm2d, numbers: Tensor) -> bool:
    """Return whether a norm is frozen, and the numbers are those of training on a processor.

    Predictions keep the norm, so they have the same bytes as without `fold`.
    """
    is_plain = numbers.device.type == "cpu" and numbers.dtype == torch.float32
    frozen = not norm.training and not any(each.requires_grad for each in norm.parameters())
    return is_plain and frozen and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def _forward(layer: Any, maps: Tensor) -> Tensor:
    """Return the output of a layer with a convolution, a norm and perhaps an activation."""
    found: Tensor
    if not applies(layer.normalization, maps):
        found = type(layer).forward(layer, maps)
        return found
    norm, convolution = layer.normalization, layer.convolution
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias * scale
    found = convolution._conv_forward(maps, convolution.weight * scale[:, None, None, None], shift)
    activation = getattr(layer, "activation", None)
    if isinstance(activation, nn.ReLU):
        return found.relu_()  # the gradient of a convolution does not need its output
    return found if activation is None else activation(found)
