"""Anatomical grounding pre-training: regress each phrase's box (AGP; Zhang et al., arXiv 2502.16585).

The loss of a box is 5 L1 + 2 (1 - GIoU), L1 over the four numbers [AGP's public code]; the same loss serves
fine-tuning on drawn boxes. Ours: a presence logit, taught by phrases with nothing to show (weight 1).

Letters: N pairs. Boxes are normalised [cx, cy, w, h] in [0, 1].
"""

import torch
from torch import Tensor
from torch.nn import functional

from medground.models.transvg import Answers

WEIGHTS = {"l1": 5.0, "giou": 2.0, "present": 1.0}


def corners(boxes: Tensor) -> Tensor:
    """(N, 4) [cx, cy, w, h] -> (N, 4) [x1, y1, x2, y2]."""
    half = boxes[:, 2:] / 2
    return torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], dim=1)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N,) generalised IoU in (-1, 1] of (N, 4) corner boxes, row by row (Rezatofighi et al. 2019)."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(dim=1)
    either = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - inner
    tiny = torch.finfo(a.dtype).eps  # two boxes without area have IoU 0 here, not NaN
    return inner / either.clamp(min=tiny) - (hull - either) / hull.clamp(min=tiny)


def losses(answers: Answers, boxes: Tensor, shown: Tensor) -> dict[str, Tensor]:
    """The named losses, each a scalar, of N answers.

    boxes: (N, 4), ignored where nothing is shown; shown: (N,) 1 where there is something to show, else 0.
    A batch in which nothing is shown has box losses of 0.
    """
    count = shown.sum().clamp(min=1)
    found = answers.boxes.float()  # under autocast too, the box losses are computed in float32
    distance = (found - boxes).abs().sum(dim=1)
    overlap = generalised_iou(corners(found), corners(boxes))
    return {
        "l1": (distance * shown).sum() / count,
        "giou": ((1 - overlap) * shown).sum() / count,
        "present": functional.binary_cross_entropy_with_logits(answers.present.float(), shown),
    }


def total(parts: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The weighted sum of named losses; a weight without a loss, or a loss without a weight, is a bug."""
    if parts.keys() != weights.keys():
        raise KeyError(f"losses {sorted(parts)} but weights {sorted(weights)}")
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()
