"""MedRPG's tri-attention context contrast, TaCo: a phrase against regions (Chen et al., MICCAI 2023).

What the joint encoder made of the true box is drawn to what it made of the phrase, and other boxes of the
same image are pushed away. All outputs are those of the joint encoder, as published: h of every token, and
the attention A of its last layer, the mean over heads. For a region r with weights w over the patches,

    v_r = sum_p w_rp h_p,   a_r = sum_p w_rp A_p      its patches' mean output and attention
    c_r = sum_l n_rl h_l,   n_r ~ a_r * A_CLS * A_REG  the context that region, phrase and [REG] look at
    s_r = cos(v_r + c_r, h_CLS + c_r) / 0.1

and the loss is the cross-entropy of s over the true box and 5 others (IoU <= .25 with it) [its code]. Its
weight is 0.05 (share of the training done)^0.9. Ours: a patch weighs as much as the box covers of it, where
MedRPG rounds boxes to whole patches; other boxes have 0.5 to 1.5 times the sides of the true one; and the
contrast makes a pass of its own through the joint encoder, whose last layer otherwise computes nothing but
[REG]. It costs training a second fusion of each pair that has a box, and grounding nothing.

Letters: N pairs with boxes, R regions (the true one first), P patches (h x w), T tokens, L = 1 + T + P, D
width. Boxes are normalised [cx, cy, w, h].
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from medground.models import layers
from medground.models.grounder import Grounder
from medground.objectives import distributed
from medground.objectives.agp import areas, corners, hulls
from medground.objectives.objective import Encoded, Objective

TEMPERATURE, OTHERS, MOST_IOU = 0.1, 5, 0.25
DRAWN = 32  # candidates for the others; most boxes leave room for five of them
POWER = 0.9


class TaCo(Objective):
    """The contrast of each phrase's region with others of its image; has no parameters of its own."""

    def __init__(self, model: Grounder):
        super().__init__(model)
        network = cast(Any, model.network)  # TransVG, or another network with its `together`
        self._network = [network]  # in a list: its parameters are the learner's, not this objective's

    def ramp(self, progress: float) -> float:
        """Return progress^0.9, so that boxes are learned first."""
        return progress**POWER

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """The mean contrast over the pairs that have a box."""
        network, shown = self._network[0], batch.box_of.unique()
        image, text = batch.image_of[shown], batch.text_of[shown]
        patches, tokens = layers.rows(encoded.images.patches, image), layers.rows(encoded.tokens, text)
        seen = encoded.images.seen[image]
        if not len(shown):
            return {"taco": distributed.mean(patches.new_zeros(0))}
        joint = network.together(patches, seen, tokens, encoded.mask[text])
        outputs, attention = layers.attended(network.fusion, *joint)
        true = hulls(batch.boxes, batch.box_of, len(batch.image_of))[shown]
        regions, apart = beside(true)
        shares = covered(regions, *encoded.images.grid.shape[-2:]) * seen[:, None]
        found = apart & (shares.sum(2) > 0)
        found[:, 0] = True
        return {"taco": distributed.mean(contrast(outputs.float(), attention.float(), shares, found))}


def contrast(outputs: Tensor, attention: Tensor, shares: Tensor, found: Tensor) -> Tensor:
    """(N,) the loss of each pair.

    outputs: (N, L, D); attention: (N, L, L); shares: (N, R, P) of each patch that a region covers; found:
    (N, R) which regions count. Token 0 is [REG], token 1 the text's [CLS], the last P are patches.
    """
    weights = shares / shares.sum(2, keepdim=True).clamp(min=1e-6)
    first = outputs.shape[1] - shares.shape[2]
    regions = weights @ outputs[:, first:]
    looks = (weights @ attention[:, first:]) * attention[:, 1:2] * attention[:, :1]  # (N, R, L)
    context = looks / looks.sum(2, keepdim=True).clamp(min=1e-12) @ outputs
    alike = functional.cosine_similarity(regions + context, outputs[:, 1:2] + context, dim=2) / TEMPERATURE
    alike = alike.masked_fill(~found, -torch.inf)
    return -alike.log_softmax(1)[:, 0]


def beside(true: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 6, 4) each box and 5 drawn at random beside it, and (N, 6) whether those are far enough from it.

    Boxes lie in the square. Large ones may leave no room for all five: then some are not far enough.
    """
    count = len(true)
    sides = (true[:, None, 2:] * (0.5 + torch.rand(count, DRAWN, 2).to(true))).clamp(max=0.95)
    middles = sides / 2 + torch.rand(count, DRAWN, 2).to(true) * (1 - sides)
    drawn = torch.cat([middles, sides], dim=2)
    shared, either = areas(corners(drawn), corners(true)[:, None])
    near = shared / either.clamp(min=1e-9) > MOST_IOU
    first = near.int().argsort(dim=1, stable=True)[:, :OTHERS]  # those far enough come first, as drawn
    others = drawn.gather(1, first[..., None].expand(-1, -1, 4))
    own = near.new_ones(count, 1)
    return torch.cat([true[:, None], others], dim=1), torch.cat([own, ~near.gather(1, first)], dim=1)


def covered(boxes: Tensor, height: int, width: int) -> Tensor:
    """(..., height * width) the share of each patch, row by row, that each of the (..., 4) boxes covers."""
    ends = corners(boxes)

    def along(low: Tensor, high: Tensor, count: int) -> Tensor:
        edges = torch.arange(count).to(low)
        low, high = low[..., None] * count, high[..., None] * count
        return (torch.minimum(high, edges + 1) - torch.maximum(low, edges)).clamp(0, 1)

    rows, columns = along(ends[..., 1], ends[..., 3], height), along(ends[..., 0], ends[..., 2], width)
    return (rows[..., :, None] * columns[..., None, :]).flatten(-2)
