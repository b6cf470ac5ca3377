"""Instance normalisation that keeps the layout of its maps.

PyTorch's reshapes to one long batch, which only maps stored plane by plane survive: maps stored
pixel by pixel (channels_last), as convolutions on a CPU want them, are copied there and back around
every norm. Of one sample, the batch norm of a training step is the same thing in any layout.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["InstanceNorm2d", "instance_norm"]


def instance_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Bring each map of each sample to mean 0 and variance 1, then scale and shift it.

    Args:
        x: (b, c, h, w), in any layout.
        weight: (c,) scales, or None.
        bias: (c,) shifts, or None.
        eps: Added to the variance.

    Returns:
        (b, c, h, w), in the layout of x.
    """
    pixelwise = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    if x.device.type != "cpu" or not pixelwise or torch.compiler.is_exporting():
        return functional.instance_norm(x, weight=weight, bias=bias, eps=eps)
    samples = [
        torch.batch_norm(sample, weight, bias, None, None, True, 0.0, eps, False)
        for sample in x.split(1)
    ]
    return samples[0] if len(samples) == 1 else torch.cat(samples)


class InstanceNorm2d(nn.InstanceNorm2d):
    """The module of it; statistics always come from the sample itself."""

    def forward(self, input: Tensor) -> Tensor:
        return instance_norm(input, self.weight, self.bias, self.eps)
