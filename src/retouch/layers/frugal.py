"""Activations that take no second map."""

import torch
from torch import Tensor, nn

__all__ = ["Tanh"]


class Tanh(nn.Module):
    """Hyperbolic tangent in place, for maps of which only the result is read."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh_(x)
