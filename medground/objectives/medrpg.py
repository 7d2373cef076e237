"""MedRPG's tri-attention context contrast, TaCo: a phrase against regions (Chen et al., MICCAI 2023).

The features of the true box are pulled towards those of the phrase, and those of other boxes of the image are
pushed away. As published, all features are outputs of the joint encoder: h of every token, and the attention
A of its last layer, averaged over heads. For a region r with weights w over the patches,

    v_r = sum_p w_rp h_p,   a_r = sum_p w_rp A_p      mean output and attention of its patches
    c_r = sum_l n_rl h_l,   n_r ~ a_r * A_CLS * A_REG  the context that region, phrase and [REG] attend to
    s_r = cos(v_r + c_r, h_CLS + c_r) / 0.1

The loss is the cross-entropy of s over the true box and 5 others with IoU <= .25 [its code]. Its weight is
0.05 (share of the training done)^0.9. Differences: a patch is weighted by the share that the box covers,
where MedRPG rounds boxes to whole patches. Other boxes have 0.5 to 1.5 times the sides of the true one, in
MedRPG 0.9 to 1.1. `taco-rounded` has both as published. The contrast has a separate pass through the joint
encoder, as the last layer otherwise computes only [REG]. Training fuses each pair with a box twice;
grounding has no extra cost.

Letters: N pairs with boxes, R regions (the true one first), P patches (h x w), T tokens, L = 1 + T + P, D
width. Boxes are normalized [cx, cy, w, h].
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from medground import ops
from medground.models import layers
from medground.models.grounder import Grounder
from medground.objectives import distributed
from medground.objectives.agp import hulls, pairs_of
from medground.objectives.objective import Encoded, Objective

TEMPERATURE, OTHERS, MOST_IOU = 0.1, 5, 0.25
CANDIDATES = 32  # random boxes from which the others are taken
POWER = 0.9


class TaCo(Objective):
    """The contrast of each phrase's region with others of its image; it has no parameters."""

    sides = (0.5, 1.5)  # of other boxes, in sides of the true one

    @staticmethod
    def shares(boxes: Tensor, height: int, width: int) -> Tensor:
        """Return (..., height * width) the weight of each patch in the mean over each box."""
        return covered(boxes, height, width)

    def __init__(self, model: Grounder):
        super().__init__(model)
        network = cast(Any, model.network)  # TransVG, or another network with its `together`
        self._network = [network]  # in a list, as its parameters belong to the learner

    def ramp(self, progress: float) -> float:
        """Return progress^0.9, so that boxes are learned first."""
        result: float = progress**POWER
        return result

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """Return the mean contrast over the pairs that have a box."""
        network, pairs = self._network[0], pairs_of(batch)
        image, text = batch.image_of[pairs], batch.text_of[pairs]
        patches, tokens = layers.rows(encoded.images.patches, image), layers.rows(encoded.tokens, text)
        visible = encoded.images.visible[image]
        if not len(pairs):
            return {"taco": distributed.mean(patches.new_zeros(0))}
        joint = network.together(patches, visible, tokens, encoded.mask[text])
        outputs, attention = network.attended(*joint)
        true = hulls(batch.boxes, batch.box_of, len(batch.image_of), len(pairs))[pairs]
        regions, apart = other_boxes(true, *self.sides)
        shares = self.shares(regions, *encoded.images.grid.shape[-2:]) * visible[:, None]
        found = apart & (shares.sum(2) > 0)
        found[:, 0] = True
        return {"taco": distributed.mean(contrast(outputs.float(), attention.float(), shares, found))}


class Rounded(TaCo):
    """The same with boxes rounded to patches, and other boxes about as large, as in MedRPG's code."""

    sides = (0.9, 1.1)

    @staticmethod
    def shares(boxes: Tensor, height: int, width: int) -> Tensor:
        """Return (..., height * width), 1 for the patches of each box and 0 for others."""
        return rounded(boxes, height, width)


def contrast(outputs: Tensor, attention: Tensor, shares: Tensor, found: Tensor) -> Tensor:
    """Return (N,) the loss of each pair.

    outputs: (N, L, D). attention: (N, L, L). shares: (N, R, P) of each patch that a region covers. found:
    (N, R) which regions count. Token 0 is [REG], token 1 the text's [CLS], the last P are patches.
    """
    weights = shares / shares.sum(2, keepdim=True).clamp(min=1e-6)
    first = outputs.shape[1] - shares.shape[2]
    regions = weights @ outputs[:, first:]
    joint = (weights @ attention[:, first:]) * attention[:, 1:2] * attention[:, :1]  # (N, R, L)
    context = joint / joint.sum(2, keepdim=True).clamp(min=1e-12) @ outputs
    alike = functional.cosine_similarity(regions + context, outputs[:, 1:2] + context, dim=2) / TEMPERATURE
    alike = alike.masked_fill(~found, -torch.inf)
    return -alike.log_softmax(1)[:, 0]


def other_boxes(true: Tensor, least: float = 0.5, most: float = 1.5) -> tuple[Tensor, Tensor]:
    """Return (N, 6, 4) each box with 5 random ones, and (N, 6) whether their IoU with it is small enough.

    Boxes lie in the square. They have `least` to `most` times the sides of the true box. A large true box may
    leave no room for five others.
    """
    count = len(true)
    factors = least + (most - least) * torch.rand(count, CANDIDATES, 2).to(true)
    sides = (true[:, None, 2:] * factors).clamp(max=0.95)
    centers = sides / 2 + torch.rand(count, CANDIDATES, 2).to(true) * (1 - sides)
    candidates = torch.cat([centers, sides], dim=2)
    near = ops.box_iou(ops.cxcywh_to_xyxy(candidates), ops.cxcywh_to_xyxy(true)[:, None]) > MOST_IOU
    first = near.int().argsort(dim=1, stable=True)[:, :OTHERS]  # those with small IoU first, in random order
    others = candidates.gather(1, first[..., None].expand(-1, -1, 4))
    own = near.new_ones(count, 1)
    return torch.cat([true[:, None], others], dim=1), torch.cat([own, ~near.gather(1, first)], dim=1)


def covered(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return (..., height * width) the share of each patch, row by row, covered by each of (..., 4) boxes."""
    ends = ops.cxcywh_to_xyxy(boxes)

    def along(low: Tensor, high: Tensor, count: int) -> Tensor:
        edges = torch.arange(count).to(low)
        low, high = low[..., None] * count, high[..., None] * count
        return (torch.minimum(high, edges + 1) - torch.maximum(low, edges)).clamp(0, 1)

    rows, columns = along(ends[..., 1], ends[..., 3], height), along(ends[..., 0], ends[..., 2], width)
    return (rows[..., :, None] * columns[..., None, :]).flatten(-2)


def rounded(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return (..., height * width), 1 for the patches of each of (..., 4) boxes, row by row, 0 for others.

    Both ends are rounded down; a box with equal ends has the patches on both sides of them [MedRPG's code].
    """
    ends = ops.cxcywh_to_xyxy(boxes)

    def along(low: Tensor, high: Tensor, count: int) -> Tensor:
        low, high = (low * count).floor().clamp(min=0)[..., None], (high * count).floor()[..., None]
        low, high = torch.where(low == high, low - 1, low), torch.where(low == high, high + 1, high)
        places = torch.arange(count).to(low)
        return ((places >= low) & (places < high)).to(boxes.dtype)

    rows, columns = along(ends[..., 1], ends[..., 3], height), along(ends[..., 0], ends[..., 2], width)
    return (rows[..., :, None] * columns[..., None, :]).flatten(-2)
