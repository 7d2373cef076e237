"""Layers of DETR, TransVG and MDETR as published: norms after attention, positions added in every layer.

Facts are those of the public code of facebookresearch/detr, djiajunustc/TransVG and ashkamath/mdetr: ReLU,
Xavier weights, dropout of attention weights, and no norm after the last encoder layer.

Letters: N rows, T tokens, Q queries, L layers, h x w patches, D width.
"""

import math

import torch
from torch import Tensor, nn

from medground.models import dropout as drops
from medground.models import products

RESIZER_DROPOUT, RESIZER_EPS = 0.1, 1e-12  # of MDETR


def positions(visible: Tensor, dim: int) -> Tensor:
    """Return (N, h * w, dim) sine codes of the places of patches: half for y, half for x.

    visible: (N, h, w), False on padding. As DETR's: places count visible patches, from 1 to the last one of
    the row or column, and are scaled to 2 pi. Sine and cosine alternate.
    """
    each = dim // 2
    rates = 10_000 ** (2 * (torch.arange(each, device=visible.device) // 2) / each)
    codes = []
    for axis in (1, 2):
        counted = visible.float().cumsum(axis)
        last = counted.narrow(axis, counted.shape[axis] - 1, 1)
        angles = (counted / (last + 1e-6) * 2 * math.pi)[..., None] / rates
        codes.append(torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=4).flatten(3))
    return torch.cat(codes, dim=3).flatten(1, 2)


def visible_patches(inside: Tensor, height: int, width: int) -> Tensor:
    """Return (N, h, w), True for patches whose first pixel is on the image; inside: (N, 1, S, S)."""
    return nn.functional.interpolate(inside, size=(height, width))[:, 0] > 0.5


def xavier(module: nn.Module) -> None:
    """Draw all matrices of a module from Xavier's uniform distribution."""
    for each in module.parameters():
        if each.dim() > 1:
            nn.init.xavier_uniform_(each)


class EncoderLayer(nn.TransformerEncoderLayer):
    """One layer of an encoder; parameters have the names of torch's layer."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float):
        super().__init__(width, heads, feed_forward, dropout, batch_first=True)
        self.dropout, self.dropout1, self.dropout2 = (drops.Dropout(dropout) for _ in range(3))

    def forward(  # type: ignore[override]
        self, tokens: Tensor, hidden: Tensor, places: Tensor, first: bool = False, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return (N, T, D) outputs, and (N, T, T) attention if `weights`.

        hidden: (N, T), True for tokens to ignore. places: (N, T, D) or (T, D). first: only for the first
        token.
        """
        keys = tokens + places
        query, own = (keys[:, :1], tokens[:, :1]) if first else (keys, tokens)
        found, attention = self._attended(query, keys, tokens, hidden, weights)
        own = self.norm1(own + self.dropout1(found))
        return self.norm2(own + self.dropout2(self._fed_forward(own))), attention

    def _attended(
        self, query: Tensor, keys: Tensor, tokens: Tensor, hidden: Tensor, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        attention = self.self_attn
        if weights or not (self.training and drops.applies(query, attention.dropout)):
            found: tuple[Tensor, Tensor | None] = attention(
                query, keys, tokens, key_padding_mask=hidden, need_weights=weights
            )
            return found
        matrices, shifts = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        query, keys, values = map(products.project, (query, keys, tokens), matrices, shifts)
        mixed = drops.attention(query, keys, values, hidden, attention.num_heads, attention.dropout)
        return products.project(mixed, attention.out_proj.weight, attention.out_proj.bias), None

    def _fed_forward(self, own: Tensor) -> Tensor:
        if self.training and drops.applies(own, self.dropout.p):
            return drops.feed_forward(own, self.linear1, self.linear2, self.dropout.p)
        found: Tensor = self.linear2(self.dropout(self.linear1(own).relu()))
        return found


class Encoder(nn.Module):
    """A stack of encoder layers; the identity for 0 layers."""

    def __init__(self, layers: int, width: int, heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feed_forward, dropout) for _ in range(layers))
        xavier(self)

    def forward(self, tokens: Tensor, hidden: Tensor, places: Tensor) -> Tensor:
        """Return (N, T, D) outputs; the arguments are those of `EncoderLayer.forward`."""
        for layer in self.layers:
            tokens, _ = layer(tokens, hidden, places)
        return tokens

    def first(self, tokens: Tensor, hidden: Tensor, places: Tensor) -> Tensor:
        """Return (N, D) the output for the first token; the last layer computes only that one."""
        return self._until_last(tokens, hidden, places, first=True)[0][:, 0]

    def attended(self, tokens: Tensor, hidden: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, T, D) outputs and (N, T, T) attention of the last layer, averaged over heads."""
        outputs, attention = self._until_last(tokens, hidden, places, weights=True)
        assert attention is not None
        return outputs, attention

    def _until_last(
        self, tokens: Tensor, hidden: Tensor, places: Tensor, **last: bool
    ) -> tuple[Tensor, Tensor | None]:
        for layer in self.layers[:-1]:
            tokens, _ = layer(tokens, hidden, places)
        found: tuple[Tensor, Tensor | None] = self.layers[-1](tokens, hidden, places, **last)
        return found


class DecoderLayer(nn.TransformerDecoderLayer):
    """One layer of a decoder; parameters have the names of torch's layer."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float):
        super().__init__(width, heads, feed_forward, dropout, batch_first=True)

    def forward(  # type: ignore[override]
        self, queries: Tensor, starts: Tensor, memory: Tensor, keys: Tensor, hidden: Tensor
    ) -> Tensor:
        """Return (N, Q, D) outputs.

        starts: (Q, D), added to the queries in both attentions. memory, keys: (N, T, D), without and with
        positions. hidden: (N, T), True for tokens to ignore.
        """
        query = queries + starts
        found, _ = self.self_attn(query, query, queries, need_weights=False)
        queries = self.norm1(queries + self.dropout1(found))
        query = queries + starts
        found, _ = self.multihead_attn(query, keys, memory, key_padding_mask=hidden, need_weights=False)
        queries = self.norm2(queries + self.dropout2(found))
        inner = self.linear2(self.dropout(self.linear1(queries).relu()))
        result: Tensor = self.norm3(queries + self.dropout3(inner))
        return result


class Decoder(nn.Module):
    """A stack of decoder layers; one norm follows each of them."""

    def __init__(self, layers: int, width: int, heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, feed_forward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        xavier(self)

    def forward(self, starts: Tensor, memory: Tensor, hidden: Tensor, places: Tensor) -> Tensor:
        """Return (N, L, Q, D) normalized outputs of all layers; queries begin as zeros."""
        queries = starts.new_zeros(memory.shape[0], *starts.shape)
        keys, found = memory + places, []
        for layer in self.layers:
            queries = layer(queries, starts, memory, keys, hidden)
            found.append(self.norm(queries))
        return torch.stack(found, dim=1)


class Resizer(nn.Module):
    """MDETR's map of text features to the width: linear, norm, dropout."""

    def __init__(self, before: int, width: int):
        super().__init__()
        self.fc = nn.Linear(before, width)
        self.layer_norm = nn.LayerNorm(width, eps=RESIZER_EPS)
        self.dropout = nn.Dropout(RESIZER_DROPOUT)

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., D) of (..., before)."""
        result: Tensor = self.dropout(self.layer_norm(self.fc(features)))
        return result
