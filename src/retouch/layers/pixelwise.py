"""Layers for maps (b, c, h, w) stored pixel by pixel: of single pixels, and rows repeated."""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LayerNorm", "Linear", "Taller", "linear"]


class Linear(nn.Linear):
    """A 1x1 convolution as a matrix product of pixels and weights (outputs, inputs)."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply (outputs, inputs) weights to each pixel of (b, inputs, h, w)."""
    return functional.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


class LayerNorm(nn.LayerNorm):
    """Brings each pixel's channels to mean 0 and variance 1, then scales and shifts them."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Taller(nn.Module):
    """Repeats each row: (b, c, h, w) to (b, c, factor * h, w)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        lines = x.permute(0, 2, 3, 1)[:, :, None].expand(-1, -1, self.factor, -1, -1)
        return lines.flatten(1, 2).permute(0, 3, 1, 2)
