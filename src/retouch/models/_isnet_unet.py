"""The UNet-like network that ISNet is compared with in its Table 1."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from retouch.layers.residual import DilatedResidualBlock


class UNetLike(nn.Module):
    """EdgeConnect's generator with three reductions. RGB in [0, 1] to logits, both (b, 3, h, w)."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width, 8 * width]
        self.entry = nn.Conv2d(3, width, 7)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(sizes)
        )
        self.middle = nn.Sequential(*(DilatedResidualBlock(8 * width) for _ in range(blocks)))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 4, stride=2, padding=1)
            for a, b in reversed(list(pairwise(sizes)))
        )
        self.head = nn.Conv2d(width, 3, 7)

    def forward(self, known: Tensor) -> Tensor:
        x = F.relu(F.instance_norm(self.entry(F.pad(known, (3,) * 4, mode="reflect"))))
        for conv in self.down:
            x = F.relu(F.instance_norm(conv(x)))
        x = self.middle(x)  # (b, 8c, h/8, w/8)
        for conv in self.up:
            x = F.relu(F.instance_norm(conv(x)))
        return self.head(F.pad(x, (3,) * 4, mode="reflect"))
