"""What every grounding network shares: encoders and projections; an architecture adds `fuse`.

The image does not depend on the phrase until fusion. So images and texts are encoded once each, and each
(image, phrase) pair is fused from their tokens: the same mathematics as the published networks, which run
whole for every pair, at a fraction of their cost.

Letters: B images, S side of the square, P patches (h x w), U distinct texts, T tokens, N pairs, Q boxes that
an architecture answers with, D width. Boxes are normalised [cx, cy, w, h] of the square.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medground import ops
from medground.models import encoders, layers
from medground.models.config import GrounderConfig


@dataclass(frozen=True)
class Answers:
    """What a network says of N pairs: boxes (N, Q, 4) in [0, 1]; scores (N, Q), logits that each box is
    meant; present (N,), logits that there is something to show at all."""

    boxes: Tensor
    scores: Tensor
    present: Tensor


class Images(NamedTuple):
    """Encoded images: patches (B, P, D), ready to be fused; seen (B, P), True where a patch shows film and
    not padding; grid (B, D, h, w), the image encoder's own map before any transformer layer."""

    patches: Tensor
    seen: Tensor
    grid: Tensor


class Network(nn.Module):
    """Encoders, their projections to one width, visual layers and a joint encoder.

    `own_sizes` is what an architecture has otherwise than the named sizes say; `most_boxes` is Q. `places`
    (Q, 2), [x, y] in [0, 1] of the square, is where an architecture with several boxes looks for each.
    """

    own_sizes: Mapping[str, Any] = {}
    most_boxes = 1
    places = torch.full((1, 2), 0.5)

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__()
        width, self.equalise, self.grey = config.width, config.equalise, config.grey
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.to_patches = nn.Conv2d(image_encoder.channels[-1], width, 1)  # type: ignore[index,arg-type]
        self.to_tokens = nn.Linear(text_encoder.config.hidden_size, width)  # type: ignore[union-attr,arg-type]
        shape = (config.heads, config.feed_forward, config.dropout)
        self.visual = layers.transformer(config.visual_layers, width, *shape)
        self.fusion = layers.transformer(config.fusion_layers, width, *shape)
        self.kinds = nn.Parameter(torch.randn(2, width) * 0.02)  # marks text and patches

    def encode_images(self, images: Tensor, inside: Tensor) -> Images:
        """The encoded images.

        images: (B, 1, S, S) in [0, 1]; inside: (B, 1, S, S), 1 on film and 0 on the letterbox's padding.
        """
        if self.equalise:
            images = (ops.equalize(images) + 1) / 2 * inside
        grid = self.to_patches(encoders.feature_map(self.image_encoder, images, self.grey))
        height, width = grid.shape[-2:]
        seen = nn.functional.adaptive_max_pool2d(inside, (height, width)).flatten(1) > 0.5
        places = layers.sine_positions(height, width, grid.shape[1]).to(grid)
        patches = grid.flatten(2).transpose(1, 2) + places
        if not isinstance(self.visual, nn.Identity):
            patches = self.visual(patches, src_key_padding_mask=~seen)
        return Images(patches + self.kinds[1] + places, seen, grid)

    def encode_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(U, T, D) tokens of (U, T) ids; mask is True on tokens."""
        hidden = self.text_encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return self.to_tokens(hidden) + self.kinds[0]

    def fuse(self, patches: Tensor, seen: Tensor, tokens: Tensor, mask: Tensor) -> Answers:
        """Answers for N pairs; row i of (N, P, D) patches, (N, P) seen, (N, T, D) tokens and (N, T) mask
        belongs to pair i."""
        raise NotImplementedError

    def forward(
        self, images: Tensor, inside: Tensor, ids: Tensor, mask: Tensor, image_of: Tensor, text_of: Tensor
    ) -> Answers:
        """Answers for N pairs of B images and U texts; image_of and text_of are (N,) row numbers."""
        shown = self.encode_images(images, inside)
        tokens = self.encode_texts(ids, mask)
        return self.fuse(shown.patches[image_of], shown.seen[image_of], tokens[text_of], mask[text_of])


def best_boxes(answers: Answers) -> Tensor:
    """(N, 4) the likeliest box of each pair."""
    best = answers.scores.argmax(dim=1)
    return answers.boxes[torch.arange(len(best), device=best.device), best]
