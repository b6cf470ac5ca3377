"""A start for SRPNet with which colours reach the output before it has learned to paint.

In photos red against blue, and green against both, vary far less than brightness, and training
hardly finds them: after twenty thousand pictures green was still brown, in known pixels too.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

_STRENGTH = (3.0, 6.0)
"""How much stronger than in the picture the two are carried."""
_ROOM = 1.7
"""Neither goes beyond this in a picture in [-1, 1]."""


@torch.no_grad()
def start_colours(state: Mapping[str, Tensor], slope: float = 0.2) -> None:
    """Let the features of the first level carry both colours to the output.

    The channels that count least are taken for it: trained weights may be given this start, too.

    Args:
        state: `SRPNet.state_dict()`; is changed.
        slope: Negative slope of the first level's activation.
    """
    axes = functional.normalize(torch.tensor([[1.0, 0, -1], [1, -2, 1]]), dim=1)
    strength = torch.tensor(_STRENGTH)
    width = len(state["down.0.conv.weight"])
    mixing = [f"attend.0.convs.{n}" for n in range(4)]
    own = _least_used(4, *(state[f"{name}.weight"] for name in ("down.1.conv", *mixing)))
    copied = width + _least_used(2, *(state[f"{name}.weight"][:, width:] for name in _DECODED))
    hidden = _least_used(2, state["head.2.weight"])

    for name in ("down.1.conv", *mixing):
        state[f"{name}.weight"][:, own] = 0
    for name in _DECODED:
        state[f"{name}.weight"][:, copied] = 0
    _encode(state, own, axes * strength[:, None])
    for axis in (0, 1):
        conv, row = divmod(int(copied[axis]) - width, width // 4)
        weight, bias = (state[f"{mixing[conv]}.{kind}"] for kind in ("weight", "bias"))
        weight[row] = 0
        weight[row, own[axis], 1, 1] = 1 / (1 + slope)
        weight[row, own[axis + 2], 1, 1] = -1 / (1 + slope)
        bias[row] = _ROOM * strength[axis]  # never below zero, so that ReLU lets all pass
    weight, bias = state["head.0.weight"], state["head.0.bias"]
    weight[hidden], bias[hidden] = 0, 0
    weight[hidden, copied, 1, 1] = 1
    weight, bias = state["head.2.weight"], state["head.2.bias"]
    grey = torch.eye(3) - axes.T @ axes  # of what was painted brightness stays
    weight.copy_(torch.einsum("ij,jkhw->ikhw", grey, weight))
    weight[:, hidden] = 0
    weight[:, hidden, 1, 1] = axes.T / strength
    bias.copy_(grey @ bias - _ROOM * axes.sum(0))


_DECODED = ("head.0", "to_rgb.0")
"""They read what is decoded, then what attention has copied."""


def _encode(state: Mapping[str, Tensor], channels: Tensor, axes: Tensor) -> None:
    """Make four channels of the first level two colours and their opposites."""
    blur = torch.tensor([0.25, 0.5, 0.25])
    kernel = axes[..., None, None] * blur.outer(blur)
    weight, bias = state["down.0.conv.weight"], state["down.0.conv.bias"]
    weight[channels], bias[channels] = 0, 0
    weight[channels, :3] = torch.cat([kernel, -kernel])
    for name in state:
        if name.startswith("down.0.blocks.") and ".second." in name:
            state[name][channels] = 0


def _least_used(count: int, *readers: Tensor) -> Tensor:
    """Indices of the input channels that count least in kernels (out, in, h, w)."""
    read = torch.stack([kernel.square().sum(dim=(0, 2, 3)) for kernel in readers])
    return read.sum(dim=0).argsort()[:count]
