"""MDETR for phrase grounding (Kamath et al. 2021): none, one or many scored boxes a phrase.

Text and patches go through a joint encoder; queries then look at its output, each for one box of its own,
and one more query says whether there is anything to show. AGP trains it with a single query (Zhang et al.
2025); several are MedGrounder's kind of answer (arXiv 2512.01085). Ours: the presence query, which the
existence of a finding teaches, and boxes that start at anchors spread over the film, so that few queries
learn quickly to divide it among them.

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
    """A joint encoder, then a decoder with `config.queries` queries for boxes and one for presence."""

    own_sizes: Mapping[str, Any] = {"visual_layers": 0}  # patches meet the text at once, in the joint encoder

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        width, self.most_boxes = config.width, config.queries
        shape = (config.heads, config.feed_forward, config.dropout)
        self.queries = nn.Parameter(torch.randn(config.queries + 1, width) * 0.02)
        self.decoder = layers.decoder(config.decoder_layers, width, *shape)
        self.box = layers.mlp(width, width, width, 4)
        self.score, self.present = nn.Linear(width, 1), nn.Linear(width, 1)
        self.anchors = nn.Parameter(anchors(config.queries))
        nn.init.constant_(self.score.bias, LIKELY)

    def fuse(self, patches: Tensor, seen: Tensor, tokens: Tensor, mask: Tensor) -> Answers:
        """As `Network.fuse`."""
        hidden = ~torch.cat([mask, seen], dim=1)
        memory = self.fusion(torch.cat([tokens, patches], dim=1), src_key_padding_mask=hidden)
        asked = self.queries.expand(patches.shape[0], -1, -1)
        found = self.decoder(asked, memory, memory_key_padding_mask=hidden)
        each, whole = found[:, :-1], found[:, -1]
        boxes = (self.box(each) + self.anchors).sigmoid()
        present = self.present(whole)
        return Answers(boxes, self.score(each)[..., 0] if self.most_boxes > 1 else present, present[:, 0])


def anchors(count: int) -> Tensor:
    """(count, 4) logits of the boxes that the queries start from: middles spread over the film, one alone
    in its centre."""
    turn = (torch.arange(count) * 0.618034 + 0.5) % 1  # the golden ratio spreads any number evenly
    middles = torch.stack([0.15 + 0.7 * turn, 0.15 + 0.7 * (torch.arange(count) + 0.5) / count], dim=1)
    return torch.logit(torch.cat([middles, torch.full((count, 2), 0.3)], dim=1))
