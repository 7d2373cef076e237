"""Encoders and projections that every grounding network shares; an architecture adds `fuse` and `joint`.

The image does not depend on the phrase until fusion. So each image and each text is encoded once, and each
(image, phrase) pair is fused from their tokens. The published networks run whole for every pair. The outputs
are the same, the cost is much lower.

Letters: B images, S side of the square, P patches (h x w), U distinct texts, T tokens, N pairs, Q predicted
boxes per pair, D width. Boxes are [cx, cy, w, h] as shares of the square's side.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medground import ops
from medground.models import encoders, layers, published, stages
from medground.models.config import GrounderConfig


@dataclass(frozen=True)
class Predictions:
    """The outputs for N pairs.

    boxes: (N, Q, 4) in [0, 1]. scores: (N, Q) logits that the phrase refers to the box. present: (N,) logits
    that the finding is present. more: tensors of N rows that losses of an architecture use.
    """

    boxes: Tensor
    scores: Tensor
    present: Tensor
    more: tuple[Tensor, ...] = ()

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all tensors; `Predictions.of` makes predictions of them."""
        return (self.boxes, self.scores, self.present, *self.more)

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> "Predictions":
        """Return the predictions with these `tensors`."""
        boxes, scores, present, *more = tensors
        return cls(boxes, scores, present, tuple(more))


class EncodedImages(NamedTuple):
    """The encoded images.

    patches: (B, P, D), ready for fusion. visible: (B, P), False where a patch is only padding. grid:
    (B, D, h, w), the image encoder's feature map before any transformer layer.
    """

    patches: Tensor
    visible: Tensor
    grid: Tensor


