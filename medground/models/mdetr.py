"""MDETR for phrase grounding (Kamath et al. 2021): no box, one or several scored boxes per phrase.

Text and patches pass through a joint encoder. Queries of a decoder attend to its output; each predicts one
box. AGP trains it with a single query (Zhang et al. 2025), MedGrounder predicts several boxes (arXiv
2512.01085).

Differences from the published network, so that it needs no more images than TransVG:
- A global token passes through the joint encoder, as TransVG's [REG] does. Its output predicts the presence
  of the finding, and every query starts from it.
- Each query has a fixed reference point; the points are spread evenly over the image. A query gets the
  position code of its point (Conditional DETR, Meng et al. 2021, and DAB-DETR, Liu et al. 2022, learn such
  points). Its box is trained towards the nearest true box, matched or not (`objectives.agp`).

Letters as in `models.network`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medground.models import layers
from medground.models.config import GrounderConfig
from medground.models.network import Network, Predictions

LIKELY = -2.0  # initial logit of a query's score: most queries of most phrases have no box


class MDETR(Network):
    """A joint encoder, then a decoder with `config.queries` queries at fixed reference points `places`."""

    own_sizes: Mapping[str, Any] = {"visual_layers": 0}  # patches go directly into the joint encoder

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        width, self.most_boxes = config.width, config.queries
        shape = (config.heads, config.feed_forward, config.dropout)
        self.whole = nn.Parameter(torch.randn(width) * 0.02)
        self.queries = nn.Parameter(torch.randn(config.queries, width) * 0.02)
        self.decoder = layers.decoder(config.decoder_layers, width, *shape)
        self.box = layers.mlp(width, width, width, 4)
        self.score, self.present = nn.Linear(width, 1), nn.Linear(width, 1)
        nn.init.constant_(self.score.bias, LIKELY)
        self.places = spread(config.queries)

    def fuse(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
        """Return the predictions as `Network.fuse`."""
        count, _, width = patches.shape
        hidden = ~torch.cat([mask.new_ones(count, 1), mask, visible], dim=1)
        together = torch.cat([self.whole.expand(count, 1, -1), tokens, patches], dim=1)
        memory = self.fusion(together, src_key_padding_mask=hidden)
        whole, places = memory[:, :1], layers.sine_code(self.places, width).to(patches)
        found = self.decoder(whole + self.queries + places, memory, memory_key_padding_mask=hidden)
        present = self.present(whole[:, 0])
        scores = self.score(found)[..., 0] if self.most_boxes > 1 else present
        return Predictions(self.box(found).sigmoid(), scores, present[:, 0])


def spread(count: int) -> Tensor:
    """Return (count, 2) points [x, y] in [0, 1], evenly spread over the image; a single one is the center."""
    x = (torch.arange(count) * 0.618034 + 0.5) % 1  # the golden ratio spreads any number evenly
    return 0.15 + 0.7 * torch.stack([x, (torch.arange(count) + 0.5) / count], dim=1)
