"""EdgeConnect's residual block, of ISNet's UNet-like rival and of SRPNet's encoder."""

import torch.nn.functional as F
from torch import Tensor, nn

from retouch.layers.normalization import instance_norm
from retouch.layers.padding import mirrored


class DilatedResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(dilated conv(x))))): 3x3, dilation 2, instance norm without scale.

    Nazeri et al., ICCV Workshops 2019, arXiv:1901.00212. Reflection padding, as published, needs
    maps larger than the padding; smaller ones get replicated edges, and a 1x1 map, which has no
    variance, is not normalised. At such sizes there is nothing published to match.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, dilation=2)
        self.second = nn.Conv2d(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(_normalised(self.first(mirrored(x, 2))), inplace=True)
        return x + _normalised(self.second(mirrored(inner, 1)))


def _normalised(x: Tensor) -> Tensor:
    return instance_norm(x) if x.shape[-2] * x.shape[-1] > 1 else x