class Network(nn.Module):
    """Encoders, their projections to one width, visual layers and a joint encoder.

    own_sizes: an architecture's changes to the named sizes. most_boxes: Q. places: (Q, 2), the reference
    point [x, y] of each query in [0, 1] of the square; architectures with one box have one in the center.
    has_table: with `norm` "post", positions of a fixed number of tokens are learned. joint_parts: names of
    the modules that `joint` adds to the encoded images and texts.
    """

    own_sizes: Mapping[str, Any] = {}
    has_table = False
    most_boxes = 1
    joint_parts: tuple[str, ...] = ()
    places = torch.full((1, 2), 0.5)

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__()
        self.width = width = config.width
        self.equalise, self.grey = config.equalise, config.grey
        self.is_post, self.padding = config.norm == "post", config.padding
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.channels: int = image_encoder.channels[-1]  # type: ignore[index,assignment]
        self.to_patches = nn.Conv2d(self.channels, width, 1)
        self.to_tokens = nn.Linear(text_encoder.config.hidden_size, width)  # type: ignore[union-attr,arg-type]
        shape = (config.heads, config.feed_forward, config.dropout)
        if self.is_post:
            self.visual: nn.Module = published.Encoder(config.visual_layers, width, *shape)
            self.fusion: nn.Module = published.Encoder(config.fusion_layers, width, *shape)
            self.to_joint: nn.Module = nn.Identity()  # an architecture may have a projection here
            return
        self.visual = layers.transformer(config.visual_layers, width, *shape)
        self.fusion = layers.transformer(config.fusion_layers, width, *shape)
        self.kinds = nn.Parameter(torch.randn(2, width) * 0.02)  # marks text and patches

    def encode_images(self, images: Tensor, inside: Tensor) -> EncodedImages:
        """Return the encoded images.

        images: (B, 1, S, S) in [0, 1]. inside: (B, 1, S, S), 1 on the image, 0 on the padding. Or the outputs
        of `maps` or `early_maps` and (B, 1, h, w), 1 on patches of the image.
        """
        if images.shape[1] == self.channels:
            return self.encode_maps(images, inside)
        if images.shape[1] > 1:
            return self.encode_maps(stages.late(self.image_encoder, images), inside)
        return self.encode_maps(self.maps(images, inside), inside)

    def maps(self, images: Tensor, inside: Tensor) -> Tensor:
        """Return the (B, C, h, w) feature maps of the image encoder; arguments as in `encode_images`."""
        return encoders.feature_map(self.image_encoder, *self._equalized(images, inside))

    def early_maps(self, images: Tensor, inside: Tensor) -> Tensor:
        """Return the (B, C, h, w) maps before the encoder's last stage; arguments as in `encode_images`."""
        scaled = encoders.scaled(self.image_encoder, *self._equalized(images, inside))
        return stages.early(self.image_encoder, scaled)

    def _equalized(
        self, images: Tensor, inside: Tensor
    ) -> tuple[Tensor, Sequence[float] | None, Tensor | None]:
        """Return the arguments of `encoders.scaled` after the encoder."""
        if self.equalise:
            images = (ops.equalize(images) + 1) / 2 * inside
        return images, self.grey, inside if self.padding == "mean" else None

    def visible(self, inside: Tensor, height: int, width: int) -> Tensor:
        """Return (B, h, w), True for patches of the image; inside: (B, 1, S, S), or already (B, 1, h, w)."""
        if self.padding == "visible":
            inside = torch.ones_like(inside)
        if self.is_post:
            return published.visible_patches(inside, height, width)
        return nn.functional.adaptive_max_pool2d(inside, (height, width))[:, 0] > 0.5

    def encode_maps(self, maps: Tensor, inside: Tensor) -> EncodedImages:
        """Return the encoded images of (B, C, h, w) feature maps; inside: (B, 1, S, S) or (B, 1, h, w)."""
        grid = self.to_patches(maps)
        visible = self.visible(inside, *grid.shape[-2:])
        if self.is_post:
            return self._encode_published(grid, visible)
        height, width = grid.shape[-2:]
        visible = visible.flatten(1)
        places = layers.sine_positions(height, width, grid.shape[1]).to(grid, non_blocking=True)
        patches = grid.flatten(2).transpose(1, 2) + places
        if not isinstance(self.visual, nn.Identity):
            patches = self.visual(patches, src_key_padding_mask=~visible)
        return EncodedImages(patches + self.kinds[1] + places, visible, grid)

    def _encode_published(self, grid: Tensor, visible: Tensor) -> EncodedImages:
        places, visible = published.positions(visible, grid.shape[1]).to(grid), visible.flatten(1)
        patches = self.visual(grid.flatten(2).transpose(1, 2), ~visible, places)
        return EncodedImages(self.to_joint(patches), visible, grid)

    def encode_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return (U, T, D) tokens for (U, T) ids; mask is True on tokens. They may be followed by others."""
        hidden = self.text_encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        tokens: Tensor = self.to_tokens(hidden)
        return tokens if self.is_post else tokens + self.kinds[0]

    def fuse(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
        """Return the predictions for N pairs.

        patches: (N, P, D). visible: (N, P). tokens: (N, T, D). mask: (N, T). Row i belongs to pair i.
        """
        raise NotImplementedError

    def joint(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (N, E) features of image and text together, for heads such as that of `medground answer`.

        The arguments are those of `fuse`. An architecture returns its fused token. Without one, these are the
        mean of the visible patches and the mean of the tokens side by side.
        """
        return torch.cat([masked_mean(patches, visible), masked_mean(tokens, mask)], dim=1)

    def forward(
        self, images: Tensor, inside: Tensor, ids: Tensor, mask: Tensor, image_of: Tensor, text_of: Tensor
    ) -> Predictions:
        """Return the predictions for N pairs of B images and U texts; image_of, text_of: (N,) row numbers."""
        encoded = self.encode_images(images, inside)
        tokens = self.encode_texts(ids, mask)
        return self.fuse(encoded.patches[image_of], encoded.visible[image_of], tokens[text_of], mask[text_of])


def masked_mean(rows: Tensor, kept: Tensor) -> Tensor:
    """Return (N, D) the means of the rows of (N, T, D) where (N, T) is True; 0 for a row of False."""
    weights = kept.to(rows.dtype)[:, :, None]
    return (rows * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def best_boxes(predictions: Predictions) -> Tensor:
    """Return (N, 4) the box with the highest score of each pair."""
    best = predictions.scores.argmax(dim=1)
    return predictions.boxes[torch.arange(len(best), device=best.device), best]
