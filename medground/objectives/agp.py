"""Anatomical grounding pre-training: regress each phrase's boxes (AGP; Zhang et al., arXiv 2502.16585).

The loss of a box is 5 L1 + 2 (1 - GIoU) [AGP's public code]; the same loss serves fine-tuning on drawn boxes.
Ours: L1 over centre and sides, as TransVG and DETR take it, where AGP's code takes the corners; a presence
logit, taught by phrases with nothing to show (weight 1).
Architectures with several boxes have the box loss of those matched to the true ones, a score logit of each
(weight 1), taught by which were matched, and the box loss of every query with the true box nearest to its
place (weight 1): by matched boxes alone most queries learn nothing in most steps. Such help of many to one,
beside the one to one, is that of Group DETR (Chen et al. 2023) and H-DETR (Jia et al. 2023); that places say
who learns what is ours.

Letters: N pairs, M true boxes, Q answered boxes a pair. Boxes are normalised [cx, cy, w, h] in [0, 1].
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medground.models.grounder import Grounder
from medground.models.network import Answers
from medground.objectives import distributed
from medground.objectives.objective import Encoded, Objective

MATCHED_SCORE = 1.0  # what a likely score is worth in matching, beside 5 L1 + 2 (1 - GIoU)
MATCHED_PLACE = 5.0  # and what the L1 distance of a query's place from the middle of the true box costs


class AGP(Objective):
    """Boxes of region names, sentences or drawn phrases."""

    def __init__(self, model: Grounder):
        super().__init__(model)
        self.places = model.network.places

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """The losses of the batch's pairs."""
        assert encoded.answers is not None
        return losses(encoded.answers, batch.boxes, batch.box_of, self.places)


def losses(answers: Answers, boxes: Tensor, box_of: Tensor, places: Tensor) -> dict[str, Tensor]:
    """The named losses, each a scalar, of N answers.

    boxes: (M, 4); box_of: (M,) the pair that each belongs to; places: (Q, 2) of the queries. A pair without
    a box has nothing to show. A network that answers with one box learns the box around all of a pair's. A
    batch in which nothing is shown has box losses of 0. Each is a mean over what all processes have.
    """
    shown = torch.zeros_like(answers.present, dtype=torch.float32).index_fill(0, box_of, 1)
    found, logits = answers.boxes.float(), answers.scores.float()  # the box losses are in float32 always
    parts = {"present": _likelihood(answers.present.float(), shown)}
    if found.shape[1] == 1:
        pair = shown.nonzero()[:, 0]
        chosen, true = found[pair, 0], hulls(boxes, box_of, len(shown))[pair]
    else:
        far = (places.to(boxes) - boxes[:, None, :2]).abs().sum(-1)  # (M, Q)
        pair, query, true = match(found, logits, boxes, box_of, far)
        chosen, meant = found[pair, query], torch.zeros_like(logits)
        meant[pair, query] = 1
        parts["score"] = _likelihood(logits, meant)
        parts["near"] = nearest(found, boxes, box_of, far)
    count = distributed.shared_count(len(pair), boxes)
    parts["l1"] = (chosen - true).abs().sum() / count
    parts["giou"] = (1 - generalised_iou(corners(chosen), corners(true))).sum() / count
    return parts


def _likelihood(logits: Tensor, true: Tensor) -> Tensor:
    return distributed.mean(functional.binary_cross_entropy_with_logits(logits, true, reduction="none"))


def corners(boxes: Tensor) -> Tensor:
    """(..., 4) [cx, cy, w, h] -> (..., 4) [x1, y1, x2, y2]."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """(...) generalised IoU in (-1, 1] of (..., 4) corner boxes (Rezatofighi et al. 2019)."""
    shared, either = areas(a, b)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(dim=-1)
    tiny = torch.finfo(a.dtype).eps  # two boxes without area have IoU 0 here, not NaN
    return shared / either.clamp(min=tiny) - (hull - either) / hull.clamp(min=tiny)


def areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(...) areas of intersection and of union of (..., 4) corner boxes."""
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = inner.prod(dim=-1)
    return shared, (a[..., 2:] - a[..., :2]).prod(dim=-1) + (b[..., 2:] - b[..., :2]).prod(dim=-1) - shared


def hulls(boxes: Tensor, box_of: Tensor, count: int) -> Tensor:
    """(count, 4) the box around all of each pair's boxes; zeros for a pair without any."""
    if len(boxes) == len(box_of.unique()):  # one box each, as it is
        return boxes.new_zeros(count, 4).index_copy(0, box_of, boxes)
    ends, row = corners(boxes), box_of[:, None].expand(-1, 2)
    low = ends.new_zeros(count, 2).scatter_reduce(0, row, ends[:, :2], "amin", include_self=False)
    high = ends.new_zeros(count, 2).scatter_reduce(0, row, ends[:, 2:], "amax", include_self=False)
    return torch.cat([(low + high) / 2, high - low], dim=1)


def nearest(found: Tensor, boxes: Tensor, box_of: Tensor, far: Tensor) -> Tensor:
    """The mean box loss of all queries of the pairs that show something, each with the true box nearest to
    its place; as `match` is given them. Of true boxes that are equally near it learns all."""
    least = far.new_full(found.shape[:2], torch.inf)
    least = least.scatter_reduce(0, box_of[:, None].expand_as(far), far, "amin")
    true, query = (far == least[box_of]).nonzero(as_tuple=True)
    return distributed.mean(box_loss(found[box_of[true], query], boxes[true]))


def box_loss(found: Tensor, true: Tensor) -> Tensor:
    """(...) 5 L1 + 2 (1 - GIoU) of (..., 4) boxes."""
    overlap = generalised_iou(corners(found), corners(true))
    return 5 * (found - true).abs().sum(-1) + 2 * (1 - overlap)


@torch.no_grad()
def match(
    found: Tensor, logits: Tensor, boxes: Tensor, box_of: Tensor, far: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pair and query (K,) of the answered boxes that fit the true ones best together, and those (K, 4).

    found: (N, Q, 4); logits: (N, Q); far: (M, Q) from the middle of each true box to each query's place. The
    assignment is the cheapest by the box losses and the score (the Hungarian method; Carion et al. 2020) and,
    so that it is the same from step to step, by the places. Of more than Q true boxes in a pair the dearest
    stay without.
    """
    from scipy.optimize import linear_sum_assignment

    cost = box_loss(found[box_of], boxes[:, None].expand(-1, found.shape[1], -1))  # (M, Q)
    cost = cost - MATCHED_SCORE * logits[box_of].sigmoid() + MATCHED_PLACE * far
    table, rows = cost.double().cpu(), box_of.cpu()
    true, query = [rows[:0]], [rows[:0]]
    for pair in rows.unique():
        own = (rows == pair).nonzero()[:, 0]
        chosen, answered = linear_sum_assignment(table[own].numpy())
        true.append(own[torch.from_numpy(chosen)])
        query.append(torch.from_numpy(answered))
    at = torch.cat(true).to(boxes.device)
    return box_of[at], torch.cat(query).to(at), boxes[at]
