"""Tensor operations on boxes and grey values; boxes.py has the same geometry for numpy arrays.

Boxes are (..., 4), either xyxy [x1, y1, x2, y2] or cxcywh [cx, cy, w, h].
Letters: B images, S side.
"""

import torch
from torch import Tensor

LEVELS = 1024  # number of grey levels that `equalize` distinguishes


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Return (..., 4) cxcywh boxes as xyxy."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Return (..., 4) xyxy boxes as cxcywh."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the (...) IoU in [0, 1] of (..., 4) xyxy boxes, row by row; 0 if both have no area."""
    shared, union = _intersection_and_union(a, b)
    return shared / union.clamp(min=torch.finfo(a.dtype).tiny)


def generalized_iou(a: Tensor, b: Tensor, min_side: float = 0.0) -> Tensor:
    """Return the (...) generalized IoU in [-1, 1] of (..., 4) xyxy boxes, row by row.

    Source: Rezatofighi et al. 2019. A box with x2 < x1 or y2 < y1 has no area.
    Two boxes without area have IoU 0, not NaN.
    min_side: the sides of the hull are at least this long, which bounds the gradients of such boxes.
    """
    shared, union = _intersection_and_union(a, b)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    around = hull.clamp(min=min_side).prod(dim=-1)
    tiny = max(min_side**2, torch.finfo(a.dtype).eps)
    return shared / union.clamp(min=tiny) - (around - union) / around.clamp(min=tiny)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    inner = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = inner.clamp(min=0).prod(dim=-1)
    size_a, size_b = ((each[..., 2:] - each[..., :2]).clamp(min=0) for each in (a, b))
    return shared, size_a.prod(dim=-1) + size_b.prod(dim=-1) - shared


def equalize(images: Tensor) -> Tensor:
    """Return (B, 1, S, S) images in [0, 1] with each image's grey values spread evenly over [-1, 1].

    This removes the effect of exposure, window and detector curve, except for the order of grey values.
    A network trained on one machine's images can then process another's.
    Pure black, the padding of a letterbox, is not counted and becomes -1.
    """
    level = (images.flatten(1) * (LEVELS - 1)).ceil().long().clamp(0, LEVELS - 1)  # (B, S * S)
    count = torch.zeros(len(images), LEVELS, device=images.device)
    count.scatter_add_(1, level, torch.ones_like(level, dtype=count.dtype))
    count[:, 0] = 0
    below = count.cumsum(1)
    share = (below - count / 2) / below[:, -1:].clamp(min=1)
    share[:, 0] = 0
    return (share.gather(1, level) * 2 - 1).view_as(images)
