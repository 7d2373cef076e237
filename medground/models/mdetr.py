"""MDETR for phrase grounding (Kamath et al. 2021): none, one or many scored boxes a phrase.

Text and patches go through a joint encoder; in a decoder, queries then look at its output, each for one box
of its own. AGP trains it with a single query (Zhang et al. 2025); several are MedGrounder's kind of answer
(arXiv 2512.01085).

Ours, so that few films teach it as fast as TransVG:
- A token for the whole goes through the joint encoder too, as TransVG's [REG] does. What comes of it says
  whether there is anything to show, which the existence of a finding teaches, and every query starts from it.
- Each query looks from a place of its own. The places are spread evenly over the film and stay; a query knows
  its own by the position code of the patches (Conditional DETR, Meng et al. 2021, and DAB-DETR, Liu et al.
  2022, learn such places), and its box is pulled to the true box nearest to it, matched or not
  (`objectives.agp`).

Letters as in `models.network`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medground.models import layers
from medground.models.config import GrounderConfig
from medground.models.network import Answers, Network

LIKELY = -2.0  # logit of a query's score before training: most queries of most phrases have nothing to say


class MDETR(Network):
    """A joint encoder, then a decoder whose `config.queries` queries look from their `places`."""

    own_sizes: Mapping[str, Any] = {"visual_layers": 0}  # patches meet the text at once, in the joint encoder

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

    def fuse(self, patches: Tensor, seen: Tensor, tokens: Tensor, mask: Tensor) -> Answers:
        """As `Network.fuse`."""
        count, _, width = patches.shape
        hidden = ~torch.cat([mask.new_ones(count, 1), mask, seen], dim=1)
        together = torch.cat([self.whole.expand(count, 1, -1), tokens, patches], dim=1)
        memory = self.fusion(together, src_key_padding_mask=hidden)
        whole, places = memory[:, :1], layers.sine_code(self.places, width).to(patches)
        found = self.decoder(whole + self.queries + places, memory, memory_key_padding_mask=hidden)
        present = self.present(whole[:, 0])
        scores = self.score(found)[..., 0] if self.most_boxes > 1 else present
        return Answers(self.box(found).sigmoid(), scores, present[:, 0])


def spread(count: int) -> Tensor:
    """(count, 2) places [x, y] in [0, 1] spread over the film, one alone in its centre."""
    turn = (torch.arange(count) * 0.618034 + 0.5) % 1  # the golden ratio spreads any number evenly
    return 0.15 + 0.7 * torch.stack([turn, (torch.arange(count) + 0.5) / count], dim=1)
