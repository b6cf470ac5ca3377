"""Critics that more than one network uses: patch classifiers of a picture, real against made.

`PatchCritic` is EdgeConnect's 70x70 PatchGAN (Nazeri et al., ICCV Workshops 2019,
arXiv:1901.00212), shared by ISNet (github.com/GuardSkill/Large-Scale-Feature-Inpainting @ 49b9b0b)
and SEM-Net (github.com/ChrisChen1023/SEM-Net @ 1a5dcd0). `WideCritic` is PEN-Net's
(github.com/researchmm/PEN-Net-for-Inpainting @ 8721a55, MIT), which SRPNet uses twice with other
strides.

Differences from the references: both return logits; the official classes apply a sigmoid for the
losses that need one, here `retouch.losses.adversarial` works on logits. The vectors of the spectral
norm are settled when a critic is made.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from retouch.layers.spectral import (
    SpectralConv2d,
    from_official_keys,
    settle_spectral,
    to_official_keys,
)

__all__ = [
    "PatchCritic",
    "WideCritic",
    "frozen",
    "is_official_patch_critic",
    "is_official_wide_critic",
    "patch_critic_from_official",
    "patch_critic_to_official",
    "wide_critic_from_official",
    "wide_critic_to_official",
]

_SLOPE = 0.2


class PatchCritic(nn.Module):
    """EdgeConnect's critic: five 4x4 convolutions of unit spectral norm, without biases.

    Strides 2, 2, 2, 1, 1: each logit sees 70x70 px, 256 px in give 30x30 logits. 2,763,776
    parameters at width 64.
    """

    def __init__(self, *, channels: int = 3, width: int = 64, init_std: float = 0.02) -> None:
        """Create the critic with random weights.

        Args:
            channels: Channels of the picture.
            width: Channels after the first convolution.
            init_std: Standard deviation of the weights (EdgeConnect and SEM-Net 0.02, ISNet 0.001).
        """
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width, 1)
        self.convs = nn.ModuleList(
            SpectralConv2d(a, b, 4, stride=stride, padding=1)
            for a, b, stride in zip(widths[:-1], widths[1:], (2, 2, 2, 1, 1), strict=True)
        )
        _initialise(self, init_std)

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of all five layers, the logits last, for the feature matching loss.

        Args:
            image: (b, 3, h, w) in the range the network's objective feeds, at least 24 px a side.
        """
        outputs: list[Tensor] = []
        x = image
        for conv in self.convs[:-1]:
            x = F.leaky_relu(conv(x), _SLOPE)
            outputs.append(x)
        return (*outputs, self.convs[-1](x))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (b, 1, h/8 - 2, w/8 - 2); positive means real."""
        return self.features(image)[-1]


class WideCritic(nn.Module):
    """PEN-Net's critic: four 5x5 convolutions of unit spectral norm and a plain 5x5 classifier.

    4,318,401 parameters at width 64. 256 px in give 27x27 logits with PEN-Net's strides, 7x7 with
    SRPNet's.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        width: int = 64,
        strides: Sequence[int] = (2, 2, 2, 1, 1),
        init_std: float = 0.02,
    ) -> None:
        """Create the critic with random weights.

        Args:
            channels: Channels of the picture.
            width: Channels after the first convolution.
            strides: One stride per convolution, the classifier's last: (2, 2, 2, 1, 1) in PEN-Net,
                (2, 2, 2, 2, 2) in SRPNet.
            init_std: Standard deviation of the weights; biases start at 0.

        Raises:
            ValueError: If there are not five strides.
        """
        super().__init__()
        if len(strides) != 5:
            raise ValueError(f"strides must be five, got {tuple(strides)}")
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        self.convs = nn.ModuleList(
            SpectralConv2d(a, b, 5, stride=stride, padding=1)
            for a, b, stride in zip(widths[:-1], widths[1:], strides[:4], strict=True)
        )
        self.classifier = nn.Conv2d(8 * width, 1, 5, stride=strides[4], padding=1)
        _initialise(self, init_std)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (b, 1, h', w'); positive means real.

        Args:
            image: (b, 3, h, w) in the range the network's objective feeds, at least 64 px a side.
        """
        x = image
        for conv in self.convs:
            x = F.leaky_relu(conv(x), _SLOPE)
        return self.classifier(x)


@contextmanager
def frozen(critic: nn.Module) -> Iterator[None]:
    """Keep the critic's parameters out of graphs built inside: it judges, but does not learn."""
    learning = [parameter for parameter in critic.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def is_official_patch_critic(state: Mapping[str, Tensor]) -> bool:
    """Whether a bare state dict is EdgeConnect's, ISNet's or SEM-Net's critic."""
    return {"conv1.0.weight_orig", "conv5.0.weight_orig"} <= state.keys()


def patch_critic_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert an official state dict to one of `PatchCritic`.

    Official files hold the first layer twice, as `conv1.0.*` and as `features.0.*`; either will do.

    Raises:
        ValueError: If the two copies differ.
    """
    state = dict(state)
    for name in ("weight_orig", "weight_u", "weight_v"):
        twin = state.pop(f"features.0.{name}", None)
        if twin is not None and not state.setdefault(f"conv1.0.{name}", twin).equal(twin):
            raise ValueError(f"conv1.0.{name} and features.0.{name} must be equal, but they differ")
    return {
        f"convs.{int(key[4]) - 1}.{key.removeprefix(key[:8])}" if key[:4] == "conv" else key: value
        for key, value in from_official_keys(state).items()
    }


def patch_critic_to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of `PatchCritic` to the official names, duplicates included."""
    official: dict[str, Tensor] = {}
    for key, value in to_official_keys(state).items():
        _, index, name = key.split(".")
        official[f"conv{int(index) + 1}.0.{name}"] = value
        if index == "0":
            official[f"features.0.{name}"] = value
    return official


def is_official_wide_critic(state: Mapping[str, Tensor]) -> bool:
    """Whether a bare state dict is PEN-Net's critic."""
    return {"encoder.6.weight_orig", "classifier.bias"} <= state.keys()


def wide_critic_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert an official state dict to one of `WideCritic`."""
    return {
        f"convs.{int(key[8]) // 2}{key[9:]}" if key.startswith("encoder.") else key: value
        for key, value in from_official_keys(state).items()
    }


def wide_critic_to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of `WideCritic` to the official names."""
    return {
        f"encoder.{2 * int(key[6])}{key[7:]}" if key.startswith("convs.") else key: value
        for key, value in to_official_keys(state).items()
    }


def _initialise(critic: nn.Module, std: float) -> None:
    for module in critic.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    settle_spectral(critic)
