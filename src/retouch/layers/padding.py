"""Padding that stays in the precision of its maps."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["mirrored", "without_autocast"]


def mirrored(x: Tensor, margin: int) -> Tensor:
    """Continue a map on all sides: mirrored, or its edge repeated where it is too small for that.

    Autocast on a CPU pads in float32, which takes two copies of twice the size for the same result.

    Args:
        x: (b, c, h, w).
        margin: [px]; 0 returns the map itself.

    Returns:
        (b, c, h + 2 * margin, w + 2 * margin).
    """
    if margin == 0:
        return x
    h, w = x.shape[-2:]
    if min(h, w) <= margin:  # gathered: compilers mistake the layout of "replicate" on its way back
        rows, columns = (torch.arange(-margin, n + margin, device=x.device) for n in (h, w))
        return x[:, :, rows.clamp(0, h - 1)][..., columns.clamp(0, w - 1)]
    with without_autocast(x.device.type):
        return functional.pad(x, (margin,) * 4, mode="reflect")


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Context without autocast; entered only where it is on, so that exporters never meet it."""
    if device != "meta" and torch.is_autocast_enabled(device):  # it knows no tensors without data
        return torch.autocast(device, enabled=False)
    return nullcontext()
