"""A running mean of a network's weights: often better than the last ones, and steadier to validate."""

import copy

import torch
from torch import Tensor, nn


class Average:
    """A network beside another one whose weights are the exponential mean of the other's, step by step.

    Early on the mean follows closely, so that it does not remember how the network began. Buffers, such as
    the statistics of batch norms, are means already and are taken over as they are.
    """

    def __init__(self, network: nn.Module, keep: float):
        self.keep = keep
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """Move towards the network's weights after `step` steps, counted from 1."""
        keep = min(self.keep, (1 + step) / (10 + step))
        own: list[Tensor] = list(self.network.parameters())
        new: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(own, new, 1 - keep)
        for kept, seen in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(seen)
