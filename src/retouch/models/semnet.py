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
from retouch.layers.frugal import summed
from retouch.layers.pixelwise import LayerNorm, Linear, Taller, linear
from retouch.layers.rows import Rows, rows
from retouch.layers.selective_scan import Carried, can_carry, causal_conv, selective_scan
from retouch.layers.snake import Stretch, position_frequencies, snake_walks
from retouch.losses.adversarial import critic_loss, generator_loss
from retouch.losses.perceptual import CONTENT_LAYERS, STYLE_LAYERS, compared, content, style
from retouch.losses.reconstruction import l1, l1_per_share
from retouch.models._card import Card, Official
from retouch.models._semnet_official import from_official, is_official

Task = Literal["inpaint", "deblur"]
Walks = tuple[list[Stretch], list[Stretch]]
_STATES = 16  # per channel: Mamba's default
_STRETCH = 2 << 20  # bytes of a walk's widest maps that are computed at a time


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


# Maps are (b, c, h, w) stored pixel by pixel: each pixel is a token, a row of c numbers.


def conv(inputs: int, outputs: int, *, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    """3x3 convolution, zero padded."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, groups=groups, bias=bias)


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

    def forward(self, x: Tensor, stretch: Stretch, carried: Carried | None = None) -> Tensor:
        order = stretch.order
        tokens = self.norm((x + stretch.positions).to(x.dtype)).flatten(1, 2)  # (b, l, c)
        content = self.content_in(tokens)
        content = causal_conv(content, self.taps, self.taps_bias, order, carried)  # (b, l, 2c)
        low, b, c = self.select(content).split((self.rank, _STATES, _STATES), dim=2)
        a = -self.a_log.to(torch.promote_types(self.a_log.dtype, torch.float32)).exp()
        operands = content, self.delta(low), a, b, c, self.d, self.gate_in(tokens)
        return self.out(selective_scan(*operands, order, carried)).view(x.shape)

    def start(self, like: Tensor) -> Carried:
        """What is carried into the first of several stretches of a map."""
        inner = len(self.d)
        past = like.new_zeros(len(like), 3, inner)
        return Carried(past, like.new_zeros(len(like), _STATES, inner, dtype=torch.float32))


class SnakeMambaBlock(nn.Module):
    """SMB: the sum of a walk along the rows and one along the columns (Sec. 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.horizontal = Mamba(channels)
        self.vertical = Mamba(channels)

    def forward(self, source: Tensor, norm: nn.Module, walks: Walks) -> Tensor:
        """Add what both walks over the normalised map say to the map itself."""
        (along, *more), (down, *_) = walks
        if more:
            return self._in_stretches(source, norm, walks)
        seen = norm(along.of(source))
        y = self.horizontal(seen, along) + self.vertical(seen, down)
        return source + y.permute(0, 3, 1, 2)

    def _in_stretches(self, source: Tensor, norm: nn.Module, walks: Walks) -> Tensor:
        x = source.clone()
        for mamba, walk in zip((self.horizontal, self.vertical), walks, strict=True):
            carried = mamba.start(source)
            for stretch in walk:
                stretch.of(x).add_(mamba(norm(stretch.of(source)), stretch, carried))
        return x


class SEFN(nn.Module):
    """Spatially-enhanced feedforward network, led by the block's own input (Sec. 3.3, Fig. 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.content_in = Linear(channels, hidden, bias=False)
        self.gate_in = Linear(channels, hidden, bias=False)
        self.content_conv = conv(hidden, hidden, groups=hidden)
        self.gate_conv = conv(hidden, hidden, groups=hidden)
        self.guide = nn.Sequential(
            conv(channels, channels, bias=True),
            LayerNorm(channels),
            nn.ReLU(),
            conv(channels, channels, bias=True),
            LayerNorm(channels),
            nn.ReLU(),
        )
        self.fusion = Linear(hidden + channels, hidden, bias=False)
        self.fusion_conv = conv(hidden, hidden, groups=hidden)
        self.out = Linear(hidden, channels, bias=False)
        self.halved, self.taller = nn.AvgPool2d(2), Taller(2)

    def forward(self, x: Rows, source: Rows) -> Rows:
        # fusion(cat(content, upsampled guide)), without joining them
        split = self.content_in.out_features
        of_content, of_guide = self.fusion.weight[:, :split], self.fusion.weight[:, split:]
        guide = source.through(self.halved, self.guide, lambda y: linear(y, of_guide), self.taller)
        y = x.through(self.content_in, self.content_conv, lambda y: linear(y, of_content))
        y = y.joined(_plus_wider, guide).through(self.fusion_conv)
        gate = x.through(self.gate_in, self.gate_conv)
        return y.joined(lambda y, gate: functional.gelu(y) * gate, gate).through(self.out)


def _plus_wider(x: Tensor, y: Tensor) -> Tensor:
    """Add a map of half the width, each column of it to two."""
    x, y = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)), y.permute(0, 2, 3, 1)[:, :, :, None]
    return (x + y).flatten(2, 3).permute(0, 3, 1, 2)


class Block(nn.Module):
    """SMB, then SEFN, each on normalised features and with a residual (Fig. 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.smb = SnakeMambaBlock(channels)
        self.norm2 = LayerNorm(channels)
        self.sefn = SEFN(channels)

    def forward(self, source: Tensor, walks: Walks) -> Tensor:
        x = self.smb(source, self.norm1, walks)
        seen, guide = rows(x, source, channels=2 * x.shape[1])
        return self.sefn(seen.through(self.norm2), guide).joined(summed, seen).into(x)


class Stage(nn.Module):
    """The blocks of one resolution, which share their walks."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.frequencies = position_frequencies(channels)

    def forward(self, x: Tensor) -> Tensor:
        size = 2 * x.numel() * x.element_size()  # of a walk's doubled channels
        parts = max(1, round(size / _STRETCH)) if can_carry(x, _STATES) else 1
        walks = snake_walks(x.shape[2], x.shape[3], self.frequencies, x, parts)
        for block in self.blocks:
            x = block(x, walks)
        return x


class SEMNet(nn.Module):
    """Generator, a U-net of snake blocks. Fills the hole, or removes the blur, in one pass."""

    def __init__(self, config: SEMNetConfig = SEMNetConfig()) -> None:
        super().__init__()
        self.config = config
        c, (n1, n2, n3, n4) = config.channels, config.blocks
        self.embed = conv(4 if config.task == "inpaint" else 3, c)
        self.encoder = nn.ModuleList([Stage(c, n1), Stage(2 * c, n2), Stage(4 * c, n3)])
        self.down = nn.ModuleList(conv(k * c, k * c // 2) for k in (1, 2, 4))
        self.latent = Stage(8 * c, n4)
        self.up = nn.ModuleList(conv(k * c, 2 * k * c) for k in (8, 4, 2))
        reduce = [Linear(k * c, k * c // 2, bias=False) for k in (8, 4)]
        self.reduce = nn.ModuleList([*reduce, nn.Identity()])  # 2c channels at full resolution
        self.decoder = nn.ModuleList([Stage(4 * c, n3), Stage(2 * c, n2), Stage(2 * c, n1)])
        self.output = conv(2 * c, 3)
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
        x = self.embed(seen.contiguous(memory_format=torch.channels_last))  # (b, c, h, w)
        skips: list[Tensor] = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            x = stage(x)
            skips.append(x)
            x = functional.pixel_unshuffle(down(x), 2)
        x = self.latent(x)  # (b, 8c, h/8, w/8)
        for up, reduce, stage in zip(self.up, self.reduce, self.decoder, strict=True):
            x = functional.pixel_shuffle(up(x), 2)
            x = stage(reduce(torch.cat([x, skips.pop()], dim=1)))
        painted = torch.tanh(self.output(x))
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
    cost=91,
    rim=True,  # LPIPS .1788 to .1757, PSNR 25.27 to 25.32 dB on 12 held-out scenes
    official={
        "semnet": Official(
            what="SEM-Net generator (WACV 2025)", recognise=is_official, convert=from_official
        )
    },
    objective=SEMNetObjective,
    objective_config=SEMNetObjectiveConfig,
    small={"channels": 8, "blocks": (1, 1, 1, 1)},
)
