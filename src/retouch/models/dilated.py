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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from retouch.data.batch import Batch
from retouch.layers.frugal import gelu, summed
from retouch.layers.rows import rows
from retouch.layers.vgg import VGG19
from retouch.losses.perceptual import terms_of_maps
from retouch.losses.reconstruction import masked_l1
from retouch.models._card import Card

Maps = Mapping[str, Tensor]


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
        (given,) = rows(x)
        inner = given.through(gelu, self.first, gelu, self.second)
        return inner.joined(summed, given).into(x)


class Up(nn.Module):
    """Twice the size by sub-pixel convolution, then a 1x1 merge with the skip."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 4 * out, 1)
        self.unfold = nn.PixelShuffle(2)
        self.merge = nn.Conv2d(2 * out, out, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        low, high = rows(x, skip)
        return low.through(self.expand, self.unfold).beside(high).through(self.merge).into()


class DilatedUNet(nn.Module):
    """Generator. Every output pixel depends on a bounded neighbourhood."""

    def __init__(self, config: DilatedConfig = DilatedConfig()) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.channels
        self.fold = nn.PixelUnshuffle(2)
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
        self.unfold = nn.PixelShuffle(2)
        self.finish = nn.Conv2d(16 + 4, 3, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict every pixel; known pixels are not copied (see `retouch.pipeline.compositing`).

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; values under the mask are ignored.
            mask: (b, 1, h, w) in {0, 1}, 1 = hole; h and w multiples of 8.

        Returns:
            (b, 3, h, w) RGB in [0, 1].
        """
        seen, hole = rows(image, mask, channels=self.stem.out_channels)
        half = seen.joined(_seen, hole).through(self.fold, self.stem).into()
        half = self.half_in(half)  # (b, c1, h/2, w/2)
        quarter = self.quarter_in(self.down_quarter(half))  # (b, c2, h/4, w/4)
        x = self.eighth(self.down_eighth(quarter))  # (b, c3, h/8, w/8)
        x = self.up_quarter(x, quarter)
        del quarter  # nothing is kept that is not read again
        x = self.up_half(self.quarter_out(x), half)
        del half
        x = self.half_out(x)
        low, seen, hole = rows(x, image, mask, channels=self.expand.out_channels)
        high = low.through(gelu, self.expand, self.unfold, gelu)  # (b, 16, h, w)
        return (
            high.joined(_with_known, seen, hole)
            .through(self.finish)
            .through(lambda x: (torch.tanh(x.to(image.dtype)) + 1) / 2)
            .into()
        )


