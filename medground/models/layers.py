"""Parts that architectures share. Letters: B batch, N rows, P patches (h x w), D width."""

import itertools
import math

import torch
from torch import Tensor, nn


def sine_positions(height: int, width: int, dim: int) -> Tensor:
    """(height * width, dim) `sine_code` of the middles of a patch grid, row by row."""
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    places = [columns.expand(height, -1), rows[:, None].expand(-1, width)]
    return sine_code(torch.stack(places, dim=2).flatten(0, 1), dim)  # as graphs can be exported


def sine_code(places: Tensor, dim: int) -> Tensor:
    """(N, dim) sine and cosine code of (N, 2) places [x, y] in [0, 1], half of y, half of x.

    DETR's (Carion et al. 2020), with places scaled to [0, 2 pi]: it does not depend on the grid's size.
    """
    each = dim // 4
    rates = 10_000 ** (-torch.arange(each) / each) * 16  # 16: the finest wave is a sixteenth of the picture
    angles = (places * 2 * math.pi)[:, [1, 0], None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)


def transformer(layers: int, width: int, heads: int, feed_forward: int, dropout: float) -> nn.Module:
    """A stack of pre-norm encoder layers with a norm at its end; the identity for no layer.

    Dropout acts after attention and inside the feed-forward part, not on the attention weights: with it
    there, torch has no fused attention on a CPU and a step takes twice as long.
    """
    if not layers:
        return nn.Identity()
    layer = nn.TransformerEncoderLayer(
        width, heads, feed_forward, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    layer.self_attn.dropout = 0.0
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)


def decoder(layers: int, width: int, heads: int, feed_forward: int, dropout: float) -> nn.Module:
    """A stack of pre-norm decoder layers, queries (N, Q, D) over memory (N, T, D), with a norm at its end."""
    layer = nn.TransformerDecoderLayer(
        width, heads, feed_forward, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    layer.self_attn.dropout = layer.multihead_attn.dropout = 0.0  # as in `transformer`
    return nn.TransformerDecoder(layer, layers, nn.LayerNorm(width))


def first_output(encoder: nn.Module, tokens: Tensor, hidden: Tensor) -> Tensor:
    """(N, D) output of the stack for the first of (N, T, D) tokens; hidden: (N, T), True where not to look.

    The same as `encoder(tokens, src_key_padding_mask=hidden)[:, 0]`, but the last layer works on that one
    token alone: nobody reads its other outputs.
    """
    *before, last = encoder.layers  # type: ignore[misc]
    for layer in before:
        tokens = layer(tokens, src_key_padding_mask=hidden)
    normed, one = last.norm1(tokens), tokens[:, :1]
    seen, _ = last.self_attn(normed[:, :1], normed, normed, key_padding_mask=hidden, need_weights=False)
    one = one + last.dropout1(seen)
    inner = last.dropout(last.activation(last.linear1(last.norm2(one))))
    return encoder.norm(one + last.dropout2(last.linear2(inner)))[:, 0]  # type: ignore[operator]


def attended(encoder: nn.Module, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """(N, T, D) outputs of the stack and (N, T, T) attention of its last layer, the mean over heads.

    The outputs are those of `encoder(tokens, src_key_padding_mask=hidden)`; row t of the attention says how
    token t looks at all others, and sums to 1.
    """
    *before, last = encoder.layers  # type: ignore[misc]
    for layer in before:
        tokens = layer(tokens, src_key_padding_mask=hidden)
    normed = last.norm1(tokens)
    seen, weights = last.self_attn(normed, normed, normed, key_padding_mask=hidden)
    tokens = tokens + last.dropout1(seen)
    inner = last.dropout(last.activation(last.linear1(last.norm2(tokens))))
    return encoder.norm(tokens + last.dropout2(last.linear2(inner))), weights  # type: ignore[operator]


def rows(tensor: Tensor, index: Tensor) -> Tensor:
    """tensor[index], with the same gradient each time: on a CPU several threads add that of indexing in any
    order, and on a GPU that of index_select."""
    return tensor.index_select(0, index) if tensor.device.type == "cpu" else tensor[index]


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths with ReLU between."""
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts[:-1])
