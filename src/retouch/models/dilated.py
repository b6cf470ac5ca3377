"""Dilated U-Net: the default network, small and local, trained by Retouch itself.

A network of our own, for the first fill on a laptop. It is none of the five published systems
because none of them is at once small, local and fast on a CPU: the reasons and measurements are in
`docs/networks/dilated.md`.

What decides its form:
  - a CPU pays for memory traffic, not for products: a 3x3 convolution of 40 channels at full size
    takes five times as long per picture as one of 160 channels at a quarter or 320 at an eighth of
    the size. So nothing wide is ever computed at full size: the input is folded to half size
    (pixel unshuffle), the output unfolded (pixel shuffle), and one thin convolution that sees the
    known pixels again finishes the picture;
  - dilated residual blocks without normalisation see far and stay local, so that tiles of a large
    picture agree;
  - the second convolution of each block starts at zero (Zhang et al. 2019, "Fixup"), which
    replaces normalisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from retouch.data.batch import Batch
from retouch.layers.strips import add_in_strips, in_strips
from retouch.losses.perceptual import perceptual_terms
from retouch.losses.reconstruction import masked_l1
from retouch.models._card import Card


@dataclass(frozen=True, kw_only=True)
class DilatedConfig:
    """Hyper-parameters; the defaults are those of the weights in the package."""

    channels: tuple[int, int, int] = (64, 160, 320)
    """Channels at 1/2, 1/4 and 1/8 of the size."""
    half: int = 1
    """Residual blocks at 1/2, on either side."""
    quarter_in: tuple[int, ...] = (1, 2, 4)
    """Dilations of the residual blocks at 1/4 on the way down."""
    eighth: tuple[int, ...] = (1, 2, 4, 8)
    """Dilations of the residual blocks at 1/8."""
    quarter_out: tuple[int, ...] = (4, 2, 1, 1)
    """Dilations of the residual blocks at 1/4 on the way up."""

    def __post_init__(self) -> None:
        if len(self.channels) != 3 or min(self.channels) < 4:
            raise ValueError(f"channels must be three numbers of at least 4, got {self.channels}")


class ResidualBlock(nn.Module):
    """x + conv(gelu(dilated conv(x))); the last convolution starts at zero."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        gelu = functional.gelu
        return add_in_strips((gelu, self.first, gelu, self.second), x)


class Up(nn.Module):
    """Twice the size by sub-pixel convolution, then a 1x1 merge with the skip."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 4 * out, 1)
        self.merge = nn.Conv2d(2 * out, out, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return in_strips(self._merged, x, skip, halo=0, scale=2)

    def _merged(self, x: Tensor, skip: Tensor) -> Tensor:
        x = functional.pixel_shuffle(self.expand(x), 2)  # (b, out, 2h, 2w)
        return self.merge(torch.cat([x, skip], dim=1))


class DilatedUNet(nn.Module):
    """Generator. Every output pixel depends on a bounded neighbourhood."""

    def __init__(self, config: DilatedConfig = DilatedConfig()) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.channels
        self.stem = nn.Conv2d(16, half, 3, padding=1)
        self.half_in = _blocks(half, (1,) * config.half)
        self.down_quarter = nn.Conv2d(half, quarter, 4, stride=2, padding=1)
        self.quarter_in = _blocks(quarter, config.quarter_in)
        self.down_eighth = nn.Conv2d(quarter, eighth, 4, stride=2, padding=1)
        self.eighth = _blocks(eighth, config.eighth)
        self.up_quarter = Up(eighth, quarter)
        self.quarter_out = _blocks(quarter, config.quarter_out)
        self.up_half = Up(quarter, half)
        self.half_out = _blocks(half, (1,) * config.half)
        self.expand = nn.Conv2d(half, 64, 3, padding=1)
        self.finish = nn.Conv2d(16 + 4, 3, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict every pixel; known pixels are not copied (see `retouch.pipeline.compositing`).

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; values under the mask are ignored.
            mask: (b, 1, h, w) in {0, 1}, 1 = hole; h and w multiples of 8.

        Returns:
            (b, 3, h, w) RGB in [0, 1].
        """
        half = in_strips(self._entered, image, mask, halo=2, scale=0.5)
        half = self.half_in(half)  # (b, c1, h/2, w/2)
        quarter = self.quarter_in(self.down_quarter(half))  # (b, c2, h/4, w/4)
        x = self.eighth(self.down_eighth(quarter))  # (b, c3, h/8, w/8)
        x = self.quarter_out(self.up_quarter(x, quarter))
        x = self.half_out(self.up_half(x, half))
        return in_strips(self._finished, x, image, mask, halo=2, scale=2)

    def _entered(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.stem(functional.pixel_unshuffle(_seen(image, mask), 2))

    def _finished(self, x: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        x = functional.pixel_shuffle(self.expand(functional.gelu(x)), 2)  # (b, 16, h, w)
        seen = _seen(image, mask).to(x.dtype)
        x = self.finish(torch.cat([functional.gelu(x), seen], dim=1))
        return (torch.tanh(x.to(image.dtype)) + 1) / 2


def _seen(image: Tensor, mask: Tensor) -> Tensor:
    """Known pixels in [-1, 1], 0 in the hole, and the mask: (b, 4, h, w)."""
    return torch.cat([torch.where(mask > 0, 0, image * 2 - 1), mask], dim=1)


def _blocks(channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, dilation) for dilation in dilations))


