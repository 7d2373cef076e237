"""TransVG for phrase grounding (Deng et al. 2021; as AGP trains it, Zhang et al. 2025), image encoded once.

The image does not depend on the phrase until fusion. So images and texts are encoded once each, and each
(image, phrase) pair is fused from their tokens: the same mathematics as the published network, which runs
whole for every pair, at a fraction of its cost.

Letters: B images, S side of the square, P patches, U distinct texts, T tokens, N pairs, D width.
Boxes are normalised [cx, cy, w, h] of the square.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medground.models import encoders, layers
from medground.models.config import GrounderConfig


@dataclass(frozen=True)
class Answers:
    """What a network says of N pairs: boxes (N, 4) in [0, 1]; logits (N,) that there is something to show."""

    boxes: Tensor
    present: Tensor


class TransVG(nn.Module):
    """[REG] + text + patches through a joint encoder; the [REG] token's output becomes box and presence.

    Needs at least one fusion layer: without it the [REG] token sees neither text nor image.
    """

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__()
        width = config.width
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.to_patches = nn.Conv2d(image_encoder.channels[-1], width, 1)  # type: ignore[index,arg-type]
        self.to_tokens = nn.Linear(text_encoder.config.hidden_size, width)  # type: ignore[union-attr,arg-type]
        shape = (config.heads, config.feed_forward, config.dropout)
        self.visual = layers.transformer(config.visual_layers, width, *shape)
        self.fusion = layers.transformer(config.fusion_layers, width, *shape)
        self.reg = nn.Parameter(torch.randn(width) * 0.02)
        self.kinds = nn.Parameter(torch.randn(2, width) * 0.02)  # marks text and patches
        self.box = layers.mlp(width, width, width, 4)
        self.present = nn.Linear(width, 1)

    def encode_images(self, images: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, D) patches, and (B, P) True where a patch shows film and not padding.

        images: (B, 1, S, S) in [0, 1]; inside: (B, 1, S, S), 1 on film and 0 on the letterbox's padding.
        """
        grid = self.to_patches(encoders.feature_map(self.image_encoder, images))
        height, width = grid.shape[-2:]
        seen = nn.functional.adaptive_max_pool2d(inside, (height, width)).flatten(1) > 0.5
        places = layers.sine_positions(height, width, grid.shape[1]).to(grid)
        patches = grid.flatten(2).transpose(1, 2) + places
        if not isinstance(self.visual, nn.Identity):
            patches = self.visual(patches, src_key_padding_mask=~seen)
        return patches + self.kinds[1] + places, seen

    def encode_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(U, T, D) tokens of (U, T) ids; mask is True on tokens."""
        hidden = self.text_encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return self.to_tokens(hidden) + self.kinds[0]

    def fuse(self, patches: Tensor, seen: Tensor, tokens: Tensor, mask: Tensor) -> Answers:
        """Answers for N pairs; row i of (N, P, D) patches, (N, P) seen, (N, T, D) tokens and (N, T) mask
        belongs to pair i."""
        count = len(patches)
        reg = self.reg.expand(count, 1, -1)
        hidden = ~torch.cat([mask.new_ones(count, 1), mask, seen], dim=1)
        joint = layers.first_output(self.fusion, torch.cat([reg, tokens, patches], dim=1), hidden)
        return Answers(self.box(joint).sigmoid(), self.present(joint)[:, 0])

    def forward(
        self, images: Tensor, inside: Tensor, ids: Tensor, mask: Tensor, image_of: Tensor, text_of: Tensor
    ) -> Answers:
        """Answers for N pairs of B images and U texts; image_of and text_of are (N,) row numbers."""
        patches, seen = self.encode_images(images, inside)
        tokens = self.encode_texts(ids, mask)
        return self.fuse(patches[image_of], seen[image_of], tokens[text_of], mask[text_of])
