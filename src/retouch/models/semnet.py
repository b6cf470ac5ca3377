"""SEM-Net: pixel-level inpainting with state space models that walk the picture like a snake.

Paper: Chen et al., "SEM-Net: Efficient Pixel Modelling for image inpainting with Spatially Enhanced
SSM", WACV 2025, arXiv:2411.06318. Reference code: github.com/ChrisChen1023/SEM-Net @ 1a5dcd0 (MIT),
with Mamba-1 of state-spaces/mamba @ e9594ce (Apache-2.0).

Differences from the reference (each without effect on the numbers, unless said):
  - only layers that are used exist: 81,438,048 parameters of the stored 138,099,744. Left out are
    each block's `ffn1` and `norm1_1`, `refinement`, `output_before` and `down*.proj`;
  - position tables are as long as the picture; tokens stay where their pixels are and the scan
    visits them in the snake's order;
  - first projections are two layers, one per use of their output, and the part of SEFN's fusion
    that reads upsampled features runs before they are upsampled;
  - autocast reaches the snake blocks, only the scan itself insists on float32 (other rounding);
  - training: the critic gets no gradient from the generator's adversarial term (the reference adds
    it to the critic's own);
  - deblurring, of which no code was published: 3 channels in, no mask, the output is added to the
    blurred picture, and an L1 term alone, as in Restormer, whose skeleton this is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.critics import PatchCritic, frozen
from retouch.data.batch import Batch
from retouch.layers.selective_scan import causal_conv, selective_scan
from retouch.layers.snake import Walk, position_frequencies, snake_walks
from retouch.losses.adversarial import critic_loss, generator_loss
from retouch.losses.perceptual import CONTENT_LAYERS, STYLE_LAYERS, compared, content, style
from retouch.losses.reconstruction import l1, l1_per_share
from retouch.models._card import Card, Official
from retouch.models._semnet_official import from_official, is_official

Task = Literal["inpaint", "deblur"]
_STATES = 16  # per channel: Mamba's default


@dataclass(frozen=True, kw_only=True)
class SEMNetConfig:
    """Hyper-parameters; the defaults are those of the published checkpoints."""

    task: Task = "inpaint"
    """`inpaint`: picture and mask in; `deblur`: picture in, no mask."""
    channels: int = 48
    """Channels at full resolution; they double at each of the three reductions."""
    blocks: tuple[int, int, int, int] = (4, 6, 6, 8)
    """Blocks per level, from full resolution to the latent one; the decoder mirrors the encoder."""
    colours: bool = False
    """Start with colours on their way to the output (`_start_colours`); ours: hues come sooner."""

    def __post_init__(self) -> None:
        if self.task not in ("inpaint", "deblur"):
            raise ValueError(f"task must be 'inpaint' or 'deblur', got {self.task!r}")
        if self.colours and self.task != "inpaint":
            raise ValueError("colours is for inpainting: deblurring adds to its input's colours")
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"channels must be even and at least 2, got {self.channels}")
        if len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(f"blocks must be four numbers of at least 1, got {self.blocks}")


# Inside the network maps are (b, h, w, c): each pixel is a token, a row of c numbers.


class Conv(nn.Conv2d):
    """3x3 convolution of a map (b, h, w, c), zero padded."""

    def __init__(self, inputs: int, outputs: int, *, groups: int = 1, bias: bool = False) -> None:
        super().__init__(inputs, outputs, kernel_size=3, padding=1, groups=groups, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def fold(x: Tensor) -> Tensor:
    """Map (b, h, w, c) to half the resolution: (b, h/2, w/2, 4c)."""
    return functional.pixel_unshuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def unfold(x: Tensor) -> Tensor:
    """Map (b, h, w, 4c) to twice the resolution: (b, 2h, 2w, c)."""
    return functional.pixel_shuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class Mamba(nn.Module):
    """A selective state space model along one walk, with the position enhancement (Fig. 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, self.rank = 2 * channels, math.ceil(channels / 16)
        self.norm = nn.LayerNorm(channels)
        self.content_in = nn.Linear(channels, inner, bias=False)
        self.gate_in = nn.Linear(channels, inner, bias=False)
        self.taps = nn.Parameter(torch.empty(inner, 4).uniform_(-0.5, 0.5))  # nn.Conv1d's default
        self.taps_bias = nn.Parameter(torch.empty(inner).uniform_(-0.5, 0.5))
        self.select = nn.Linear(inner, self.rank + 2 * _STATES, bias=False)
        self.delta = nn.Linear(self.rank, inner)
        self.a_log = nn.Parameter(torch.arange(1.0, _STATES + 1).log().repeat(inner, 1))
        self.d = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, channels, bias=False)
        # Steps start log-uniform in [0.001, 0.1]; the bias is the inverse softplus of that.
        bound = self.rank**-0.5
        nn.init.uniform_(self.delta.weight, -bound, bound)
        step = torch.empty(inner).uniform_(math.log(1e-3), math.log(0.1)).exp()
        with torch.no_grad():
            self.delta.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, tokens: Tensor, walk: Walk) -> Tensor:  # (b, l, c)
        tokens = self.norm((tokens + walk.positions).to(tokens.dtype))
        x = causal_conv(
            self.content_in(tokens), self.taps, self.taps_bias, walk.order
        )  # (b, l, 2c)
        low, b, c = self.select(x).split((self.rank, _STATES, _STATES), dim=2)
        a = -self.a_log.to(torch.promote_types(self.a_log.dtype, torch.float32)).exp()
        gate = self.gate_in(tokens)
        return self.out(selective_scan(x, self.delta(low), a, b, c, self.d, gate, walk.order))


