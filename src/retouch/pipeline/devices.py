"""Where a network runs, in which precision, and how it is made ready for that."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from retouch.layers.lookup import Lookup
from retouch.layers.spectral import fold_spectral

Precision = Literal["auto", "float32", "bf16"]


class OptionError(ValueError):
    """An option is out of range, or does not go with the network or the machine."""


def choose(name: str) -> torch.device:
    """Turn a name into a device.

    Args:
        name: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`; `openvino` is the
            CPU, too.

    Raises:
        OptionError: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "openvino":
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(
            f"no device named {name!r}; there are auto, cpu, cuda, mps, openvino"
        ) from None
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


def prepare(network: nn.Module, device: torch.device, *, bf16: bool) -> nn.Module:
    """Make a copy of a network that is only run: all that is done for its speed is done here.

    Spectral norms are folded into their kernels, maps are stored pixel by pixel (channels_last,
    the layout that convolutions compute in), and the weights that bf16 computes with are stored in
    it, so that no pass converts them again.

    Args:
        network: Of any kind; it is left alone.
        device: Where the copy lies.
        bf16: Whether it will run inside `autocast(device, True)`, as it then must.

    Returns:
        A network of the same class, in evaluation mode.
    """
    ready = fold_spectral(network).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for module in ready.modules() if bf16 else ():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.to(torch.bfloat16)
    return ready.requires_grad_(False)


@contextmanager
def autocast(device: torch.device, bf16: bool) -> Iterator[None]:
    """Context in which a network runs."""
    if not bf16:
        yield
        return
    with torch.autocast(device.type, torch.bfloat16), Lookup():
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from a seed; what was drawn before goes on afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
