"""Losses and statistics over several training processes, equal to those of one process with the whole batch.

Each process has a part of the batch, and gradients are averaged over processes (DDP). A loss is computed in
one of two ways; both give the gradient of a single process:
- as `mean` of the losses of the process's rows, divided by the number of rows of all processes;
- from `gathered` rows, by every process: contrasts between all images of the batch.

A single process exchanges nothing. Letters: W processes, n and N rows of one and of all, C channels.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn


def count() -> int:
    """Return W, the number of training processes; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the index of this process, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def gathered(rows: Tensor) -> Tensor:
    """Return (N, ...), the (n, ...) rows of all processes in the order of processes; n may differ or be 0.

    Gradients return to the process of each row, summed over all processes.
    """
    if count() == 1:
        return rows
    result: Tensor = _Gather.apply(rows, row_counts(rows))  # type: ignore[no-untyped-call]
    return result


def row_counts(rows: Tensor) -> list[int]:
    """Return the number of rows of each process."""
    if count() == 1:
        return [len(rows)]
    own = torch.tensor([len(rows)], device=rows.device)
    each = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(each, own)
    return torch.cat(each).tolist()


class _Gather(torch.autograd.Function):
    """Gather rows padded to the longest part, as gloo and NCCL need equal shapes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes, ctx.group = sizes, _group()
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        whole = grads[0].contiguous().clone()
        distributed.all_reduce(whole, group=ctx.group)
        return whole.split(ctx.sizes)[rank()], None


_groups: dict[Any, Any] = {}


def _group() -> Any:
    """Return a second process group for the backward pass.

    DDP starts its exchanges when gradients are ready, at a different moment in each process if some have
    images without a report. A separate group keeps the two kinds of exchange apart.
    """
    world = distributed.group.WORLD
    if world not in _groups:
        _groups.clear()
        _groups[world] = distributed.new_group()
    return _groups[world]


def shared_count(number: int | Tensor, like: Tensor) -> Tensor:
    """Return the divisor of this process's sum over `number` rows, a scalar on the device of `like`.

    With it the average over processes is the mean over all rows: rows of all processes / W, never 0.
    """
    if isinstance(number, Tensor):
        total = number.float()
    else:
        total = torch.full((), float(number), device=like.device)  # no copy from the CPU
    if count() > 1:
        distributed.all_reduce(total)
    return total.clamp(min=1) / count()


def mean(costs: Tensor, number: Tensor | None = None) -> Tensor:
    """Return the sum of (n,) costs, divided so that the average over processes is the mean; 0 for none.

    number: how many of the costs count, a scalar; the others are 0. None: all.
    """
    return costs.sum() / shared_count(costs.numel() if number is None else number, costs)


def averaged(values: Tensor) -> Tensor:
    """Return the average of the processes' values, without gradients."""
    values = values.detach().clone()
    if count() > 1:
        distributed.all_reduce(values)
    return values / count()


class _Shared(nn.modules.batchnorm._NormBase):
    """Batch norm with the statistics of all processes in training; in evaluation, torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (n, C, ...) normalized by the mean and variance over all processes."""
        if not self.training or count() == 1:
            result: Tensor = super().forward(input)
            return result
        width, rest = input.shape[1], [1] * (input.dim() - 2)
        rows = input.numel() // width
        spread, middle = torch.var_mean(input, dim=[n for n in range(input.dim()) if n != 1], correction=0)
        own = torch.cat([middle, spread]).nan_to_num(0)  # a process may have no rows
        parts = gathered(torch.cat([own, own.new_tensor([float(rows)])])[None])
        share = parts[:, -1:].detach() / parts[:, -1].detach().sum()
        middle = (share * parts[:, :width]).sum(0)
        spread = (share * (parts[:, width:-1] + (parts[:, :width] - middle) ** 2)).sum(0)
        self._remember(middle.detach(), spread.detach(), parts[:, -1].detach().sum())
        scale, shift = torch.rsqrt(spread + self.eps), -middle * torch.rsqrt(spread + self.eps)
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return torch.addcmul(shift.view(-1, *rest), input, scale.view(-1, *rest))

    @torch.no_grad()
    def _remember(self, middle: Tensor, spread: Tensor, total: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(middle, self.momentum)
        self.running_var.lerp_(spread * total / (total - 1).clamp(min=1), self.momentum)
        self.num_batches_tracked += 1


class SharedBatchNorm1d(_Shared, nn.BatchNorm1d):
    """Batch norm of rows over all processes."""


class SharedBatchNorm2d(_Shared, nn.BatchNorm2d):
    """Batch norm of maps over all processes."""


SHARED: dict[type, type[_Shared]] = {nn.BatchNorm1d: SharedBatchNorm1d, nn.BatchNorm2d: SharedBatchNorm2d}


def share_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module with batch norms over all processes; parameters keep their names.

    On a GPU they are torch's SyncBatchNorm, which does not work on a CPU.
    """
    if count() > 1 and device.type == "cuda":
        result: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return result
    for part in module.modules() if count() > 1 else ():
        if type(part) in SHARED and part.track_running_stats and part.momentum is not None:
            part.__class__ = SHARED[type(part)]
    return module


def broadcast(value: Any) -> Any:
    """Return the value of process 0, a small object, in all processes; blocks until all have called it."""
    if count() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]
