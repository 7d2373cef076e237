"""One learned query per phrase: its text attends to the patches of a pre-trained encoder.

The cost per phrase is small: patches are projected once per image, and only one token is fused. Every patch
also gets a logit that it lies in a box of the phrase, so an image with a finding trains each of its patches.

With `findings` in the config, the presence of a phrase that names one of them is mostly a linear function of
the whole image: of the mean of its feature map. A classifier of the text says which one it names.
With `score_offsets`, too, the score is higher for findings that are easy to localize.
With the image encoder `lite.Pair`, findings depend on the maps of Lite2, everything else on those of Lite0.
With `placed`, the box of a text that names a finding is mixed with the place in the lungs where boxes of that
text typically lie. The lungs of an image are its boxes of the two texts "right lung" and "left lung".
With `members`, several networks that were trained apart share the encoders. Boxes and logits are their means.
With `familiar`, an image has a distance from the images of the calibration: the length of its mean features
outside the axes in which those vary most. It is 1 at a limit that few of them exceed.

Letters as in `models.network`; Q is 1. M is the number of phrases for each image, K of findings. T is the
number of tokens. With members, tokens and patches have their vectors of width D side by side.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medground import ops
from medground.models import layers
from medground.models.config import GrounderConfig
from medground.models.network import EncodedImages, Network, Predictions, masked_mean

NEVER = -1e4  # a logit of what is ignored
LEAST, MOST = 0.02, 1.0  # sides of a box, as shares of the square
PLACES = 2  # numbers of a patch for its position
LUNGS = 2  # queries of the right and the left lung


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
    patches in a box. With findings, it is mixed with the logit of the finding that the text names. Patches
    carry more numbers: their position, the K logits of the findings on the image, the box around both lungs,
    and the image's distance.
    """

    own_sizes: Mapping[str, Any] = {"visual_layers": 0, "fusion_layers": 2, "dropout": 0.1}
    joint_parts = ("steps", "patch_norm", "query_norm", "findings", "members")

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        width = config.width
        self.seen: int = getattr(image_encoder, "first", self.channels)  # all channels, or those of Lite0
        if self.seen < self.channels:
            self.to_patches = nn.Conv2d(self.seen, width, 1)
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
        self.count = len(config.findings or ())
        if self.count:
            self.findings = nn.Linear(self.channels - self.seen or self.channels, self.count)
            self.names = nn.Linear(width, self.count + 1)  # the finding that a text names; last: another
            self.share = nn.Parameter(torch.tensor(0.0))  # of the text query in the presence of a finding
            offsets = torch.tensor(config.score_offsets or [0.0] * self.count)
            self.register_buffer("score_offsets", offsets, persistent=False)  # the config has them
        one = replace(config, findings=None, placed=False, familiar=0, members=1)
        self.members = nn.ModuleList(
            Member(one, image_encoder, text_encoder) for _ in range(config.members - 1)
        )
        self.placed, self.familiar = config.placed and bool(self.count), bool(config.familiar)
        if self.placed:
            self.lungs = nn.Parameter(torch.zeros(LUNGS, config.members * width), requires_grad=False)
            self.place = layers.mlp(width, width, 4)
            self.place_share = nn.Parameter(torch.tensor(0.0), requires_grad=False)
        # Numbers of a patch that are the same on its image.
        self.facts = self.count + 4 * self.placed + self.familiar
        if self.familiar:
            self.typical = nn.Parameter(torch.zeros(self.seen), requires_grad=False)
            self.axes = nn.Parameter(torch.zeros(self.seen, config.familiar), requires_grad=False)
            self.limit = nn.Parameter(torch.tensor(1.0), requires_grad=False)

    def encode_maps(self, maps: Tensor, inside: Tensor) -> EncodedImages:
        """Return the encoded images, with the position of each patch and the findings of its image."""
        own = maps[:, : self.seen]
        encoded = super().encode_maps(own, inside)
        height, width = encoded.grid.shape[-2:]
        down, across = (torch.arange(n, device=maps.device) + 0.5 for n in (height, width))
        places = torch.stack([(across / width).repeat(height), (down / height).repeat_interleave(width)], 1)
        others = (Network.encode_maps(each, own, inside) for each in self.members)  # type: ignore[arg-type]
        parts = [encoded.patches, *(each.patches for each in others)]
        patches = torch.cat([*parts, places.to(encoded.patches).expand(len(maps), -1, -1)], dim=2)
        means, facts = mean_of(maps, encoded.visible) if self.facts else maps, []
        if self.count:
            facts.append(self.findings(means[:, -self.findings.in_features :]))
        if self.placed:
            facts.append(self.frame(patches, encoded.visible))
        if self.familiar:
            facts.append(self.distance(means[:, : self.seen])[:, None])
        spread = (each[:, None].expand(-1, height * width, -1) for each in facts)
        return encoded._replace(patches=torch.cat([patches, *spread], dim=2))

    def encode_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return (U, T, D) tokens as `Network.encode_texts`, (U, T, D members) with members."""
        hidden = self.text_encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return torch.cat([each.to_tokens(hidden) + each.kinds[0] for each in (self, *self.members)], dim=2)

    def distance(self, features: Tensor) -> Tensor:
        """Return the (B,) distances of (B, C) mean features from the images of the calibration."""
        apart = features - self.typical
        rest = (apart**2).sum(dim=1) - ((apart @ self.axes) ** 2).sum(dim=1)
        result: Tensor = rest.clamp(min=0).sqrt() / self.limit
        return result

    def frame(self, patches: Tensor, visible: Tensor) -> Tensor:
        """Return (B, 4) corners of the box around both lungs, as `placed_boxes` takes them.

        patches: (B, P, D members + 2), of all members and their position.
        """
        queries = self.lungs.expand(len(patches), -1, -1)
        found = [
            member.predict(member.project(own), visible, query)[0]
            for member, own, query in self.apart(patches, queries)
        ]
        corners = ops.cxcywh_to_xyxy(torch.stack(found).mean(dim=0))
        return torch.cat([corners[:, :, :2].amin(dim=1), corners[:, :, 2:].amax(dim=1)], dim=1)

    def fuse(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
        """Return the predictions as `Network.fuse`.

        The logit of the score is that of the presence, plus the offset of the finding that the text names.
        """
        queries = masked_mean(tokens, mask)[:, None]
        found = [
            member.predict(member.project(own), visible, query)[:2]
            for member, own, query in self.apart(patches, queries)
        ]
        boxes, present = (torch.stack(each).mean(dim=0) for each in zip(*found, strict=True))
        if not self.count:
            return Predictions(boxes, present, present[:, 0])
        text = queries[:, 0, : self.width]
        named = self.names(text).softmax(dim=1)
        if self.placed:
            there = placed_boxes(self.place(text), self.frame_of(patches))
            share = self.place_share * (1 - named[:, -1:])
            boxes = boxes + (share * (there - boxes[:, 0]))[:, None]
        present = self.mixed(present, named, patches)
        score = present + (named[:, :-1] @ self.score_offsets)[:, None]
        return Predictions(boxes, score, present[:, 0])

    def joint(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (N, D members + K): the queries after attention to the patches, the logits of the findings.

        The arguments are those of `fuse`.
        """
        queries = masked_mean(tokens, mask)[:, None]
        found = [
            member.attended(member.project(own), visible, query)[:, 0]
            for member, own, query in self.apart(patches, queries)
        ]
        return torch.cat([*found, self.found(patches)], dim=1)

    def apart(self, patches: Tensor, queries: Tensor) -> Iterator[tuple["TextQuery", Tensor, Tensor]]:
        """Yield each member with its own patches, (N, P, D + 2), and its own (N, M, D) queries."""
        width, count = self.width, 1 + len(self.members)
        places = patches[:, :, count * width :][:, :, :PLACES]
        parts = zip((self, *self.members), queries.split(width, dim=2), strict=True)
        for number, (member, query) in enumerate(parts):
            own = patches[:, :, number * width :][:, :, :width]
            yield member, torch.cat([own, places], dim=2), query

    def found(self, patches: Tensor) -> Tensor:
        """Return the (N, K) logits of the findings on the images of these patches."""
        return patches[:, 0, patches.shape[2] - self.facts :][:, : self.count]

    def frame_of(self, patches: Tensor) -> Tensor:
        """Return the (N, 4) corners of the box around both lungs on the images of these patches."""
        return patches[:, 0, patches.shape[2] - self.facts :][:, self.count : self.count + 4]

    def attended(self, image: Projected, visible: Tensor, queries: Tensor) -> Tensor:
        """Return the (B, M, D) queries after attention to the patches; arguments as in `predict`."""
        for step, both in zip(self.steps, image.layers, strict=True):
            queries = step(queries, both, ~visible)
        result: Tensor = self.query_norm(queries)
        return result

    def mixed(self, present: Tensor, named: Tensor, patches: Tensor) -> Tensor:
        """Return (N, 1) presence logits: of the findings that the texts name, and of the query.

        named: (N, K + 1) the probability that a text names each finding; last: another.
        """
        of_image = (named[:, :-1] * self.found(patches)).sum(dim=1, keepdim=True)
        result: Tensor = of_image + present * (named[:, -1:] + self.share * (1 - named[:, -1:]))
        return result

    def project(self, patches: Tensor) -> Projected:
        """Return what depends only on the image, for (B, P, D + 2) patches of one member."""
        content, places = patches[:, :, : self.width], patches[:, :, self.width : self.width + PLACES]
        content = self.dropout(self.patch_norm(content))
        both = [each.project(content) for each in self.steps]  # type: ignore[operator]
        return Projected(both, self.keys(content), places)

    def predict(self, image: Projected, visible: Tensor, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, M, 4) boxes, (B, M) presence and (B, M, P) logits that a patch lies in a box.

        queries: (B, M, D) mean tokens of M phrases for each image. visible: (B, P).
        """
        hidden = ~visible
        queries, scale = self.attended(image, visible, queries), image.keys.shape[2] ** -0.5
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


class Member(TextQuery):
    """A further network of a `TextQuery`, which has the encoders."""

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        del self.image_encoder, self.text_encoder


def placed_boxes(places: Tensor, frames: Tensor) -> Tensor:
    """Return (N, 4) boxes, [cx, cy, w, h], at these places in their frames.

    places: (N, 4) [cx, cy, w, h] in shares of the frame, from its upper left corner. frames: (N, 4) corners.
    """
    corner, size = frames[:, :2], frames[:, 2:] - frames[:, :2]
    middle, sides = places.split(2, dim=1)
    result: Tensor = torch.cat([corner + middle * size, (sides * size).clamp(LEAST, MOST)], dim=1)
    return result


def mean_of(maps: Tensor, visible: Tensor) -> Tensor:
    """Return (B, C): the means of (B, C, h, w) maps over the visible patches, (B, h w)."""
    return masked_mean(maps.flatten(2).transpose(1, 2), visible)
