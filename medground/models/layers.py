"""Layers that architectures share. Letters: B batch, N rows, P patches (h x w), D width."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from medground.models.dropout import Dropout


def sine_positions(height: int, width: int, dim: int) -> Tensor:
    """Return (height * width, dim) `sine_code` of the centers of a patch grid, row by row."""
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    places = [columns.expand(height, -1), rows[:, None].expand(-1, width)]
    return sine_code(torch.stack(places, dim=2).flatten(0, 1), dim)  # as graphs can be exported


def sine_code(places: Tensor, dim: int) -> Tensor:
    """Return (N, dim) sine and cosine codes of (N, 2) points [x, y] in [0, 1]: half for y, half for x.

    As in DETR (Carion et al. 2020), with points scaled to [0, 2 pi], so that the grid size has no effect.
    """
    each = dim // 4
    rates = 10_000 ** (-torch.arange(each) / each) * 16  # 16: the shortest wave is 1/16 of the image
    angles = (places * 2 * math.pi)[:, [1, 0], None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)


def transformer(layers: int, width: int, heads: int, feed_forward: int, dropout: float) -> nn.Module:
    """Return a stack of pre-norm encoder layers with a final norm; the identity for 0 layers.

    Attention weights have no dropout: with it, torch has no fused attention on a CPU, and a step takes twice
    as long.
    """
    if not layers:
        return nn.Identity()

    def layer() -> nn.TransformerEncoderLayer:
        made = nn.TransformerEncoderLayer(
            width, heads, feed_forward, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        made.self_attn.dropout = 0.0
        made.dropout, made.dropout1, made.dropout2 = (Dropout(dropout) for _ in range(3))
        return made

    stack = nn.TransformerEncoder(layer(), layers, nn.LayerNorm(width), enable_nested_tensor=False)
    return _apart(stack, layer)


def _apart(stack: nn.Module, layer: Callable[[], nn.Module]) -> nn.Module:
    """Return the stack with weights of its own in each layer; torch copies those of the first."""
    for number in range(1, len(stack.layers)):  # type: ignore[arg-type]
        stack.layers[number] = layer()  # type: ignore[index,operator,assignment]
    return stack


def decoder(layers: int, width: int, heads: int, feed_forward: int, dropout: float) -> nn.Module:
    """Return a stack of pre-norm decoder layers with a final norm: queries (N, Q, D), memory (N, T, D)."""

    def layer() -> nn.TransformerDecoderLayer:
        made = nn.TransformerDecoderLayer(
            width, heads, feed_forward, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        made.self_attn.dropout = made.multihead_attn.dropout = 0.0  # as in `transformer`
        return made

    return _apart(nn.TransformerDecoder(layer(), layers, nn.LayerNorm(width)), layer)


def first_output(encoder: nn.Module, tokens: Tensor, hidden: Tensor) -> Tensor:
    """Return the (N, D) output of the stack for the first of (N, T, D) tokens.

    hidden: (N, T), True for tokens to ignore. The same as `encoder(tokens, src_key_padding_mask=hidden)[:,
    0]`, but the last layer computes only that token.
    """
    *before, last = encoder.layers  # type: ignore[misc]
    for layer in before:
        tokens = layer(tokens, src_key_padding_mask=hidden)
    normed, one = last.norm1(tokens), tokens[:, :1]
    context, _ = last.self_attn(normed[:, :1], normed, normed, key_padding_mask=hidden, need_weights=False)
    one = one + last.dropout1(context)
    inner = last.dropout(last.activation(last.linear1(last.norm2(one))))
    result: Tensor = encoder.norm(one + last.dropout2(last.linear2(inner)))[:, 0]  # type: ignore[operator]
    return result


def attended(encoder: nn.Module, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, T, D) outputs of the stack and (N, T, T) attention of its last layer, averaged over heads.

    The outputs are those of `encoder(tokens, src_key_padding_mask=hidden)`. Row t of the attention has the
    weights of token t, which sum to 1.
    """
    *before, last = encoder.layers  # type: ignore[misc]
    for layer in before:
        tokens = layer(tokens, src_key_padding_mask=hidden)
    normed = last.norm1(tokens)
    context, weights = last.self_attn(normed, normed, normed, key_padding_mask=hidden)
    tokens = tokens + last.dropout1(context)
    inner = last.dropout(last.activation(last.linear1(last.norm2(tokens))))
    return encoder.norm(tokens + last.dropout2(last.linear2(inner))), weights  # type: ignore[operator]


def rows(tensor: Tensor, index: Tensor) -> Tensor:
    """Return tensor[index], with a reproducible gradient.

    Threads sum the gradient of indexing in random order on a CPU, and that of index_select on a GPU.
    """
    return tensor.index_select(0, index) if tensor.device.type == "cpu" else tensor[index]


def mlp(*widths: int) -> nn.Sequential:
    """Return linear layers of these widths with ReLU between them."""
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts[:-1])
