"""What several training processes share, so that together they compute what one would with the whole batch.

Each process has its part of the batch, and the gradients that all have are averaged (DDP). So a loss is
written in one of two ways, and both give the gradient of one process:
- as `mean` of what each row of its own part costs: the divisor counts the rows of all parts;
- of `gathered` rows, computed by every process alike: contrasts between all images of the batch.

In a single process nothing is exchanged. Letters: W processes, n and N rows of one and of all, C channels.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn


def count() -> int:
    """W, the number of processes that train together; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def gathered(rows: Tensor) -> Tensor:
    """(N, ...) the (n, ...) rows of all processes, those of process 0 first; n may differ, and may be 0.

    Gradients go back to whose rows they are, summed over all processes that used them. Tensors that are
    gathered alike keep their rows side by side.
    """
    if count() == 1:
        return rows
    sizes = row_counts(rows)
    return _Gather.apply(rows, sizes)  # type: ignore[no-untyped-call]


def row_counts(rows: Tensor) -> list[int]:
    """The number of rows that each process has."""
    if count() == 1:
        return [len(rows)]
    own = torch.tensor([len(rows)], device=rows.device)
    each = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(each, own)
    return torch.cat(each).tolist()


class _Gather(torch.autograd.Function):
    """Rows padded to the longest part travel together: gloo and NCCL want the same shape of all."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        whole = grads[0].contiguous().clone()
        distributed.all_reduce(whole)
        return whole.split(ctx.sizes)[rank()], None


def shared_count(number: int, like: Tensor) -> Tensor:
    """What to divide a sum over this process's `number` rows by, so that the average over the processes is
    the mean over all rows: their number for each process, and never 0. A scalar on the device of `like`."""
    total = torch.tensor(float(number), device=like.device)
    if count() > 1:
        distributed.all_reduce(total)
    return total.clamp(min=1) / count()


def mean(costs: Tensor) -> Tensor:
    """The sum of (n,) costs, divided so that the average over processes is the mean of all; 0 for none."""
    return costs.sum() / shared_count(costs.numel(), costs)


def averaged(values: Tensor) -> Tensor:
    """The average of the processes' values, without gradients."""
    values = values.detach().clone()
    if count() > 1:
        distributed.all_reduce(values)
    return values / count()


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the parts of all processes, on a CPU too, where torch's SyncBatchNorm does not work."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, h, w) normalised by the mean and variance of all processes' (B, h, w)."""
        if not self.training or count() == 1:
            return super().forward(input)
        rows = input.numel() // input.shape[1]
        own_var, own_mean = torch.var_mean(input, dim=(0, 2, 3), correction=0)
        own = torch.cat([own_mean, own_var, own_mean.new_tensor([float(rows)])])
        parts = gathered(own[None])
        width, sizes = input.shape[1], parts[:, -1:].detach()
        means, variances, total = parts[:, :width], parts[:, width:-1], sizes.sum()
        middle = (sizes * means).sum(0) / total
        spread = (sizes * (variances + (means - middle) ** 2)).sum(0) / total
        self._remember(middle.detach(), spread.detach() * total / (total - 1).clamp(min=1))
        scale = self.weight * torch.rsqrt(spread + self.eps)
        shift = self.bias - middle * scale
        return torch.addcmul(shift[:, None, None], input, scale[:, None, None])

    @torch.no_grad()
    def _remember(self, middle: Tensor, spread: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        self.running_mean.lerp_(middle, self.momentum)
        self.running_var.lerp_(spread, self.momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1


def share_norms(network: nn.Module, device: torch.device) -> None:
    """Let the network's batch norms see the parts of all processes; parameters and their names stay."""
    if count() == 1:
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for part in network.modules():
        if type(part) is nn.BatchNorm2d and part.affine and part.track_running_stats:
            part.__class__ = SharedBatchNorm
