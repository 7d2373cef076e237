"""The loss of segmentation: weight * focal - weight * log(soft Dice), over the pixels of the images.

focal  mean over pixels of (1 - p)^gamma * -log(p), p the predicted probability of the true state (Lin et al.
       2017, without its weight of classes).
dice   (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) over all pixels of the batch, for each class (Milletari et al.
       2016, with the smoothing of MGCA's code).

MGCA's weights are 10 and 1, with gamma 2. Letters: B images, K classes, S side.
"""

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1.0


def focal(logits: Tensor, masks: Tensor, inside: Tensor, gamma: float) -> Tensor:
    """Return the mean over the pixels inside of (B, K, S, S) logits and masks; inside: (B, 1, S, S).

    The padding of the square does not count.
    """
    each = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    off = torch.sigmoid(logits * (1 - 2 * masks))  # 1 - p, exact where p is nearly 1
    weights = inside.expand_as(each)
    return (off**gamma * each * weights).sum() / weights.sum().clamp(min=1)


def soft_dice(logits: Tensor, masks: Tensor, inside: Tensor) -> Tensor:
    """Return the (K,) soft Dice of the batch in (0, 1]; arguments as in `focal`."""
    found = torch.sigmoid(logits) * inside
    true = masks * inside
    both, sizes = (found * true).sum(dim=(0, 2, 3)), (found + true).sum(dim=(0, 2, 3))
    return (2 * both + SMOOTH) / (sizes + SMOOTH)


def mixed(
    logits: Tensor,
    masks: Tensor,
    inside: Tensor,
    focal_weight: float = 10.0,
    gamma: float = 2.0,
    dice_weight: float = 1.0,
) -> Tensor:
    """Return the weighted sum, a scalar; the logarithm of Dice is a mean over the classes."""
    overlap = soft_dice(logits, masks, inside).log().mean()
    return focal_weight * focal(logits, masks, inside, gamma) - dice_weight * overlap