def _with_known(x: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([x, _seen(image, mask).to(x.dtype)], dim=1)


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


class FeatureCritic(nn.Module):
    """Judges maps of a frozen network, cell by cell: it need not learn to see first.

    The idea is that of projected GANs (Sauer et al., NeurIPS 2021, arXiv:2111.01007). Vectors of
    the maps are brought to one length, and the hole's share of each cell stands beside them.

    Args:
        channels: Of the maps.
        width: Channels inside.
    """

    def __init__(self, channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(c + 1, width, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, 1, 3, padding=1)),
            )
            for c in channels
        )

    def forward(self, maps: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        """Logits (b, 1, h', w') of each map (b, c, h', w'), float32; high means real."""
        verdicts: list[Tensor] = []
        for head, x in zip(self.heads, maps, strict=True):
            length = x.float().square().mean(1, keepdim=True).add(1e-6).rsqrt()
            seen = torch.cat([x * length.to(x.dtype), _hole_cells(mask, x).to(x.dtype)], dim=1)
            verdicts.append(head(seen).float())
        return verdicts


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
            "adversarial_features": 0.0,
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
    """L1 in and outside the hole, VGG-19 content and style of the composite, critics of the hole.

    Args:
        config: Weights and choices. `adversarial_features` above 0 adds a critic that judges the
            maps of `content_layers`.
        features: A `VGG19`, or None to train without what looks at its maps.
    """

    def __init__(
        self,
        config: DilatedObjectiveConfig = DilatedObjectiveConfig(),
        features: VGG19 | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.critics = nn.ModuleDict({"critic": HoleCritic(config.critic_width)})
        if features is not None and config.weights.get("adversarial_features"):
            widths = [features.width(name) for name in config.content_layers]
            self.critics["features"] = FeatureCritic(widths)
        self._seen: tuple[Tensor, Maps, Maps] | None = None

    def predict(self, network: nn.Module, batch: Batch) -> Tensor:
        """One pass of the generator."""
        return network(batch.image, batch.mask)

    def generator_terms(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms; each is a scalar."""
        image, mask, share = batch.image, batch.mask, batch.hole_share
        composite = _composite(outputs, batch)
        terms = {
            "hole": masked_l1(outputs, batch.aim, mask, share),
            "known": masked_l1(outputs, image, 1 - mask, 1 - share),
            "adversarial": _fooled(self.critics["critic"](composite, mask), mask, share),
        }
        if self.features is None:
            return terms
        found, aim = self._maps(self.features, outputs, batch)
        self._seen = None
        if "features" in self.critics:
            verdicts = self.critics["features"](self._judged(found), mask)
            fooled = [_fooled(verdict, mask, share) for verdict in verdicts]
            terms["adversarial_features"] = torch.stack(fooled).sum()
        contents, styles = self.config.content_layers, self.config.style_layers
        return terms | terms_of_maps(found, aim, contents, styles, self.config.weights)

    def critic_terms(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Hinge losses per cell, of the critic of pictures and, summed, of that of maps."""
        image, mask, share = batch.image, batch.mask, batch.hole_share
        composite = _composite(outputs.detach(), batch)
        twice = torch.cat([mask, mask])
        verdict = self.critics["critic"](torch.cat([image, composite]), twice)
        terms = {"critic": _told_apart(verdict, mask, share)}
        if self.features is not None and "features" in self.critics:
            found, truth = self._maps(self.features, outputs, batch)
            if batch.taught is not None:
                with torch.no_grad():
                    truth = self.features(batch.image, self.config.content_layers)
            pairs = zip(self._judged(truth), self._judged(found), strict=True)
            both = [torch.cat([real, fake.detach()]) for real, fake in pairs]
            verdicts = self.critics["features"](both, twice)
            apart = [_told_apart(verdict, mask, share) for verdict in verdicts]
            terms["critic_features"] = torch.stack(apart).sum()
        return terms

    def _judged(self, maps: Maps) -> list[Tensor]:
        return [maps[name] for name in self.config.content_layers]

    def _maps(self, features: VGG19, outputs: Tensor, batch: Batch) -> tuple[Maps, Maps]:
        """Maps of composite and aim, kept from the critics' turn for the network's."""
        if self._seen is None or self._seen[0] is not outputs:
            layers = {*self.config.content_layers, *self.config.style_layers}
            with torch.no_grad():
                aim = features(batch.aim, layers)
            self._seen = (outputs, features(_composite(outputs, batch), layers), aim)
        return self._seen[1:]


def _composite(outputs: Tensor, batch: Batch) -> Tensor:
    """What a person sees: the fill in the hole, the picture elsewhere."""
    return outputs * batch.mask + batch.image * (1 - batch.mask)


def _fooled(verdict: Tensor, mask: Tensor, share: Tensor) -> Tensor:
    """What the network pays for the verdict (b, 1, h', w') on its fill."""
    return -(verdict * _hole_cells(mask, verdict)).mean() / share.clamp(min=1e-8)


def _told_apart(verdict: Tensor, mask: Tensor, share: Tensor) -> Tensor:
    """Hinge loss of verdicts (2b, 1, h', w') on true and filled pictures, cell by cell.

    A cell of a filled picture counts as made by its hole share, its rest half as real.
    """
    real, fake = verdict.chunk(2)
    cells = _hole_cells(mask, fake)
    on_real = functional.relu(1 - real).mean()
    on_fake = (functional.relu(1 + fake) * cells).mean() / share.clamp(min=1e-8)
    on_known = (functional.relu(1 - fake) * (1 - cells)).mean() / 2
    return (on_real + on_fake + on_known) / 2


def _hole_cells(mask: Tensor, cells: Tensor) -> Tensor:
    """Hole share of each cell of a map, (b, 1, h', w')."""
    return functional.interpolate(mask, cells.shape[-2:], mode="area")


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
    cost=2.5,
    objective=DilatedObjective,
    objective_config=DilatedObjectiveConfig,
    multiple_of=8,
    min_size=16,
    working_size=512,
    context=_context,
    reach=80,  # trained on crops of 128 px: the middle of thicker holes is guessed
    rim=True,  # LPIPS .1267 to .1245, PSNR 26.15 to 26.24 dB on 48 held-out scenes
    mirror=True,  # LPIPS .1337 to .1311, PSNR 25.73 to 25.97 dB on 48 held-out scenes
    small={"channels": (8, 16, 16)},
)
