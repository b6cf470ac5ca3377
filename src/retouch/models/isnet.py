"""ISNet: Interactive Separation Network, a full-resolution stream kept beside a deep one.

Paper: "Interactive Separation Network for Image Inpainting", ICIP 2020. Reference code:
github.com/GuardSkill/Large-Scale-Feature-Inpainting @ 49b9b0b (CC BY-NC 4.0).

Differences from the paper and the reference:
  - the mask is 1 in the hole (theirs is 0 there); values under it are replaced by 0 here;
  - the spectral norm's vectors are settled at once: the reference's fresh network gives garbage;
  - the hinge loss of real pictures lacks the reference's additive constant 1 (same gradient);
  - the default adversarial loss is the reference's nsgan (paper: hinge); the critic sees the whole
    raw output, as in the reference (Eq. 3: the hole only);
  - feature matching runs the critic once more: four power iterations of it per step, not three;
  - in the ablation `base` the last stage computes no deep output, because nothing reads it. The
    reference has 7,464,960 parameters there, which the paper counts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from retouch.critics import PatchCritic, frozen
from retouch.data.batch import Batch
from retouch.layers.frugal import Tanh, of_sum
from retouch.layers.rows import rows
from retouch.layers.spectral import (
    SpectralConv2d,
    release_spectral,
    settle_spectral,
    start_isometric,
    to_official_keys,
)
from retouch.losses.adversarial import Kind, critic_loss, generator_loss
from retouch.losses.perceptual import CONTENT_LAYERS, STYLE_LAYERS, perceptual_terms
from retouch.losses.reconstruction import l1_per_share
from retouch.models._card import Card, Official
from retouch.models._isnet_unet import UNetLike

Variant = Literal["full", "base", "base-ff", "unet"]


@dataclass(frozen=True, kw_only=True)
class ISNetConfig:
    """Hyper-parameters; the defaults are those of the paper."""

    width: int = 32
    """Channels of the full-resolution stream; the deep stream has up to 16 times as many."""
    blocks: int = 4
    """Residual blocks per stream and stage; Table 2 compares 1 to 4."""
    variant: Variant = "full"
    """Table 1: `full` = ISNet; `base` = no final fusion, bilinear instead of sub-pixel steps;
    `base-ff` = `base` with final feature fusion; `unet` = the UNet-like network (EdgeConnect's)."""
    init_std: float = 0.001
    """Standard deviation of the initial weights; 0.02 learns better in short runs."""
    isometric: bool = False
    """Start with kernels that keep the length of their input (`start_isometric`); ours, faster."""
    spectral: bool = True
    """Kernels of unit spectral norm (paper). False frees them (ours)."""

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width must be even and at least 2, got {self.width}")
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {self.blocks}")
        if self.variant not in get_args(Variant):
            raise ValueError(f"variant must be in {get_args(Variant)}, got {self.variant!r}")
        if self.init_std <= 0:
            raise ValueError(f"init_std must be positive, got {self.init_std}")


class ResidualBlock(nn.Module):
    """act(x + conv(act(dilated conv(x)))), with convolutions of unit spectral norm."""

    def __init__(self, channels: int, dilation: int, act: nn.Module) -> None:
        super().__init__()
        self.act = act
        self.first = SpectralConv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = SpectralConv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        (known,) = rows(x)
        inner = known.through(self.first, self.act, self.second)
        return inner.joined(of_sum(self.act), known).into(x)


class Stem(nn.Module):
    """Residual entry from RGB; its 1x1 skip is the only layer without spectral norm."""

    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.act = act
        self.first = SpectralConv2d(3, 2 * width, 3, padding=1)
        self.second = SpectralConv2d(2 * width, width, 3, padding=1)
        self.skip = nn.Conv2d(3, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        (known,) = rows(x, channels=self.first.out_channels)
        inner = known.through(self.first, self.act, self.second)
        return inner.joined(of_sum(self.act), known.through(self.skip)).into()


def _sub_pixel(channels: int) -> nn.Sequential:
    """Twice the size at half the channels."""
    conv = SpectralConv2d(channels, 2 * channels, 3, padding=1)
    return nn.Sequential(conv, nn.PixelShuffle(2), Tanh())


def _halve(channels: int, act: nn.Module) -> nn.Sequential:
    """Half the size at twice the channels."""
    return nn.Sequential(SpectralConv2d(channels, 2 * channels, 3, stride=2, padding=1), act)


class Stage(nn.Module):
    """Separate inpainting in each stream, interaction between them, aggregation.

    Args:
        index: 0 to 3. The deep stream enters at 1/2^index of the size (stage 0, which founds it,
            has none) and leaves at half of that.
        width: Channels of the fine stream, which keeps the full size.
        blocks: Residual blocks per stream.
        deep_out: Channels of the deep output; 0 leaves it out.
        variant: The ablations raise the deep stream without layers and use leaky ReLU.
    """

    def __init__(
        self, index: int, width: int, blocks: int, *, deep_out: int, variant: Variant
    ) -> None:
        super().__init__()
        self.act = act = Tanh() if variant == "full" else nn.LeakyReLU(0.2)
        widths = [width * 2**i for i in range(index + 1)]  # from the fine stream down to the deep
        deep = widths[-1] if index else 0
        self.fine = nn.Sequential(*(ResidualBlock(width, 1, act) for _ in range(blocks)))
        self.deep = self.deep_to_fine = self.deep_to_deep = self.merge_deep = None
        if deep:
            self.deep = nn.Sequential(*(ResidualBlock(deep, 2, act) for _ in range(blocks)))
            self.deep_to_fine = nn.Upsample(scale_factor=2**index, mode="bilinear")
            if variant == "full":
                self.deep_to_fine = nn.Sequential(*(_sub_pixel(c) for c in widths[:0:-1]))
            if variant == "base":
                self.deep_to_fine = nn.Sequential(act, self.deep_to_fine)
        raised = min(width, deep) if variant == "full" else deep
        self.merge_fine = SpectralConv2d(width + raised, width, 3, padding=1)
        if deep_out:
            self.fine_to_deep = nn.Sequential(*(_halve(c, act) for c in widths))
            if deep:
                self.deep_to_deep = _halve(deep, act)
            self.merge_deep = SpectralConv2d(2 * widths[-1] + 2 * deep, deep_out, 3, padding=1)

    def forward(self, fine: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Map `self.fine(...)` and deep (b, c', h/2^index, w/2^index), which stage 0 ignores."""
        if self.deep is not None:
            deep = self.deep(deep)
        shallow, low = rows(fine, deep)
        to_fine = [] if self.deep_to_fine is None else [low.through(self.deep_to_fine)]
        to_deep = [] if self.deep_to_deep is None else [low.through(self.deep_to_deep)]
        if self.merge_deep is not None:
            joined = shallow.through(self.fine_to_deep).beside(*to_deep)
            deep = joined.through(self.merge_deep, self.act).into()
        return shallow.beside(*to_fine).through(self.merge_fine, self.act).into(fine), deep


class TwoStreams(nn.Module):
    """ISNet proper and its ablations: stem, four stages, final fusion. Input RGB, output logits."""

    def __init__(self, width: int, blocks: int, variant: Variant) -> None:
        super().__init__()
        full = variant == "full"
        last = {"full": 16 * width, "base": 0, "base-ff": 8 * width, "unet": 0}[variant]
        self.stem = Stem(width, Tanh() if full else nn.LeakyReLU(0.2))
        self.stages = nn.ModuleList(
            Stage(index, width, blocks, deep_out=deep_out, variant=variant)
            for index, deep_out in enumerate((2 * width, 4 * width, 8 * width, last))
        )
        self.up = None
        if full:
            self.up = nn.Sequential(*(_sub_pixel(width * 2**i) for i in (4, 3, 2, 1)))
            self.head: nn.Module = nn.Sequential(
                SpectralConv2d(2 * width, width, 7, padding=3, bias=True),
                Tanh(),
                SpectralConv2d(width, 3, 3, padding=1, bias=True),
            )
        elif variant == "base-ff":
            self.up = nn.Upsample(scale_factor=16, mode="bilinear")
            self.head = nn.Sequential(
                SpectralConv2d(width + last, width, 7, padding=3, bias=True),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 3, 3, padding=1),
            )
        else:
            self.head = nn.Conv2d(width, 3, 1)

    def forward(self, known: Tensor) -> Tensor:
        fine = deep = self.stem(known)
        for stage in self.stages:
            fine, deep = stage(cast(nn.Module, stage.fine)(fine), deep)
        if self.up is None:
            return self.head(fine)
        shallow, low = rows(fine, deep)
        return shallow.beside(low.through(self.up)).through(self.head).into()


class ISNet(nn.Module):
    """Generator. Fills the hole of an image in one pass; it is not told where the hole is."""

    def __init__(self, config: ISNetConfig = ISNetConfig()) -> None:
        super().__init__()
        self.config = config
        if config.variant == "unet":
            self.body = UNetLike(2 * config.width, config.blocks)
        else:
            self.body = TwoStreams(config.width, config.blocks, config.variant)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=config.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if config.isometric:
            start_isometric(self, identity=("merge_", "head."))
        settle_spectral(self)
        if not config.spectral:
            release_spectral(self)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict every pixel; known pixels are not copied (see `retouch.pipeline.compositing`).

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; values under the mask are ignored.
            mask: (b, 1, h, w) in {0, 1}, 1 = hole; h and w multiples of 16.

        Returns:
            (b, 3, h, w) RGB in [0, 1].
        """
        logits = self.body(image.masked_fill(mask > 0, 0))
        return (torch.tanh(logits.to(image.dtype)) + 1) / 2


_WEIGHTS = {"l1": 1.0, "feature_matching": 10.0, "style": 250.0, "content": 0.1, "adversarial": 0.1}


@dataclass(frozen=True, kw_only=True)
class ISNetObjectiveConfig:
    """What the generator pays for, and how the critic is built."""

    weights: Mapping[str, float] = field(default_factory=lambda: dict(_WEIGHTS))
    """Weight of each generator term: the reference's `config.yml.example`."""
    gan: Kind = "nsgan"
    """`nsgan` in the reference's configuration, `hinge` in the paper, or `lsgan`."""
    critic_width: int = 64
    """Channels of the critic's first layer."""
    critic_init_std: float = 0.001
    """Standard deviation of the critic's initial weights."""


class ISNetObjective(nn.Module):
    """L1, feature matching, content, style and adversarial terms, all on the raw prediction.

    The reference takes both gradients before either step (`simultaneous`).

    Args:
        config: Weights and critic.
        features: A `retouch.layers.vgg.VGG19`; without it there are no content and style terms.
    """

    def __init__(
        self,
        config: ISNetObjectiveConfig = ISNetObjectiveConfig(),
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.features = features
        critic = PatchCritic(width=config.critic_width, init_std=config.critic_init_std)
        self.critics = nn.ModuleDict({"patch": critic})

    def predict(self, network: nn.Module, batch: Batch) -> Tensor:
        """Run the generator: (b, 3, h, w) RGB in [0, 1]."""
        return network(batch.image, batch.mask)

    def generator_terms(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the generator's terms, unweighted; no critic receives a gradient from them."""
        critic = cast(PatchCritic, self.critics["patch"])
        with frozen(critic):
            made = critic.features(outputs)
            real = critic.features(batch.image)
        matches = [(a - b).abs().mean() for a, b in zip(made, real, strict=True)]
        terms = {
            "l1": l1_per_share(outputs, batch.image, batch.hole_share),
            "feature_matching": torch.stack(matches).sum(),
            "adversarial": generator_loss(made[-1], self.config.gan),
        }
        layers = (CONTENT_LAYERS, STYLE_LAYERS)
        return terms | perceptual_terms(
            self.features, outputs, batch.image, *layers, self.config.weights
        )

    def critic_terms(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the critic's loss, the mean of its real and fake halves."""
        critic = cast(PatchCritic, self.critics["patch"])
        real, fake = critic(batch.image), critic(outputs.detach())
        return {"patch": critic_loss(real, fake, self.config.gan)}


_NAMES = (
    (r"^stem\.skip", "layer1.downsample"),
    (r"^stem", "layer1"),
    (r"^stages\.(\d)\.", r"stage\1."),
    (r"\.fine\.(\d)", r".branches.0.\1"),
    (r"\.deep\.(\d)", r".branches.1.\1"),
    (r"\.first$", ".conv_block.1"),
    (r"\.second$", ".conv_block.4"),
    (r"\.fine_to_deep", ".fuse_layers.1.0"),
    (r"\.deep_to_fine", ".fuse_layers.0.1"),
    (r"\.deep_to_deep", ".fuse_layers.1.1"),
    (r"\.merge_fine", ".fused_branches.0.0.0"),
    (r"\.merge_deep", ".fused_branches.1.0.0"),
    (r"^up\.", "up_layer."),
    (r"^head", "final_layer"),
)
# The reference's `RFFNet_base` computes the deep output of its last stage and never reads it.
_DEAD_IN_BASE = re.compile(r"stage3\.(fuse_layers\.1|fused_branches\.1)\.")


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of ours (any variant but `unet`) to the reference's names."""
    official: dict[str, Tensor] = {}
    for key, value in to_official_keys(state).items():
        scope, _, name = key.removeprefix("body.").rpartition(".")
        for pattern, replacement in _NAMES:
            scope = re.sub(pattern, replacement, scope)
        official[f"{scope}.{name}"] = value
    return official


def from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert `InpaintingModel_gen.pth`, or a generator of the reference's ablations.

    Returns:
        Config fields, and our state dict without the dead layers of the `base` ablation. Keys that
        no generator has stay as they are, for strict loading to name them.
    """
    variant: Variant = "full" if "up_layer.0.0.weight_orig" in state else "base-ff"
    if "final_layer.weight" in state:
        variant = "base"
        state = {key: value for key, value in state.items() if not _DEAD_IN_BASE.match(key)}
    fields: dict[str, Any] = {
        "width": state["layer1.downsample.weight"].shape[0],
        "blocks": len({key.split(".")[3] for key in state if key.startswith("stage0.branches.0.")}),
        "variant": variant,
    }
    with torch.device("meta"):
        ours = ISNet(ISNetConfig(**fields)).state_dict()
    names = dict(zip(to_official(ours), ours, strict=True))
    return fields, {names.get(key, key): value for key, value in state.items()}


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether a bare state dict is a generator of the reference."""
    return {"layer1.downsample.weight", "stage3.fused_branches.0.0.0.weight_orig"} <= state.keys()


def _context(config: ISNetConfig) -> int | None:
    """Follow what one cell depends on, from the output to the input, on the deepest way."""
    if config.variant == "unet":
        return None  # instance norm
    seen = 4  # the head, in pixels of the full size
    for _ in range(4):
        seen = -(-seen // 2) + 1
    for _ in range(3):
        seen = 2 * (seen + 1) + 1 + 3 * config.blocks
    return 2 * (seen + 1) + 1 + 2 * config.blocks + 2


CARD = Card(
    model=ISNet,
    config=ISNetConfig,
    paper="Interactive Separation Network for Image Inpainting, ICIP 2020",
    license="CC-BY-NC-4.0",
    multiple_of=16,
    min_size=32,
    context=_context,
    working_size=256,
    cost=3.7,
    rim=True,  # LPIPS .1679 to .1647, PSNR 24.83 to 24.92 dB on 24 held-out scenes
    official={
        "isnet": Official(
            what="ISNet generator (ICIP 2020), 1 to 4 blocks, or its ablations Base and Base+FF",
            recognise=is_official,
            convert=from_official,
        )
    },
    objective=ISNetObjective,
    objective_config=ISNetObjectiveConfig,
    small={"width": 4, "blocks": 1, "init_std": 0.02},
)
