"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class EMA:
    """A copy of a network whose weights follow it slowly.

    Args:
        network: What to follow.
        decay: Share of the old average kept at each step, in [0, 1); it begins lower and rises as
            (1 + step) / (10 + step), so that the first random weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = [p.data for p in self.network.parameters()]
        current = [p.data for p in network.parameters()]
        torch._foreach_lerp_(averages, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for average, now in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(now)
