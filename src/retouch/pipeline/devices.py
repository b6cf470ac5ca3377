"""Where a network runs and in which precision."""

from contextlib import nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bf16"]


class OptionError(ValueError):
    """An option is out of range, or does not go with the network or the machine."""


def choose(name: str) -> torch.device:
    """Turn a name into a device.

    Args:
        name: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        OptionError: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(f"no device named {name!r}; there are auto, cpu, cuda, mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError("device cuda was asked for, but PyTorch sees no CUDA GPU here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise OptionError("device mps was asked for, but PyTorch sees no Apple GPU here")
    return device


def computes_in_bf16(device: torch.device, precision: Precision) -> bool:
    """Whether to run in bf16: as asked, or where the processor has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device, bf16: bool) -> "torch.autocast | nullcontext[None]":
    """Context in which a network runs."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
