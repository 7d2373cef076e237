"""Heads that objectives share, and the way from patches to the feature of a box.

Letters: B images, P patches (h x w), D width, R boxes, E embedding. Boxes are normalised [cx, cy, w, h].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground.models.network import Images
from medground.objectives.distributed import gathered, row_counts

HIDDEN, EMBEDDING = 2048, 128  # as ASG publishes them
SAMPLES = 4  # points across and down a box at which its patches are read


class Projection(nn.Module):
    """D -> 2048 -> 128 with batch norm, the last one without weights of its own [ASG's code].

    Applied to rows of tokens it is the same as the 1 x 1 convolution of its local heads.
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
        """(n, E) of (n, D) rows, not yet of length 1; n may be 0. In float32 at any precision: before much is
        learned all rows are nearly alike, and a norm would make the roundings of bf16 large."""
        with torch.autocast(rows.device.type, enabled=False):
            hidden = self.inner(self.enter(rows.float())) * self.scale + self.shift
            return self.outer(self.leave(functional.relu(hidden)))


class RowNorm(nn.Module):
    """Batch norm of rows over all processes, without weights. One row alone has no statistics: it is normed
    with the running ones, where torch's own norm refuses it.

    Not processes.SharedBatchNorm1d: on GPUs that gives way to torch's SyncBatchNorm, which refuses one row as
    well. And as no torch norm it is left alone by what freezes norms, or hides a first look from them
    (training.accumulate): heads run once a step, on all rows.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, rows: Tensor) -> Tensor:
        """(n, C) of (n, C) rows, n of this process."""
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


def patch_map(images: Images) -> Tensor:
    """(B, D, h, w) patches where they lie on the film."""
    return images.patches.transpose(1, 2).unflatten(2, images.grid.shape[-2:])


def pooled(images: Images) -> Tensor:
    """(B, D) the mean of the patches that show film."""
    weights = images.seen.to(images.patches.dtype)[..., None]
    return (images.patches * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def similarity(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """(n, m) cosines of (n, E) and (m, E) rows over the temperature, in float32 at any precision."""
    with torch.autocast(left.device.type, enabled=False):
        left, right = (functional.normalize(each.float(), dim=1) for each in (left, right))
        return left @ right.T / temperature


def contrast(similar: Tensor) -> Tensor:
    """Symmetric InfoNCE: the mean cross-entropy of the rows plus that of the columns of (n, n) logits, row i
    belonging to column i; 0 for no row."""
    if not len(similar):
        return similar.sum()
    own = torch.arange(len(similar), device=similar.device)
    return functional.cross_entropy(similar, own) + functional.cross_entropy(similar.T, own)


def roi_align(patches: Tensor, boxes: Tensor, images: Tensor, samples: int = SAMPLES) -> Tensor:
    """(R, D) one feature a box: RoIAlign with a 1 x 1 output (He et al. 2017), aligned to pixel centres.

    patches: (B, D, h, w); boxes: (R, 4); images: (R,) rows. The mean over samples x samples points, evenly
    spread inside the box, of the patches there, read bilinearly; beyond the outermost centres the map goes
    on as it ends.
    """
    if not len(boxes):  # of the patches all the same: the other processes wait for their gradient
        return patches[:0, :, 0, 0]
    height, width = patches.shape[-2:]
    spread = (torch.arange(samples, dtype=boxes.dtype, device=boxes.device) + 0.5) / samples - 0.5
    xs = boxes[:, :1] + boxes[:, 2:3] * spread
    ys = boxes[:, 1:2] + boxes[:, 3:] * spread
    # the mean of bilinear readings on a grid parts into rows and columns: weights instead of samples
    across, down = _weights(xs, width), _weights(ys, height)
    weights = (down[:, :, None] * across[:, None, :]).flatten(1).to(patches.dtype)
    found = patches.new_zeros(len(boxes), patches.shape[1])
    for row in images.unique().tolist():  # one product an image: no copy of its patches for every box
        (own,) = (images == row).nonzero(as_tuple=True)
        found = found.index_copy(0, own, (weights[own] @ patches[row].flatten(1).T).to(found.dtype))
    return found


def _weights(points: Tensor, cells: int) -> Tensor:
    """(R, cells) the weight of each cell in the mean of linear readings at (R, samples) points in [0, 1]."""
    place = (points * cells - 0.5).clamp(0, cells - 1)
    centres = torch.arange(cells, device=points.device)
    return (1 - (place[..., None] - centres).abs()).clamp(min=0).mean(dim=1)