class SnakeMambaBlock(nn.Module):
    """SMB: the sum of a walk along the rows and one along the columns (Sec. 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.horizontal = Mamba(channels)
        self.vertical = Mamba(channels)

    def forward(self, x: Tensor, walks: tuple[Walk, Walk]) -> Tensor:
        tokens = x.flatten(1, 2)  # (b, h*w, c)
        y = self.horizontal(tokens, walks[0]) + self.vertical(tokens, walks[1])
        return y.view(x.shape)


class SEFN(nn.Module):
    """Spatially-enhanced feedforward network, led by the block's own input (Sec. 3.3, Fig. 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.content_in = nn.Linear(channels, hidden, bias=False)
        self.gate_in = nn.Linear(channels, hidden, bias=False)
        self.content_conv = Conv(hidden, hidden, groups=hidden)
        self.gate_conv = Conv(hidden, hidden, groups=hidden)
        self.guide = nn.Sequential(
            Conv(channels, channels, bias=True),
            nn.LayerNorm(channels),
            nn.ReLU(),
            Conv(channels, channels, bias=True),
            nn.LayerNorm(channels),
            nn.ReLU(),
        )
        self.fusion = nn.Linear(hidden + channels, hidden, bias=False)
        self.fusion_conv = Conv(hidden, hidden, groups=hidden)
        self.out = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        b, h, w, _ = x.shape
        guide = functional.avg_pool2d(source.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        guide = self.guide(guide)  # (b, h/2, w/2, c)
        y = self.content_conv(self.content_in(x))  # (b, h, w, 2c)
        # fusion(cat(y, upsampled guide)), without upsampling it or copying either
        of_y, of_guide = self.fusion.weight.split((y.shape[3], guide.shape[3]), dim=1)
        y = functional.linear(y, of_y).view(b, h // 2, 2, w // 2, 2, -1)
        guide = functional.linear(guide, of_guide)[:, :, None, :, None]
        # one axis after the other: its gradient is summed in a quarter of the time
        y = y + guide.expand(-1, -1, -1, -1, 2, -1).expand(-1, -1, 2, -1, -1, -1)
        y = self.fusion_conv(y.view(b, h, w, -1))
        return self.out(functional.gelu(y) * self.gate_conv(self.gate_in(x)))


class Block(nn.Module):
    """SMB, then SEFN, each on normalised features and with a residual (Fig. 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.smb = SnakeMambaBlock(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.sefn = SEFN(channels)

    def forward(self, source: Tensor, walks: tuple[Walk, Walk]) -> Tensor:
        x = source + self.smb(self.norm1(source), walks)
        return x + self.sefn(self.norm2(x), source)


class Stage(nn.Module):
    """The blocks of one resolution, which share their walks."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.frequencies = position_frequencies(channels)

    def forward(self, x: Tensor) -> Tensor:
        walks = snake_walks(x.shape[1], x.shape[2], self.frequencies, x.device)
        for block in self.blocks:
            x = block(x, walks)
        return x


class SEMNet(nn.Module):
    """Generator, a U-net of snake blocks. Fills the hole, or removes the blur, in one pass."""

    def __init__(self, config: SEMNetConfig = SEMNetConfig()) -> None:
        super().__init__()
        self.config = config
        c, (n1, n2, n3, n4) = config.channels, config.blocks
        self.embed = Conv(4 if config.task == "inpaint" else 3, c)
        self.encoder = nn.ModuleList([Stage(c, n1), Stage(2 * c, n2), Stage(4 * c, n3)])
        self.down = nn.ModuleList(Conv(k * c, k * c // 2) for k in (1, 2, 4))
        self.latent = Stage(8 * c, n4)
        self.up = nn.ModuleList(Conv(k * c, 2 * k * c) for k in (8, 4, 2))
        reduce = [nn.Linear(k * c, k * c // 2, bias=False) for k in (8, 4)]
        self.reduce = nn.ModuleList([*reduce, nn.Identity()])  # 2c channels at full resolution
        self.decoder = nn.ModuleList([Stage(4 * c, n3), Stage(2 * c, n2), Stage(2 * c, n1)])
        self.output = Conv(2 * c, 3)
        if config.colours:
            self._start_colours()

    @torch.no_grad()
    def _start_colours(self) -> None:
        """Let two channels carry red against blue and green against both to the output.

        In photos these vary 3 and 7 times less than brightness, and a random start buries them:
        after 1,750 steps of 4 pictures green was still brown, in known pixels too.
        """
        axes = torch.tensor([[1.0, 0, -1], [1, -2, 1]])
        axes /= axes.norm(dim=1, keepdim=True)
        strength = torch.tensor([6.0, 12.0])
        self.embed.weight[:2] = 0
        self.embed.weight[:2, :3, 1, 1] = axes * strength[:, None]
        first = self.config.channels  # of what the skip brings beside the channels from below
        self.output.weight[:, first : first + 2] = 0
        # tanh is steep 1 at grey, and half its result is the picture
        self.output.weight[:, first : first + 2, 1, 1] = 2 * axes.T / strength

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict every pixel; known pixels are not copied (see `retouch.pipeline.compositing`).

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; values under the mask are ignored.
            mask: (b, 1, h, w) in {0, 1}, 1 = hole; None if and only if the task is deblurring.

        Returns:
            (b, 3, h, w) RGB in [0, 1].

        Raises:
            ValueError: If a mask is missing or superfluous, or a side is no multiple of 16.
        """
        if (mask is None) != (self.config.task == "deblur"):
            raise ValueError(f"task {self.config.task!r} got {'no' if mask is None else 'a'} mask")
        if image.shape[2] % 16 or image.shape[3] % 16:
            raise ValueError(f"height and width must be multiples of 16, got {image.shape[2:]}")
        # holes are white
        seen = image if mask is None else torch.cat([image.masked_fill(mask > 0, 1), mask], dim=1)
        x = self.embed(seen.permute(0, 2, 3, 1))  # (b, h, w, c)
        skips: list[Tensor] = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            x = stage(x)
            skips.append(x)
            x = fold(down(x))
        x = self.latent(x)  # (b, h/8, w/8, 8c)
        for up, reduce, stage in zip(self.up, self.reduce, self.decoder, strict=True):
            x = stage(reduce(torch.cat([unfold(up(x)), skips.pop()], dim=3)))
        painted = torch.tanh(self.output(x).permute(0, 3, 1, 2))
        return (painted + 1) / 2 if mask is not None else (image + painted).clamp(0, 1)


_WEIGHTS = {"reconstruction": 1.0, "content": 0.1, "style": 250.0, "adversarial": 0.01}


@dataclass(frozen=True, kw_only=True)
class SEMNetObjectiveConfig:
    """What the generator pays for."""

    task: Task = "inpaint"
    """The network's task. Deblurring has the reconstruction term only, and no critic."""
    weights: Mapping[str, float] = field(default_factory=_WEIGHTS.copy)
    """Weight of each generator term: the reference's `config.yml`."""


class SEMNetObjective(nn.Module):
    """Terms on the raw prediction; the reference takes all gradients first (`simultaneous`).

    Args:
        config: Task and weights.
        features: A `retouch.layers.vgg.VGG19`; without it there are no content and style terms.
    """

    def __init__(
        self,
        config: SEMNetObjectiveConfig = SEMNetObjectiveConfig(),
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.critics = nn.ModuleDict()
        if config.task == "inpaint":
            self.critics["patch"] = PatchCritic()

    def predict(self, network: nn.Module, batch: Batch) -> Tensor:
        """Run the generator: (b, 3, h, w) RGB in [0, 1]; deblurring reads `batch.source`."""
        if self.config.task == "inpaint":
            return network(batch.image, batch.mask)
        if batch.source is None:
            raise ValueError("deblurring needs pairs, got a batch without `source`")
        return network(batch.source)

    def generator_terms(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the generator's terms, unweighted; the critic gets no gradient from them."""
        if self.config.task == "deblur":
            return {"reconstruction": l1(outputs, batch.image)}
        critic = cast(PatchCritic, self.critics["patch"])
        terms = {"reconstruction": l1_per_share(outputs, batch.image, batch.hole_share)}
        with frozen(critic):
            terms["adversarial"] = generator_loss(critic(outputs), "lsgan")
        if self.features is not None:
            pair = (outputs, batch.image)
            terms["content"] = compared(content, self.features, *pair, CONTENT_LAYERS)
            inside = (outputs * batch.mask, batch.image * batch.mask)
            terms["style"] = compared(style, self.features, *inside, STYLE_LAYERS)
        return terms

    def critic_terms(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the critic's loss, the mean of its real and fake halves; none for deblurring."""
        if self.config.task == "deblur":
            return {}
        real, fake = (self.critics["patch"](x) for x in (batch.image, outputs.detach()))
        return {"patch": critic_loss(real, fake, "lsgan")}


CARD = Card(
    model=SEMNet,
    config=SEMNetConfig,
    paper="SEM-Net: Efficient Pixel Modelling (...), WACV 2025, arXiv:2411.06318",
    license="MIT",
    tasks=("inpaint", "deblur"),
    multiple_of=16,
    min_size=16,
    working_size=256,
    one_size_graph=True,  # the walks
    cost=111,
    official={
        "semnet": Official(
            what="SEM-Net generator (WACV 2025)", recognise=is_official, convert=from_official
        )
    },
    objective=SEMNetObjective,
    objective_config=SEMNetObjectiveConfig,
    small={"channels": 8, "blocks": (1, 1, 1, 1)},
)
