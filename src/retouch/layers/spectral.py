"""Convolutions of unit spectral norm, as ISNet, SRPNet and the critics use them.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018,
arXiv:1802.05957. The values follow PyTorch's first form (`torch.nn.utils.spectral_norm`), with
which all official checkpoints were made: every forward in training mode does one power iteration,
first v, then u; evaluation uses the stored vectors. PyTorch's newer parametrization iterates in
the other order, so it could not repeat their training.

In a state dict a layer has `weight`, `u` and `v`; official files call them `weight_orig`,
`weight_u` and `weight_v`.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch.layers.padding import without_autocast

__all__ = [
    "SpectralConv2d",
    "fold_spectral",
    "from_official_keys",
    "release_spectral",
    "settle_spectral",
    "start_isometric",
    "to_official_keys",
]

Network = TypeVar("Network", bound=nn.Module)

_EPSILON = 1e-12  # torch.nn.utils.spectral_norm's default
_TO_OFFICIAL = {"weight": "weight_orig", "u": "weight_u", "v": "weight_v"}
_FROM_OFFICIAL = {official: ours for ours, official in _TO_OFFICIAL.items()}


class SpectralConv2d(nn.Conv2d):
    """A convolution whose kernel is divided by its largest singular value, estimated iteratively.

    The kernel counts as the matrix (outputs, inputs * k * k). The estimate is computed in float32
    or better, under autocast and in half-precision networks too.
    """

    u: Tensor
    v: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=bias,
        )
        rows, columns = self.weight.flatten(1).shape
        self.register_buffer("u", F.normalize(self.weight.new_empty(rows).normal_(), dim=0))
        self.register_buffer("v", F.normalize(self.weight.new_empty(columns).normal_(), dim=0))

    def unit_weight(self) -> Tensor:
        """Return the kernel divided by sigma; in training mode after one power iteration."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        with without_autocast(self.weight.device.type):  # CUDA's runs `mv` in half precision
            matrix = self.weight.flatten(1).to(wide)
            u, v = self.u.to(wide), self.v.to(wide)
            if self.training:
                # Fresh tensors enter the graph: the buffers change again before its backward pass.
                u, v = _iterate(matrix.detach(), u)
                with torch.no_grad():
                    self.u.copy_(u)
                    self.v.copy_(v)
            sigma = (u * torch.mv(matrix, v)).sum()
            return (self.weight / sigma).to(self.weight.dtype)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.unit_weight(), self.bias)

    @torch.no_grad()
    def settle(self, iterations: int) -> None:
        """Bring u and v close to the leading singular vectors of the present kernel."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        matrix = self.weight.flatten(1).to(wide)
        u, v = self.u.to(wide), self.v.to(wide)
        for _ in range(iterations):
            u, v = _iterate(matrix, u)
        self.u.copy_(u)
        self.v.copy_(v)


def settle_spectral(network: nn.Module, iterations: int = 15) -> None:
    """Settle every spectral layer of `network`; a fresh one divides by an arbitrary number.

    Args:
        network: Changed in place; weights stay, only the power iteration's vectors move.
        iterations: Power iterations per layer.
    """
    for module in network.modules():
        if isinstance(module, SpectralConv2d):
            module.settle(iterations)


def start_isometric(network: nn.Module, *, identity: Sequence[str]) -> None:
    """Let a fresh network pass on the length of its input: under unit norms it otherwise shrinks.

    All singular values of an orthogonal kernel are 1, those of a random one mostly far below its
    largest, so that a chain of random kernels divided by theirs loses the signal.

    Args:
        network: Every spectral layer of it gets a new kernel; settle it afterwards.
        identity: Parts of names; layers named so pass their first channels on, with some noise.
    """
    for name, module in network.named_modules():
        if isinstance(module, SpectralConv2d):
            if any(part in name for part in identity):
                nn.init.dirac_(module.weight)
                module.weight.data.add_(torch.randn_like(module.weight), alpha=0.01)
            else:
                nn.init.orthogonal_(module.weight)


def fold_spectral(network: Network) -> Network:
    """Copy `network` for inference with plain convolutions that hold the normalised kernels.

    The copy's output equals the evaluation mode of the original bit for bit; `network` is left
    alone. A network without spectral layers comes back as a plain copy.

    Args:
        network: Any module but a bare `SpectralConv2d`.

    Returns:
        The copy, in evaluation mode.
    """
    folded = copy.deepcopy(network).eval()
    release_spectral(folded)
    return folded


def release_spectral(network: nn.Module) -> None:
    """Exchange spectral convolutions for plain ones that start with the normalised kernels.

    Args:
        network: Changed in place, but for a bare `SpectralConv2d`; settle it before.
    """
    training = network.training
    network.eval()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SpectralConv2d):
                setattr(parent, name, _plain(child))
    network.train(training)


def from_official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename `weight_orig`, `weight_u`, `weight_v` to `weight`, `u`, `v`; other keys stay."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        scope, dot, name = key.rpartition(".")
        renamed[scope + dot + _FROM_OFFICIAL.get(name, name)] = value
    return renamed


def to_official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our spectral layers' keys back to the official ones; other keys stay."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        scope, dot, name = key.rpartition(".")
        spectral = f"{scope}{dot}u" in state
        renamed[scope + dot + (_TO_OFFICIAL.get(name, name) if spectral else name)] = value
    return renamed


def _iterate(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=_EPSILON)
    return F.normalize(torch.mv(matrix, v), dim=0, eps=_EPSILON), v


def _plain(layer: SpectralConv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        cast(tuple[int, int], layer.kernel_size),
        stride=cast(tuple[int, int], layer.stride),
        padding=cast(tuple[int, int], layer.padding),
        dilation=cast(tuple[int, int], layer.dilation),
        bias=False,
        device="meta",
    )
    plain.weight = nn.Parameter(
        layer.unit_weight().detach(), requires_grad=layer.weight.requires_grad
    )
    plain.bias = layer.bias
    return plain.eval()