class HoleCritic(nn.Module):
    """Patch critic that sees the mask and judges cell by cell, at 1/8 of the size.

    Args:
        width: Channels of the first layer; 2x, 4x and 6x in the next three.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        sizes = (4, width, 2 * width, 4 * width, 6 * width)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4 if stride == 2 else 3, stride, padding=1))
            for (a, b), stride in zip(pairwise(sizes), (2, 2, 2, 1), strict=True)
        )
        self.head = spectral_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Logits (b, 1, h/8, w/8), float32; high means real."""
        x = torch.cat([image * 2 - 1, mask], dim=1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        return self.head(x).float()


@dataclass(frozen=True, kw_only=True)
class DilatedObjectiveConfig:
    """What the generator pays for, and how the critic is built."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "hole": 1.0,
            "known": 0.3,
            "content": 0.5,
            "unit_content": 0.0,
            "style": 60.0,
            "adversarial": 0.05,
        }
    )
    """Weight of each generator term; content and style fit the unit-mean VGG-19."""
    content_layers: tuple[str, ...] = ("relu2_1", "relu3_1", "relu4_1")
    """VGG-19 maps whose mean absolute difference is the content term."""
    style_layers: tuple[str, ...] = ("relu2_1", "relu3_1", "relu4_1")
    """VGG-19 maps whose Gram difference is the style term."""
    critic_width: int = 48
    """Channels of the critic's first layer."""


class DilatedObjective(nn.Module):
    """L1 in and outside the hole, VGG-19 content and style of the composite, a critic of the hole.

    Args:
        config: Weights and choices.
        features: A `VGG19`, or None to train without content and style terms.
    """

    def __init__(
        self,
        config: DilatedObjectiveConfig = DilatedObjectiveConfig(),
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.critics = nn.ModuleDict({"critic": HoleCritic(config.critic_width)})

    def predict(self, network: nn.Module, batch: Batch) -> Tensor:
        """One pass of the generator."""
        return network(batch.image, batch.mask)

    def generator_terms(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms; each is a scalar."""
        image, mask = batch.image, batch.mask
        composite = outputs * mask + image * (1 - mask)
        verdict = self.critics["critic"](composite, mask)
        cells = _hole_cells(mask, verdict)
        terms = {
            "hole": masked_l1(outputs, image, mask, batch.hole_share),
            "known": masked_l1(outputs, image, 1 - mask, 1 - batch.hole_share),
            "adversarial": -(verdict * cells).mean() / batch.hole_share.clamp(min=1e-8),
        }
        contents, styles = self.config.content_layers, self.config.style_layers
        return terms | perceptual_terms(
            self.features, composite, image, contents, styles, self.config.weights
        )

    def critic_terms(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Hinge loss per cell: a fake cell counts by its hole share, its rest half as real."""
        image, mask = batch.image, batch.mask
        composite = outputs.detach() * mask + image * (1 - mask)
        critic = self.critics["critic"]
        real, fake = critic(torch.cat([image, composite]), torch.cat([mask, mask])).chunk(2)
        cells = _hole_cells(mask, fake)
        share = batch.hole_share.clamp(min=1e-8)
        on_real = functional.relu(1 - real).mean()
        on_fake = (functional.relu(1 + fake) * cells).mean() / share
        on_known = (functional.relu(1 - fake) * (1 - cells)).mean() / 2
        return {"critic": (on_real + on_fake + on_known) / 2}


def _hole_cells(mask: Tensor, logits: Tensor) -> Tensor:
    """Hole share of each cell that the critic judges, (b, 1, h/8, w/8)."""
    return functional.interpolate(mask, logits.shape[-2:], mode="area")


def _context(config: DilatedConfig) -> int:
    """Follow what one cell depends on, from the output to the input, in pixels of each level."""
    half_out = 1 + 1 + 2 * config.half  # the final convolution ends inside the next cell
    quarter_out = -(-half_out // 2) + sum(d + 1 for d in config.quarter_out)
    eighth = -(-quarter_out // 2) + sum(d + 1 for d in config.eighth)
    quarter_in = 2 * eighth + 1 + sum(d + 1 for d in config.quarter_in)
    return 2 * (2 * quarter_in + 1 + 2 * config.half + 1)


CARD = Card(
    model=DilatedUNet,
    config=DilatedConfig,
    paper="Retouch's own, docs/networks/dilated.md",
    license="none published",
    cost=2.8,
    objective=DilatedObjective,
    objective_config=DilatedObjectiveConfig,
    multiple_of=8,
    min_size=16,
    working_size=512,
    context=_context,
    reach=80,  # trained on crops of 128 px: the middle of thicker holes is guessed
    mirror=True,  # LPIPS .1337 to .1311, PSNR 25.73 to 25.97 dB on 48 held-out scenes
    small={"channels": (8, 16, 16)},
)
