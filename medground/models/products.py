"""Products of rows and matrices for training on a processor, by oneDNN where torch has it.

By default torch uses another library for matrices of single precision, which takes longer on some processors.
Letters: N rows, D width, E outputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def project(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return tokens @ weight.T + bias for (..., D) tokens, with gradients."""
    found: Tensor = _Linear.apply(tokens.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
    result: Tensor = found.unflatten(0, tokens.shape[:-1])
    return result


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return (N, E) rows @ weight.T + bias, without gradients; weight: (E, D), bias: (E,)."""
    return _product(rows, weight, bias, "none")


def relu_linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the ReLU of `linear`, without gradients."""
    return _product(rows, weight, bias, "relu")


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    if _has_onednn() and rows.device.type == "cpu" and rows.dtype == torch.float32:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, then, [], "")
        return found
    found = torch.nn.functional.linear(rows, weight, bias)
    return found.relu_() if then == "relu" else found


def _has_onednn() -> bool:
    """Return whether this torch has oneDNN's product."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return linear(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, weight = ctx.saved_tensors
        gradient = gradient.contiguous()  # oneDNN takes no expanded one
        return linear(gradient, weight.t()), gradient.t() @ rows, gradient.sum(0)
