"""Anatomical grounding pre-training: regress each phrase's boxes (AGP; Zhang et al., arXiv 2502.16585).

The loss of a box is 5 L1 + 2 (1 - GIoU) [AGP's public code]. Fine-tuning on annotated boxes has the same
loss. L1 is over center and sides, as in TransVG and DETR; `agp-corners` has the corners, as AGP's code.
Difference: a presence logit is trained on phrases without boxes (weight 1).

For architectures with several boxes the box loss is that of predictions matched to true boxes. A score logit
per query is trained on which were matched (weight 1, `score`). The box loss of every query with the true box
nearest to its reference point is added (weight 1, `near`): otherwise most queries get no gradient in most
steps. Group DETR (Chen et al. 2023) and H-DETR (Jia et al. 2023) have such many-to-one losses too; the choice
by reference point is ours.

Letters: N pairs, M true boxes, Q predicted boxes per pair. Boxes are normalized [cx, cy, w, h] in [0, 1].
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medground import ops
from medground.models.grounder import Grounder
from medground.models.network import Predictions
from medground.objectives import distributed
from medground.objectives.objective import Encoded, Objective

MATCHED_SCORE = 1.0  # weight of the score in the matching cost; the box loss has weight 1
MATCHED_PLACE = 5.0  # weight of the L1 distance from a query's reference point to the true center


class AGP(Objective):
    """Box losses of region names, sentences or annotated phrases."""

    corners = False  # whether L1 is over the corners

    def __init__(self, model: Grounder):
        super().__init__(model)
        self.places = model.network.places

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """Return the losses of the batch's pairs."""
        assert encoded.predictions is not None
        boxed = pairs_of(batch)
        return losses(encoded.predictions, batch.boxes, batch.box_of, self.places, boxed, self.corners)


class Corners(AGP):
    """The same with L1 over x1, y1, x2 and y2; matching is by center and sides."""

    corners = True


def pairs_of(batch: Any) -> Tensor:
    """Return (K,) the pairs of a batch that have a box, sorted."""
    boxed: Tensor | None = getattr(batch, "boxed", None)  # found on the CPU, before the batch is copied
    return batch.box_of.unique() if boxed is None else boxed


def losses(
    predictions: Predictions,
    boxes: Tensor,
    box_of: Tensor,
    places: Tensor,
    boxed: Tensor | None = None,
    corners: bool = False,
) -> dict[str, Tensor]:
    """Return the named losses of N pairs, each a scalar, averaged over all processes.

    boxes: (M, 4). box_of: (M,) the pair of each. places: (Q, 2) reference points of the queries. boxed: (K,)
    the sorted pairs that have a box; to find them, None, waits for the device. corners: L1 is over the
    corners instead of center and sides. A pair without a box is a finding that is not present. A network with
    one box is trained on the enclosing box of all boxes of the pair. A batch without boxes has box losses of
    0.
    """
    has_box = torch.zeros_like(predictions.present, dtype=torch.float32).index_fill(0, box_of, 1)
    found, logits = predictions.boxes.float(), predictions.scores.float()  # box losses are always in float32
    parts = {"present": _likelihood(predictions.present.float(), has_box)}
    if found.shape[1] == 1:
        pair = box_of.unique() if boxed is None else boxed
        chosen, true = found[pair, 0], hulls(boxes, box_of, len(has_box), len(pair))[pair]
    else:
        far = (places.to(boxes, non_blocking=True) - boxes[:, None, :2]).abs().sum(-1)  # (M, Q)
        pair, query, true = match(found, logits, boxes, box_of, far)
        chosen, is_matched = found[pair, query], torch.zeros_like(logits)
        is_matched[pair, query] = 1
        parts["score"] = _likelihood(logits, is_matched)
        parts["near"] = nearest(found, boxes, box_of, far)
    count = distributed.shared_count(len(pair), boxes)
    ends, true_ends = ops.cxcywh_to_xyxy(chosen), ops.cxcywh_to_xyxy(true)
    apart = ends - true_ends if corners else chosen - true
    parts["l1"] = apart.abs().sum() / count
    parts["giou"] = (1 - ops.generalized_iou(ends, true_ends)).sum() / count
    return parts


def _likelihood(logits: Tensor, true: Tensor) -> Tensor:
    return distributed.mean(functional.binary_cross_entropy_with_logits(logits, true, reduction="none"))


def hulls(boxes: Tensor, box_of: Tensor, count: int, boxed: int) -> Tensor:
    """Return (count, 4) the enclosing box of each pair's boxes; zeros for a pair without boxes.

    boxed: the number of pairs that have a box.
    """
    if len(boxes) == boxed:  # one box per pair: no change
        return boxes.new_zeros(count, 4).index_copy(0, box_of, boxes)
    ends, row = ops.cxcywh_to_xyxy(boxes), box_of[:, None].expand(-1, 2)
    low = ends.new_zeros(count, 2).scatter_reduce(0, row, ends[:, :2], "amin", include_self=False)
    high = ends.new_zeros(count, 2).scatter_reduce(0, row, ends[:, 2:], "amax", include_self=False)
    return ops.xyxy_to_cxcywh(torch.cat([low, high], dim=1))


def nearest(found: Tensor, boxes: Tensor, box_of: Tensor, far: Tensor) -> Tensor:
    """Return the mean box loss of each query with the true box nearest to its reference point.

    The arguments are those of `match`. Queries of pairs without boxes do not count. Of equally near true
    boxes all count.
    """
    least = far.new_full(found.shape[:2], torch.inf)
    least = least.scatter_reduce(0, box_of[:, None].expand_as(far), far, "amin")
    is_nearest = far == least[box_of]
    costs = box_loss(found[box_of], boxes[:, None])  # (M, Q)
    return distributed.mean(costs.masked_fill(~is_nearest, 0), is_nearest.sum())


def box_loss(found: Tensor, true: Tensor) -> Tensor:
    """Return (...) 5 L1 + 2 (1 - GIoU) of (..., 4) boxes."""
    overlap = ops.generalized_iou(ops.cxcywh_to_xyxy(found), ops.cxcywh_to_xyxy(true))
    return 5 * (found - true).abs().sum(-1) + 2 * (1 - overlap)


@torch.no_grad()
def match(
    found: Tensor, logits: Tensor, boxes: Tensor, box_of: Tensor, far: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return pair (K,), query (K,) and true box (K, 4) of the best one-to-one assignment.

    found: (N, Q, 4). logits: (N, Q). far: (M, Q) distance of each true center to each reference point. The
    assignment minimizes box loss, score and, for a stable assignment between steps, that distance (Hungarian
    method; Carion et al. 2020). If a pair has more than Q true boxes, the ones with the highest cost are left
    out.
    """
    from scipy.optimize import linear_sum_assignment

    cost = box_loss(found[box_of], boxes[:, None].expand(-1, found.shape[1], -1))  # (M, Q)
    cost = cost - MATCHED_SCORE * logits[box_of].sigmoid() + MATCHED_PLACE * far
    table, rows = cost.double().cpu(), box_of.cpu()
    true, query = [rows[:0]], [rows[:0]]
    for pair in rows.unique():
        own = (rows == pair).nonzero()[:, 0]
        chosen, queries = linear_sum_assignment(table[own].numpy())
        true.append(own[torch.from_numpy(chosen)])
        query.append(torch.from_numpy(queries))
    at = torch.cat(true).to(boxes.device)
    return box_of[at], torch.cat(query).to(at), boxes[at]
