"""MDETR for phrase grounding (Kamath et al. 2021): no box, one or several scored boxes per phrase.

Text and patches pass through a joint encoder. Queries of a decoder attend to its output; each predicts one
box. AGP trains it with a single query (Zhang et al. 2025), MedGrounder predicts several boxes (arXiv
2512.01085).

With `norm` "post" it is the published network. With "pre" it has differences, so that it
needs no more images than TransVG:
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

from medground.models import layers, published
from medground.models.config import GrounderConfig
from medground.models.network import Network, Predictions

TOKEN_CLASSES = 255  # positions in the text that a query may predict; one more class is "no object"
ALIGN_WIDTH = 64  # of the features that the contrastive alignment compares
LIKELY = -2.0  # initial logit of a query's score: most queries of most phrases have no box


class MDETR(Network):
    """A joint encoder, then a decoder with `config.queries` queries at fixed reference points `places`."""

    own_sizes: Mapping[str, Any] = {"visual_layers": 0}  # patches go directly into the joint encoder
    joint_parts = ("fusion", "whole")

    def __init__(self, config: GrounderConfig, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__(config, image_encoder, text_encoder)
        width, self.most_boxes = config.width, config.queries
        if self.is_post:
            self._build_published(config)
            return
        shape = (config.heads, config.feed_forward, config.dropout)
        self.whole = nn.Parameter(torch.randn(width) * 0.02)
        self.queries = nn.Parameter(torch.randn(config.queries, width) * 0.02)
        self.decoder = layers.decoder(config.decoder_layers, width, *shape)
        self.box = layers.mlp(width, width, width, 4)
        self.score, self.present = nn.Linear(width, 1), nn.Linear(width, 1)
        nn.init.constant_(self.score.bias, LIKELY)
        self.places = spread(config.queries)

    def _build_published(self, config: GrounderConfig) -> None:
        """Make the parts of the published network."""
        width = config.width
        before: Any = self.text_encoder.config
        self.to_tokens = published.Resizer(before.hidden_size, width)  # type: ignore[assignment]
        self.queries = nn.Parameter(torch.randn(config.queries, width))
        self.decoder = published.Decoder(
            config.decoder_layers, width, config.heads, config.feed_forward, config.dropout
        )
        self.box = layers.mlp(width, width, width, 4)
        self.words = nn.Linear(width, TOKEN_CLASSES + 1)
        self.align_queries, self.align_tokens = nn.Linear(width, ALIGN_WIDTH), nn.Linear(width, ALIGN_WIDTH)
        self.places = spread(config.queries)  # only for losses of `agp`

    def _fuse_published(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
        """Return the predictions of the last layer; the score is the log-odds that there is an object.

        `more`: (N, L, Q, 4) boxes and (N, L, Q, 256) logits of all decoder layers, (N, L, Q, E) features of
        the queries and (N, T, E) of the tokens, all of length 1.
        """
        together, hidden, places = self._together_published(patches, visible, tokens, mask)
        memory = self.fusion(together, hidden, places)
        found = self.decoder(self.queries, memory, hidden, places)
        boxes, words = self.box(found).sigmoid(), self.words(found)
        scores = words[:, -1, :, :-1].logsumexp(dim=2) - words[:, -1, :, -1]
        queries = nn.functional.normalize(self.align_queries(found), dim=3)
        texts = nn.functional.normalize(self.align_tokens(memory[:, patches.shape[1] :]), dim=2)
        return Predictions(boxes[:, -1], scores, scores.amax(dim=1), (boxes, words, queries, texts))

    def _together_published(
        self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input of the published joint encoder: patches and text, their mask, their positions."""
        side = int(patches.shape[1] ** 0.5)  # the image is a square
        places = published.positions(visible.unflatten(1, (side, side)), patches.shape[2]).to(
            patches, non_blocking=True
        )
        places = torch.cat([places, torch.zeros_like(tokens)], dim=1)
        return torch.cat([patches, tokens], dim=1), ~torch.cat([visible, mask], dim=1), places

    def fuse(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
        """Return the predictions as `Network.fuse`."""
        if self.is_post:
            return self._fuse_published(patches, visible, tokens, mask)
        together, hidden = self._together(patches, visible, tokens, mask)
        memory = self.fusion(together, src_key_padding_mask=hidden)
        places = layers.sine_code(self.places, patches.shape[2]).to(patches, non_blocking=True)
        whole = memory[:, :1]
        found = self.decoder(whole + self.queries + places, memory, memory_key_padding_mask=hidden)
        present = self.present(whole[:, 0])
        scores = self.score(found)[..., 0] if self.most_boxes > 1 else present
        return Predictions(self.box(found).sigmoid(), scores, present[:, 0])

    def _together(
        self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the (N, 1 + T + P, D) input of the joint encoder, and its mask, True if ignored."""
        count = patches.shape[0]  # not len(): an export would keep it as a constant
        hidden = ~torch.cat([mask.new_ones(count, 1), mask, visible], dim=1)
        return torch.cat([self.whole.expand(count, 1, -1), tokens, patches], dim=1), hidden

    def joint(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (N, D) outputs of the global token; the arguments are those of `fuse`.

        With `norm` "post" there is none: it is the output of the text's first token, [CLS].
        """
        if self.is_post:
            memory = self.fusion(*self._together_published(patches, visible, tokens, mask))
            first: Tensor = memory[:, patches.shape[1]]
            return first
        return layers.first_output(self.fusion, *self._together(patches, visible, tokens, mask))


def spread(count: int) -> Tensor:
    """Return (count, 2) points [x, y] in [0, 1], evenly spread over the image; a single one is the center."""
    x = (torch.arange(count) * 0.618034 + 0.5) % 1  # the golden ratio spreads any number evenly
    return 0.15 + 0.7 * torch.stack([x, (torch.arange(count) + 0.5) / count], dim=1)
