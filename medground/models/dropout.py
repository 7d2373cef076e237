"""Dropout for training on a processor, in attention too, in a fifth of the time of torch's.

On a processor torch draws each number of a mask on its own, which takes longer than the products of a layer.
Here 16 random bits decide on each number, so the probability is rounded to 1 / 65,536; the factor of the
numbers that are kept follows from the rounded one. Attention keeps one matrix for the backward pass, where
torch keeps three. On other devices and in other precisions torch's own dropout is used.

Letters: N rows, L queries, T tokens, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BITS = 16
STATES = 1 << BITS
HIDDEN = -1e30  # added to the scores of hidden tokens: their weights are exactly 0, and no row is NaN


class Dropout(nn.Dropout):
    """torch's dropout with the mask of this module."""

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the numbers, in training with a share `p` of them 0 and the others scaled."""
        if not (self.training and applies(numbers, self.p)):
            return super().forward(numbers)
        return numbers * _signs(numbers.shape, self.p).ge_(0).mul_(_scale(self.p))


def applies(numbers: Tensor, p: float) -> bool:
    """Return whether this module's dropout is used for these numbers in training."""
    is_plain = numbers.device.type == "cpu" and numbers.dtype == torch.float32
    return is_plain and 0 < p < 1 and not torch.is_autocast_enabled("cpu")


def relu_dropout(numbers: Tensor, p: float) -> Tensor:
    """Return dropout of the ReLU of the numbers, where dropout `applies`; only the result is kept."""
    result: Tensor = _ReluDropout.apply(numbers, p)  # type: ignore[no-untyped-call]
    return result


def attention(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, heads: int, p: float) -> Tensor:
    """Return (N, L, D) attention with dropout of its weights, where dropout `applies`.

    query: (N, L, D). keys, values: (N, T, D). hidden: (N, T), True for tokens to ignore.
    """
    result: Tensor = _Attention.apply(query, keys, values, hidden, heads, p)  # type: ignore[no-untyped-call]
    return result


def _threshold(p: float) -> int:
    """Return the least of the 16-bit numbers that keep theirs."""
    return round(p * STATES) - STATES // 2


def _scale(p: float) -> float:
    """Return the factor of the numbers that are kept."""
    return 1 / (1 - round(p * STATES) / STATES)


def _signs(shape: torch.Size, p: float) -> Tensor:
    """Return numbers of this shape that are negative with probability `p`."""
    count = shape.numel()
    bits = torch.empty(-(-count * BITS // 64), dtype=torch.int64)
    drawn = bits.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[:count]  # type: ignore[arg-type]
    return drawn.to(torch.float32).sub_(_threshold(p)).view(shape)


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, numbers: Tensor, p: float) -> Tensor:
        ctx.scale = _scale(p)
        found = numbers.clamp_min(0).mul_(_signs(numbers.shape, p).ge_(0)).mul_(ctx.scale)
        ctx.save_for_backward(found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (found,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, found, 0).mul_(ctx.scale), None


class _Attention(torch.autograd.Function):
    """One row after the other, so that its matrix stays in the processor's cache.

    The saved weights are those before dropout, with a minus where dropout made a zero.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, heads: int, p: float
    ) -> Tensor:
        ctx.heads, ctx.scale, ctx.rate = heads, _scale(p), (query.shape[2] // heads) ** -0.5
        bias = torch.zeros_like(hidden, dtype=query.dtype).masked_fill_(hidden, HIDDEN)
        found = torch.empty_like(query)
        weights = query.new_empty(len(query), heads, query.shape[1], keys.shape[1])
        kept = torch.empty_like(weights[0])
        parts = (_apart(each, heads) for each in (query, keys, values, found))
        for own, shown, q, k, v, into in zip(weights, bias, *parts, strict=True):
            torch.baddbmm(shown, q, k.mT, alpha=ctx.rate, out=own)
            torch.softmax(own, 2, out=own)
            torch.copysign(own, _signs(own.shape, p), out=own)
            into.copy_(torch.bmm(torch.clamp_min(own, 0, out=kept), v))
        found *= ctx.scale
        ctx.save_for_backward(query, keys, values, weights, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, weights, found = ctx.saved_tensors
        gradients = [torch.empty_like(each) for each in inputs]
        along = (gradient * found).unflatten(2, (ctx.heads, -1)).sum(3).transpose(1, 2)[..., None]
        kept, slope = torch.empty_like(weights[0]), torch.empty_like(weights[0])
        parts = (_apart(each, ctx.heads) for each in (*inputs, *gradients, gradient))
        for own, mean, q, k, v, to_q, to_k, to_v, g in zip(weights, along, *parts, strict=True):
            torch.clamp_min(own, 0, out=kept)
            to_v.copy_(torch.bmm(kept.mT, g))
            torch.bmm(g, v.mT, out=slope).mul_(kept)
            slope.sub_(torch.abs(own, out=kept).mul_(mean), alpha=1 / ctx.scale)
            to_q.copy_(torch.bmm(slope, k))
            to_k.copy_(torch.bmm(slope.mT, q))
        for each, factor in zip(gradients, (ctx.rate, ctx.rate, 1), strict=True):
            each *= ctx.scale * factor
        return (*gradients, None, None, None)


def _apart(rows: Tensor, heads: int) -> Tensor:
    """Return (N, H, L, D / H) of (N, L, D), a view."""
    result: Tensor = rows.unflatten(2, (heads, -1)).transpose(1, 2)
    return result
