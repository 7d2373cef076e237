"""The exponential moving average of a network's weights: `--ema-decay`, and the default detector."""

import copy

import torch
from torch import Tensor, nn


class Average:
    """A copy of a network that holds the moving average of its weights.

    The decay is lower in the first steps, so that the initial weights are soon forgotten. Buffers, such as
    the statistics of batch norm, are copied.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Add the network's weights after `step` steps, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, list(network.parameters()), 1 - decay)
        for copied, current in zip(self.network.buffers(), network.buffers(), strict=True):
            copied.copy_(current)
