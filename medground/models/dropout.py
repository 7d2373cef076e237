"""Dropout for training on a processor, in attention too, in a fifth of the time of torch's.

On a processor torch draws each number of a mask on its own, which takes longer than the products of a layer.
Here 16 random bits decide on each number, so the probability is rounded to 1 / 65,536; the factor of the
numbers that are kept follows from the rounded one. Attention keeps one matrix for the backward pass, where
torch keeps three. Large matrices are computed in parts that stay in the processor's cache. On other devices
and in other precisions torch's own dropout is used.

Letters: N rows, L queries, T tokens, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medground.models import products

BITS = 16
STATES = 1 << BITS
ROWS = 1024  # of a product in `feed_forward`
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


def feed_forward(tokens: Tensor, first: nn.Linear, second: nn.Linear, p: float) -> Tensor:
    """Return second(dropout(relu(first(tokens)))) for (..., D) tokens, where dropout `applies`."""
    parameters = (first.weight, first.bias, second.weight, second.bias)
    found: Tensor = _FeedForward.apply(tokens.flatten(0, -2), *parameters, p)  # type: ignore[no-untyped-call]
    result: Tensor = found.unflatten(0, tokens.shape[:-1])
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


def _bits(shape: torch.Size) -> Tensor:
    """Return random 16-bit numbers of this shape."""
    count = shape.numel()
    bits = torch.empty(-(-count * BITS // 64), dtype=torch.int64)
    return bits.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[:count].view(shape)  # type: ignore[arg-type]


def _drawn(shape: torch.Size) -> Tensor:
    """Return `_bits` as floating-point numbers."""
    return _bits(shape).to(torch.float32)


def _where_above(numbers: Tensor, others: Tensor, least: float, out: Tensor) -> None:
    """Write the numbers to `out`, and 0 where the others are at most `least`, in one pass."""
    torch.ops.aten.threshold_backward.grad_input(numbers, others, least, grad_input=out)


def _signs(shape: torch.Size, p: float) -> Tensor:
    """Return numbers of this shape that are negative with probability `p`."""
    return _drawn(shape).sub_(_threshold(p))


class _FeedForward(torch.autograd.Function):
    """Some rows after the others, so that their hidden units stay in the processor's cache.

    The first weights are scaled, as ReLU and the factor of dropout commute. So a kept unit needs no product.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, w: Tensor, b: Tensor, to: Tensor, shift: Tensor, p: float) -> Tensor:
        ctx.scale, below = _scale(p), _threshold(p) - 1
        inner, found = rows.new_empty(len(rows), len(w)), rows.new_empty(len(rows), len(to))
        parts = (each.split(ROWS) for each in (rows, inner, found))
        scaled, first = w * ctx.scale, b * ctx.scale
        for own, kept, into in zip(*parts, strict=True):
            active = products.relu_linear(own, scaled, first)
            _where_above(active, _drawn(active.shape), below, out=kept)
            into.copy_(products.linear(kept, to, shift))
        ctx.save_for_backward(rows, inner, w, to)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, inner, w, to = ctx.saved_tensors
        gradient = gradient.contiguous()  # oneDNN takes no expanded one
        to_rows, to_b = torch.empty_like(rows), w.new_zeros(len(w))
        to_w, to_to = torch.zeros_like(w), torch.zeros_like(to)
        parts = (each.split(ROWS) for each in (rows, inner, gradient, to_rows))
        back, scaled = w.t(), to.t() * ctx.scale
        for own, kept, along, into in zip(*parts, strict=True):
            to_to.addmm_(along.t(), kept)
            slope = products.linear(along, scaled)
            _where_above(slope, kept, 0, out=slope)
            to_w.addmm_(slope.t(), own)
            to_b += slope.sum(0)
            into.copy_(products.linear(slope, back))
        return to_rows, to_w, to_b, to_to, gradient.sum(0), None


class _Attention(torch.autograd.Function):
    """One head of one row after the other, so that its matrix stays in the processor's cache.

    The saved weights are those before dropout, with a minus where dropout made a zero.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, heads: int, p: float
    ) -> Tensor:
        ctx.heads, ctx.scale, ctx.rate = heads, _scale(p), (query.shape[2] // heads) ** -0.5
        found = torch.empty_like(query)
        weights = query.new_empty(len(query), heads, query.shape[1], keys.shape[1])
        kept = torch.empty_like(weights[0, 0])
        parts = (_apart(each, heads) for each in (query * ctx.rate, keys, values, found))
        for row, ignored, *each in zip(weights, hidden, *parts, strict=True):
            columns = ignored.nonzero()[:, 0]
            signs = _bits(row.shape)
            for own, sign, q, k, v, into in zip(row, signs, *each, strict=True):
                torch.mm(q, k.t(), out=own).index_fill_(1, columns, HIDDEN)
                torch.softmax(own, 1, out=own)
                torch.copysign(own, kept.copy_(sign).sub_(_threshold(p)), out=own)
                torch.mm(torch.clamp_min(own, 0, out=kept), v, out=into)
        found *= ctx.scale
        ctx.save_for_backward(query, keys, values, weights, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, weights, found = ctx.saved_tensors
        gradients = [torch.empty_like(each) for each in inputs]
        along = _apart(gradient * found, ctx.heads).sum(3, keepdim=True)
        kept, slope = torch.empty_like(weights[0, 0]), torch.empty_like(weights[0, 0])
        parts = [_apart(each, ctx.heads) for each in (*inputs, *gradients, gradient)]
        for row in zip(weights, along, *parts, strict=True):
            for own, mean, q, k, v, to_q, to_k, to_v, g in zip(*row, strict=True):
                torch.clamp_min(own, 0, out=kept)
                torch.mm(kept.t(), g, out=to_v)
                torch.mm(g, v.t(), out=slope).mul_(kept)
                slope.addcmul_(torch.abs(own, out=kept), mean, value=-1 / ctx.scale)
                torch.mm(slope, k, out=to_q)
                torch.mm(slope.t(), q, out=to_k)
        for each, factor in zip(gradients, (ctx.rate, ctx.rate, 1), strict=True):
            each *= ctx.scale * factor
        return (*gradients, None, None, None)


def _apart(rows: Tensor, heads: int) -> Tensor:
    """Return (N, H, L, D / H) of (N, L, D), a view."""
    result: Tensor = rows.unflatten(2, (heads, -1)).transpose(1, 2)
    return result
