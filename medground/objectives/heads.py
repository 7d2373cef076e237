"""Heads that objectives share, and the features of boxes from patches.

Letters: B images, P patches (h x w), D width, R boxes, E embedding. Boxes are normalized [cx, cy, w, h].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground.models.network import EncodedImages, masked_mean
from medground.objectives.distributed import gathered, row_counts

HIDDEN, EMBEDDING = 2048, 128  # as in ASG
SAMPLES = 4  # sampling points per box in each direction


class Projection(nn.Module):
    """D -> 2048 -> 128 with batch norm, the last one without weights [ASG's code].

    On rows of tokens it equals the 1 x 1 convolution of ASG's local heads.
    """

    def __init__(self, width: int, hidden: int = HIDDEN, embedding: int = EMBEDDING):
        super().__init__()
        self.enter, self.leave = (
            nn.Linear(width, hidden, bias=False),
            nn.Linear(hidden, embedding, bias=False),
        )
        self.inner, self.outer = RowNorm(hidden), RowNorm(embedding)
        self.scale, self.shift = nn.Parameter(torch.ones(hidden)), nn.Parameter(torch.zeros(hidden))

    def forward(self, rows: Tensor) -> Tensor:
        """Return (n, E) embeddings of (n, D) rows, not normalized to length 1; n may be 0.

        Always in float32: at the start all rows are similar, and a norm would amplify the rounding of bf16.
        """
        with torch.autocast(rows.device.type, enabled=False):
            hidden = self.inner(self.enter(rows.float())) * self.scale + self.shift
            result: Tensor = self.outer(self.leave(functional.relu(hidden)))
            return result


class RowNorm(nn.Module):
    """Batch norm of rows over all processes, without weights.

    A single row is normalized with the running statistics; torch's norm raises an error. Not a
    `distributed.SharedBatchNorm1d`: on GPUs that is torch's SyncBatchNorm, which raises the same error. It is
    no torch norm, so it is not frozen with them, and `training.grad_cache` does not change it: heads run once
    per step, on all rows.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the (n, C) normalized rows of this process."""
        total = sum(row_counts(rows)) if self.training else 0
        if total < 2:
            return (rows - self.running_mean) * torch.rsqrt(self.running_var + self.eps)
        mean = gathered(rows.sum(dim=0, keepdim=True)).sum(dim=0) / total
        apart = rows - mean
        spread = gathered((apart**2).sum(dim=0, keepdim=True)).sum(dim=0) / total
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(spread * total / (total - 1), self.momentum)
        return apart * torch.rsqrt(spread + self.eps)


class RegionNorm(nn.Module):
    """Batch norm of each region's features over the images of all processes that have it, without weights.

    Most of a feature is the anatomy and the place of its region, equal in all images. A region that less
    than two images of the batch have is normalized with the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, regions: int, width: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("running_mean", torch.zeros(regions, width))
        self.register_buffer("running_var", torch.ones(regions, width))

    def forward(self, areas: Tensor, there: Tensor) -> Tensor:
        """Return (B, G, D) the normalized features in float32; 0 where (B, G) `there` is False."""
        with torch.autocast(areas.device.type, enabled=False):
            areas, kept = areas.float(), there[..., None].float()
            mean, spread = self.running_mean, self.running_var
            if self.training:
                mean, spread = self._of_batch(areas, kept)
            result: Tensor = (areas - mean) * torch.rsqrt(spread + self.eps) * kept
            return result

    def _of_batch(self, areas: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return (G, D) means and variances, and update the running ones."""
        count = gathered(kept.sum(dim=0)[None]).sum(dim=0)
        mean = gathered((areas * kept).sum(dim=0)[None]).sum(dim=0) / count.clamp(min=1)
        spread = gathered((((areas - mean) * kept) ** 2).sum(dim=0)[None]).sum(dim=0) / count.clamp(min=1)
        known = count >= 2
        with torch.no_grad():
            unbiased = spread * count / (count - 1).clamp(min=1)
            for running, found in ((self.running_mean, mean), (self.running_var, unbiased)):
                running.copy_(torch.where(known, running.lerp(found, self.momentum), running))
        mean = torch.where(known, mean, self.running_mean)
        return mean, torch.where(known, spread, self.running_var)


def apart(known: Tensor) -> Tensor:
    """Return (F, D) features of texts without the part that all share, with a root mean square of 1.

    Means over the words of different texts have cosines of about .9: without this, queries of different
    findings are almost the same.
    """
    own = known - known.mean(dim=0)
    return own / own.square().mean().sqrt().clamp(min=1e-6)


def each_own(linear: nn.Linear, rows: Tensor) -> Tensor:
    """Return (B, F) the output f of a linear layer D -> F for row f of (B, F, D) rows."""
    result: Tensor = (rows * linear.weight).sum(dim=2) + linear.bias
    return result


def whole_words(tokens: Tensor, mask: Tensor, continues: Tensor) -> tuple[Tensor, Tensor]:
    """Return (U, T, D) the sums of the pieces of each word, and their (U, T) mask; words come first.

    tokens: (U, T, D). mask: (U, T). continues: (U, T), True for a piece that continues the word before it.
    """
    word = (mask & ~continues).cumsum(dim=1).sub(1).clamp(min=0)
    kept = tokens * mask[..., None].to(tokens.dtype)
    sums = torch.zeros_like(kept).scatter_add(1, word[..., None].expand_as(kept), kept)
    count = (mask & ~continues).sum(dim=1, keepdim=True)
    return sums, torch.arange(mask.shape[1], device=mask.device) < count


def patch_map(images: EncodedImages) -> Tensor:
    """Return the patches as a (B, D, h, w) map."""
    result: Tensor = images.patches.transpose(1, 2).unflatten(2, images.grid.shape[-2:])
    return result


def pooled(images: EncodedImages) -> Tensor:
    """Return (B, D) the mean of the visible patches."""
    return masked_mean(images.patches, images.visible)


def similarity(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Return (n, m) cosines of (n, E) and (m, E) rows, divided by the temperature; always in float32."""
    with torch.autocast(left.device.type, enabled=False):
        left, right = (functional.normalize(each.float(), dim=1) for each in (left, right))
        return left @ right.T / temperature


def contrast(similar: Tensor, same: Tensor | None = None) -> Tensor:
    """Return symmetric InfoNCE of (n, n) logits: the mean of the rows plus that of the columns.

    Row i belongs to column i, and to all columns j with `same[i, j]` (see `soft_cross_entropy`). The loss of
    no rows is 0.
    """
    if not len(similar):
        return similar.sum()
    if same is None:
        same = torch.eye(len(similar), dtype=torch.bool, device=similar.device)
    return soft_cross_entropy(similar, same).mean() + soft_cross_entropy(similar.T, same.T).mean()


def soft_cross_entropy(logits: Tensor, belongs: Tensor) -> Tensor:
    """Return (n,) the divergence of each row's softmax from equal shares of the columns that belong to it.

    logits: (n, m), minus infinity for columns that do not count. belongs: (n, m), True at least once per row.
    With one such column it is the cross-entropy. With several its minimum is 0 too: equal texts or boxes
    cannot be distinguished.
    """
    count = belongs.sum(dim=1)
    mean = logits.masked_fill(~belongs, 0).sum(dim=1) / count
    return logits.logsumexp(dim=1) - mean - count.to(logits.dtype).log()


def roi_align(
    patches: Tensor,
    boxes: Tensor,
    images: Tensor,
    samples: int = SAMPLES,
    sizes: tuple[int, ...] | None = None,
) -> Tensor:
    """Return (R, D) one feature per box: RoIAlign with a 1 x 1 output (He et al. 2017), aligned to centers.

    patches: (B, D, h, w). boxes: (R, 4). images: (R,) rows. The feature is the mean over samples x samples
    points, evenly spaced in the box, with bilinear interpolation. The map is extended by its border values.
    sizes: number of boxes of each image, if they are sorted by image; to find them, None, waits for a GPU.
    """
    if not len(boxes):  # keep the graph: other processes wait for the gradient of the patches
        return patches[:0, :, 0, 0]
    height, width = patches.shape[-2:]
    spread = (torch.arange(samples, dtype=boxes.dtype, device=boxes.device) + 0.5) / samples - 0.5
    xs = boxes[:, :1] + boxes[:, 2:3] * spread
    ys = boxes[:, 1:2] + boxes[:, 3:] * spread
    # the mean of bilinear samples on a grid is separable: compute weights of rows and columns
    across, down = _weights(xs, width), _weights(ys, height)
    weights = (down[:, :, None] * across[:, None, :]).flatten(1).to(patches.dtype)
    if sizes is not None:
        own = zip(weights.split(sizes), patches, sizes, strict=True)
        return torch.cat([part @ image.flatten(1).T for part, image, size in own if size]).to(patches.dtype)
    found = patches.new_zeros(len(boxes), patches.shape[1])
    for row in images.unique().tolist():  # one product per image, without a copy of its patches per box
        (at,) = (images == row).nonzero(as_tuple=True)
        found = found.index_copy(0, at, (weights[at] @ patches[row].flatten(1).T).to(found.dtype))
    return found


def _weights(points: Tensor, cells: int) -> Tensor:
    """Return (R, cells) the weight of each cell in the mean of linear samples at (R, samples) points."""
    place = (points * cells - 0.5).clamp(0, cells - 1)
    centers = torch.arange(cells, device=points.device)
    return (1 - (place[..., None] - centers).abs()).clamp(min=0).mean(dim=1)
