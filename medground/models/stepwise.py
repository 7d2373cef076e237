"""A stack of decoder layers, one token at a time: keys and values of earlier tokens are kept.

The outputs are those of `layers.decoder` with causal attention over whole texts, up to rounding. A text of L
tokens then needs L times the work of one token.

Letters: R rows, N sources, P memory tokens, D width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

Pair = tuple[Tensor, Tensor]  # keys and values, (rows, H, tokens, D / H)


class Stepwise:
    """The state of a search: for each layer, keys and values of the memory and of the rows so far.

    memory: (N, P, D) of the sources. hidden: (N, P), True for tokens to ignore.
    """

    def __init__(self, decoder: nn.Module, memory: Tensor, hidden: Tensor):
        self._decoder, self._visible = decoder, ~hidden[:, None, None]
        self._memory = [_keys(layer.multihead_attn, memory) for layer in _layers(decoder)]
        self._rows: list[Pair] = []

    def extend(self, tokens: Tensor, parents: Tensor, sources: Tensor) -> Tensor:
        """Return the (R, D) outputs for (R, D) tokens, each after a row of the call before.

        parents: (R,) those rows; not used in the first call. sources: (R,) the source of each row.
        """
        outputs, rows = tokens[:, None], []
        for number, layer in enumerate(_layers(self._decoder)):
            inner = layer.norm1(outputs)
            new = _keys(layer.self_attn, inner)
            if self._rows:
                old = self._rows[number]
                new = (torch.cat([old[0][parents], new[0]], 2), torch.cat([old[1][parents], new[1]], 2))
            rows.append(new)
            outputs = outputs + _attend(layer.self_attn, inner, new)
            seen = (self._memory[number][0][sources], self._memory[number][1][sources])
            inner = layer.norm2(outputs)
            outputs = outputs + _attend(layer.multihead_attn, inner, seen, self._visible[sources])
            outputs = outputs + layer.linear2(layer.activation(layer.linear1(layer.norm3(outputs))))
        self._rows = rows
        result: Tensor = self._decoder.norm(outputs)[:, 0]  # type: ignore[operator]
        return result


def _layers(decoder: nn.Module) -> list[nn.TransformerDecoderLayer]:
    return list(decoder.layers)  # type: ignore[arg-type]


def _keys(attention: nn.MultiheadAttention, tokens: Tensor) -> Pair:
    """Return the keys and values of (R, T, D) tokens."""
    width = attention.embed_dim
    both = functional.linear(tokens, attention.in_proj_weight[width:], attention.in_proj_bias[width:])
    key, value = both.unflatten(2, (2, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return key, value


def _attend(
    attention: nn.MultiheadAttention, queries: Tensor, keys: Pair, mask: Tensor | None = None
) -> Tensor:
    """Return (R, 1, D) what (R, 1, D) queries attend to; mask: (R, 1, 1, T), True to attend."""
    width = attention.embed_dim
    query = functional.linear(queries, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
    query = query.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
    found = functional.scaled_dot_product_attention(query, *keys, attn_mask=mask)
    result: Tensor = attention.out_proj(found.transpose(1, 2).flatten(2))
    return result
