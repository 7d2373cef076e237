"""One learned query per phrase: its text attends to the patches of a pre-trained encoder.

The cost per phrase is small: patches are projected once per image, and only one token is fused. Every patch
also gets a logit that it lies in a box of the phrase, so an image with a finding trains each of its patches.

Letters as in `models.network`; Q is 1. M is the number of phrases for each image.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medground.models import layers
from medground.models.config import GrounderConfig
from medground.models.network import EncodedImages, Network, Predictions

NEVER = -1e4  # a logit of what is ignored
LEAST, MOST = 0.02, 1.0  # sides of a box, as shares of the square


class Projected(NamedTuple):
    """Tensors of the image only: (B, P, D) keys and values of each layer, keys of boxes, (B, P, 2) places."""

    layers: list[tuple[Tensor, Tensor]]
    keys: Tensor
    places: Tensor


class Layer(nn.Module):
    """Attention of queries to the patches with several heads, then a feed-forward network."""

    def __init__(self, config: GrounderConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed_forward = layers.mlp(width, config.feed_forward, width)
        self.dropout = nn.Dropout(config.dropout)

    def project(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of the patches."""
        key, value = self.key_value(patches).chunk(2, dim=-1)
        return key, value

    def forward(self, queries: Tensor, both: tuple[Tensor, Tensor], hidden: Tensor) -> Tensor:
        """Return the (B, M, D) queries with what they found; hidden: (B, P), True for patches to ignore."""
        own, key, value = (self._split(each) for each in (self.query(self.norms[0](queries)), *both))
        scores = own @ key.transpose(2, 3) * own.shape[3] ** -0.5
        share = scores.masked_fill(hidden[:, None, None], NEVER).softmax(dim=3)
        queries = queries + self.dropout(self.out((share @ value).transpose(1, 2).flatten(2)))
        result: Tensor = queries + self.dropout(self.feed_forward(self.norms[1](queries)))
        return result

    def _split(self, tensor: Tensor) -> Tensor:
        """Return (B, heads, M, D / heads) for (B, M, D)."""
        result: Tensor = tensor.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return result


class TextQuery(Network):
    """A text attends to patches; box edges are attention-weighted positions plus an offset.

    The presence logit is a term of the query, plus the highest patch logit of the phrase, plus the area of
    patches in a box. Patches carry their position in two more numbers.
    """

    own_sizes: Mapping[str, Any] = {"visual_layers": 0, "fusion_layers": 2, "dropout": 0.1}

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        width = config.width
        self.fusion = nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.patch_norm, self.query_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.steps = nn.ModuleList(Layer(config) for _ in range(config.fusion_layers))
        self.keys = nn.Linear(width, width)
        self.edges, self.offset = nn.Linear(width, 4 * width), nn.Linear(width, 4)
        self.inside, self.inside_bias = nn.Linear(width, width), nn.Parameter(torch.tensor(-2.0))
        self.present, self.peak = nn.Linear(width, 1), nn.Parameter(torch.tensor([0.5, 0.5]))
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def encode_images(self, images: Tensor, inside: Tensor) -> EncodedImages:
        """Return the encoded images as `Network.encode_images`, with the position of each patch."""
        return self.placed(super().encode_images(images, inside))

    @staticmethod
    def placed(encoded: EncodedImages) -> EncodedImages:
        """Return the images with [x, y] of the center of each patch as two more numbers."""
        height, width = encoded.grid.shape[-2:]
        down, across = (torch.arange(n, device=encoded.grid.device) + 0.5 for n in (height, width))
        places = torch.stack([(across / width).repeat(height), (down / height).repeat_interleave(width)], 1)
        more = places.to(encoded.patches.dtype).expand(encoded.patches.shape[0], -1, -1)
        return encoded._replace(patches=torch.cat([encoded.patches, more], dim=2))

    def fuse(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
        """Return the predictions as `Network.fuse`; the score of the box is the presence."""
        weights = mask.to(tokens.dtype)[:, :, None]
        query = (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        boxes, present, _ = self.predict(self.project(patches), visible, query[:, None])
        return Predictions(boxes, present, present[:, 0])

    def project(self, patches: Tensor) -> Projected:
        """Return what depends only on the image, for (B, P, D + 2) patches."""
        content = self.dropout(self.patch_norm(patches[:, :, :-2]))
        both = [each.project(content) for each in self.steps]  # type: ignore[operator]
        return Projected(both, self.keys(content), patches[:, :, -2:])

    def predict(self, image: Projected, visible: Tensor, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, M, 4) boxes, (B, M) presence and (B, M, P) logits that a patch lies in a box.

        queries: (B, M, D) mean tokens of M phrases for each image. visible: (B, P).
        """
        hidden = ~visible
        for step, both in zip(self.steps, image.layers, strict=True):
            queries = step(queries, both, hidden)
        queries, scale = self.query_norm(queries), image.keys.shape[2] ** -0.5
        keys = image.keys.transpose(1, 2) * scale
        heat = self.inside(queries) @ keys + self.inside_bias
        edges = self.edges(queries).unflatten(2, (4, -1)).flatten(1, 2) @ keys
        share = edges.masked_fill(hidden[:, None], NEVER).softmax(dim=2).unflatten(1, (-1, 4))  # (B, M, 4, P)
        mean = (share * image.places.transpose(1, 2)[:, None, [0, 1, 0, 1]]).sum(dim=3)
        x1, y1, x2, y2 = (mean + self.offset(queries)).unbind(2)
        sides = torch.stack([x2 - x1, y2 - y1], dim=2).clamp(LEAST, MOST)
        middle = torch.stack([x1 + x2, y1 + y2], dim=2).clamp(0, 2) / 2
        return torch.cat([middle, sides], dim=2), self.presence(queries, heat, hidden), heat

    def presence(self, queries: Tensor, heat: Tensor, hidden: Tensor) -> Tensor:
        """Return the (B, M) presence logits, of the queries and of the patches."""
        seen = heat.masked_fill(hidden[:, None], NEVER)
        area = torch.log1p(seen.sigmoid().sum(dim=2))
        own = self.present(queries)[:, :, 0] + self.peak[0] * seen.amax(dim=2)
        result: Tensor = own + self.peak[1] * area
        return result
