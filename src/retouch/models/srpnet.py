"""SRPNet: Semantic Residual Pyramid Network, and PEN-Net, which it extends.

Papers: "Semantic Residual Pyramid Network for Image Inpainting", Information 13(2):71, 2022, which
has no public code; Zeng et al., "Learning Pyramid-Context Encoder Network for High-Quality Image
Inpainting", CVPR 2019, arXiv:1904.07475. Reference code of PEN-Net:
github.com/researchmm/PEN-Net-for-Inpainting @ 8721a55 (MIT).

`PENNET` is PEN-Net in this file's terms. What SRPNet's paper leaves open or prints impossibly is
settled so (`docs/networks/srpnet.md` has the reasons):
  - its residual blocks of "stride 2, padding 0" are EdgeConnect's, with dilation 2 and reflection
    padding, one per level, and hold the only instance norms;
  - attention matches 1x1 patches at all levels, as the table says; softmax, mask and output
    convolutions are PEN-Net's, as are decoder ("stride 1 deconvolution") and weights of the loss;
  - all strides of the critics are 2, as printed, and their last layer has no activation; the local
    critic sees the picture times the mask at full size.

Differences from PEN-Net's code: attention runs on whole batches, block by block where memory
counts; in bf16 its smallest weight of 1e-8, far below the rounding, is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch.critics import WideCritic, frozen
from retouch.data.batch import Batch
from retouch.layers.attention import attend_in_blocks
from retouch.layers.residual import DilatedResidualBlock
from retouch.losses.adversarial import Kind, critic_loss, generator_loss
from retouch.losses.perceptual import perceptual_terms
from retouch.losses.reconstruction import l1, masked_l1
from retouch.models._card import Card, Official
from retouch.models._srpnet_colours import start_colours
from retouch.models._srpnet_official import is_official_pennet, pennet_from_official

_SHARPNESS = 10.0  # factor before the softmax (PEN-Net's code)
_FLOOR = 1e-8  # smallest attention weight, which unusable keys get (PEN-Net's code)
_BLOCK = 2**22  # attention scores held at once in inference: 16 MiB of float32


@dataclass(frozen=True, kw_only=True)
class SRPNetConfig:
    """Hyper-parameters; the defaults are those of the paper (Table 1)."""

    width: int = 32
    """Channels of the first level; the six levels have 1, 2, 4, 8, 16 and 16 times as many."""
    residual_blocks: int = 1
    """Residual blocks after each reduction; 0 in PEN-Net."""
    attention_kernel: int = 1
    """Side of the patches that attention matches at levels 1 to 4, 1 or 3; 3 in PEN-Net. Level 5
    always matches 1x1."""
    deepest_slope: float = 0.2
    """Negative slope of the sixth activation; 0 in PEN-Net."""
    init_std: float = 0.02
    """Standard deviation of the initial weights."""
    colours: bool = False
    """Start with colours on their way to the output (`_srpnet_colours`); ours: hues come
    sooner."""

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 4:
            raise ValueError(f"width must be a positive multiple of 4, got {self.width}")
        if self.residual_blocks < 0:
            raise ValueError(f"residual_blocks must not be negative, got {self.residual_blocks}")
        if self.attention_kernel not in (1, 3):
            raise ValueError(f"attention_kernel must be 1 or 3, got {self.attention_kernel}")
        if not 0 <= self.deepest_slope < 1:
            raise ValueError(f"deepest_slope must lie in [0, 1), got {self.deepest_slope}")
        if self.init_std <= 0:
            raise ValueError(f"init_std must be positive, got {self.init_std}")


PENNET = SRPNetConfig(residual_blocks=0, attention_kernel=3, deepest_slope=0.0)
"""PEN-Net, 10,231,538 parameters."""


def attention_transfer(low: Tensor, high: Tensor, mask: Tensor, kernel: int) -> Tensor:
    """Rewrite `low` by its own 4x4 patches, weighted by likeness in the deeper map (Sec. 3.2).

    A position of `high` stands for the 4x4 patch of `low` around it. Each position's k x k patch is
    compared with all patches that touch no hole; only the other side is normalised, so that the
    score is no cosine. As in PEN-Net's code, patches that touch the hole keep their share of the
    softmax, but end with the weight 1e-8, so rows do not sum to 1; positions outside the hole are
    rewritten too.

    Args:
        low: (b, c, 2h, 2w) features of a level.
        high: (b, c', h, w) features of the next deeper level.
        mask: (b, 1, H, W), 1 = hole, at any size.
        kernel: k, odd.

    Returns:
        (b, c, 2h, 2w).
    """
    h, w = high.shape[-2:]
    wide = torch.promote_types(high.dtype, torch.float32)
    holes = F.interpolate(mask.to(wide), size=(h, w), mode="bilinear", align_corners=True)
    touched = F.max_pool2d(holes, kernel, stride=1, padding=kernel // 2)
    usable = (touched <= 0).flatten(2).to(wide)  # (b, 1, n), n = h*w
    queries = F.unfold(high, kernel, padding=kernel // 2).transpose(1, 2).contiguous()  # per block
    norm = torch.linalg.vector_norm(queries, dim=2, keepdim=True, dtype=wide).clamp(min=1e-4)
    keys = (queries / norm).transpose(1, 2) * (usable * _SHARPNESS)
    patches = F.unfold(low, 4, stride=2, padding=1).transpose(1, 2).contiguous()  # (b, n, c*16)
    values = patches * usable.transpose(1, 2).to(low.dtype)
    if torch.is_grad_enabled() and torch.is_autocast_enabled(low.device.type):
        joined = attend_in_blocks(queries.to(wide), keys.contiguous(), values)  # without floors
    else:
        floor = _FLOOR * (patches - values).sum(1, keepdim=True, dtype=wide)  # (b, 1, c*16)
        joined = _attended(queries, keys.to(queries.dtype).contiguous(), values, floor)
    found = F.fold(joined.transpose(1, 2), low.shape[-2:], 4, stride=2, padding=1) / 4
    return found.to(low.dtype)


def _attended(queries: Tensor, keys: Tensor, values: Tensor, floor: Tensor) -> Tensor:
    """Values by the softmax of likeness, whose smallest weight is 1e-8; (b, n, c*16)."""
    b, n, _ = queries.shape
    # Rows of the softmax do not depend on each other. A graph keeps all scores anyway.
    rows = n if torch.is_grad_enabled() else max(1, _BLOCK // (b * n))
    found: list[Tensor] = []
    for part in queries.split(rows, dim=1) if rows < n else (queries,):
        scores = part @ keys
        if scores.dtype.itemsize == 2:
            found.append(torch.softmax(scores, dim=2) @ values)  # the floors would be rounded away
        else:
            weights = torch.softmax(scores.to(floor.dtype), dim=2).clamp(min=_FLOOR)
            found.append(weights.to(values.dtype) @ values + floor)
    return torch.cat(found, dim=1)


class Attention(nn.Module):
    """Attention transfer, then four dilated convolutions side by side (none at level 5)."""

    def __init__(self, channels: int, kernel: int, *, refined: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels // 4, 3, padding=dilation, dilation=dilation)
            for dilation in ((1, 2, 4, 8) if refined else ())
        )

    def forward(self, low: Tensor, high: Tensor, mask: Tensor) -> Tensor:
        x = attention_transfer(low, high, mask, self.kernel)
        return torch.cat([F.relu(conv(x)) for conv in self.convs], dim=1) if self.convs else x


class Reduction(nn.Module):
    """Half the size by a strided convolution, then residual blocks."""

    def __init__(self, channels: int, out: int, *, slope: float, residual_blocks: int) -> None:
        super().__init__()
        self.slope = slope
        self.conv = nn.Conv2d(channels, out, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(DilatedResidualBlock(out) for _ in range(residual_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(F.leaky_relu(self.conv(x), self.slope))


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """What the network predicts, at all its scales."""

    prediction: Tensor
    """(b, 3, h, w) RGB in [0, 1]."""
    coarse: tuple[Tensor, ...]
    """Five pictures (b, 3, h/2^i, w/2^i) RGB in [0, 1], i = 1 to 5: the largest first."""


class SRPNet(nn.Module):
    """Generator. Fills the features of the hole level by level, from the deepest outwards."""

    def __init__(self, config: SRPNetConfig = SRPNetConfig()) -> None:
        super().__init__()
        self.config = config
        c = config.width
        widths = [c, 2 * c, 4 * c, 8 * c, 16 * c, 16 * c]
        slopes = [0.2] * 5 + [config.deepest_slope]
        kernels = [config.attention_kernel] * 4 + [1]
        self.down = nn.ModuleList(
            Reduction(a, b, slope=slope, residual_blocks=config.residual_blocks)
            for (a, b), slope in zip(pairwise([4, *widths]), slopes, strict=True)
        )
        self.attend = nn.ModuleList(
            Attention(width, kernel, refined=level < 5)
            for level, width, kernel in zip(range(1, 6), widths[:5], kernels, strict=True)
        )
        inputs = [*(2 * width for width in widths[1:5]), widths[5]]
        self.up = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(inputs, widths[:5], strict=True)
        )
        self.to_rgb = nn.ModuleList(nn.Conv2d(2 * width, 3, 1) for width in widths[:5])
        self.head = nn.Sequential(
            nn.Conv2d(2 * c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, 3, 3, padding=1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=config.init_std)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
        if config.colours and not next(self.parameters()).is_meta:
            start_colours(self.state_dict())

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict every pixel; known pixels are not copied (see `retouch.pipeline.compositing`).

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; values under the mask are ignored.
            mask: (b, 1, h, w) in {0, 1}, 1 = hole; h and w multiples of 64.

        Returns:
            (b, 3, h, w) RGB in [0, 1].
        """
        return self._picture(self._decoded(image, mask)[0], image)

    def pyramid(self, image: Tensor, mask: Tensor) -> Pyramid:
        """Predict the picture as `forward` does, and coarser ones on the way to it."""
        decoded = self._decoded(image, mask)
        coarse = (conv(x) for conv, x in zip(self.to_rgb, decoded, strict=True))
        return Pyramid(
            prediction=self._picture(decoded[0], image),
            coarse=tuple((torch.tanh(x.to(image.dtype)) + 1) / 2 for x in coarse),
        )

    def _decoded(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Compute (b, 2c, h/2^i, w/2^i), decoded and attended features, for levels 1 to 5."""
        x = torch.cat([(image * 2 - 1).masked_fill(mask > 0, 1), mask.to(image.dtype)], dim=1)
        levels: list[Tensor] = []
        for reduce in self.down:
            x = reduce(x)
            levels.append(x)
        decoded: list[Tensor] = []
        attended = x = levels[5]
        for level in (4, 3, 2, 1, 0):
            attended = self.attend[level](levels[level], attended, mask)
            x = torch.cat([F.relu(self.up[level](_doubled(x))), attended], dim=1)
            decoded.append(x)
        return decoded[::-1]

    def _picture(self, decoded: Tensor, image: Tensor) -> Tensor:
        return (torch.tanh(self.head(_doubled(decoded)).to(image.dtype)) + 1) / 2


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


_WEIGHTS = {
    "hole": 6.0,
    "valid": 1.0,
    "pyramid": 0.5,
    "adversarial_global": 0.1,
    "adversarial_local": 0.1,
    **dict.fromkeys(("content", "unit_content", "style"), 0.0),
}
_LAYERS = ("relu2_1", "relu3_1", "relu4_1")


@dataclass(frozen=True, kw_only=True)
class SRPNetObjectiveConfig:
    """What the generator pays for, and how the critics are built."""

    weights: Mapping[str, float] = field(default_factory=lambda: dict(_WEIGHTS))
    """Weight of each generator term, all PEN-Net's; the second critic counts as the first. Content
    and style of the completed picture are ours, for small sets, and off as published."""
    gan: Kind = "hinge"
    """`hinge` in PEN-Net's recipes for CelebA-HQ and Places2, `nsgan` for facades and DTD."""
    local_critic: bool = True
    """A second critic that sees the hole only; False in PEN-Net."""
    critic_width: int = 64
    """Channels of the critics' first layer."""
    critic_strides: tuple[int, ...] = (2, 2, 2, 2, 2)
    """Strides of the critics' layers; (2, 2, 2, 1, 1) in PEN-Net."""


PENNET_OBJECTIVE = SRPNetObjectiveConfig(local_critic=False, critic_strides=(2, 2, 2, 1, 1))
"""PEN-Net's objective."""


class SRPNetObjective(nn.Module):
    """L1 in the hole, outside and over the pyramid; adversarial terms on the completed picture.

    As in PEN-Net, all pictures are compared in [-1, 1], and the critic steps first.

    Args:
        config: Weights and critics.
        features: A `retouch.layers.vgg.VGG19`; without it there are no content and style terms.
    """

    def __init__(
        self,
        config: SRPNetObjectiveConfig = SRPNetObjectiveConfig(),
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.critics = nn.ModuleDict()
        for name in ("global", "local") if config.local_critic else ("global",):
            critic = WideCritic(width=config.critic_width, strides=config.critic_strides)
            self.critics[name] = critic

    def predict(self, network: nn.Module, batch: Batch) -> Pyramid:
        """Run the generator with its coarse outputs."""
        return cast(SRPNet, network).pyramid(batch.image, batch.mask)

    def generator_terms(self, outputs: Pyramid, batch: Batch) -> dict[str, Tensor]:
        """Compute the generator's terms, unweighted; no critic receives a gradient from them."""
        made, real = _signed(outputs.prediction), _signed(batch.image)
        known = 1 - batch.mask
        smaller = {"mode": "bilinear", "align_corners": True}
        steps = [
            l1(_signed(coarse), F.interpolate(real, coarse.shape[-2:], **smaller))
            for coarse in outputs.coarse
        ]
        terms = {
            "hole": masked_l1(made, real, batch.mask, batch.hole_share),
            "valid": masked_l1(made, real, known, 1 - batch.hole_share),
            "pyramid": torch.stack(steps).sum(),
        }
        completed = known * real + batch.mask * made
        for name, picture in self._judged(completed, batch.mask).items():
            with frozen(self.critics[name]):
                logits = self.critics[name](picture)
            terms[f"adversarial_{name}"] = generator_loss(logits, self.config.gan)
        pair = ((completed + 1) / 2, batch.image)
        return terms | perceptual_terms(self.features, *pair, _LAYERS, _LAYERS, self.config.weights)

    def critic_terms(self, outputs: Pyramid, batch: Batch) -> dict[str, Tensor]:
        """Compute each critic's loss, the mean of its real and fake halves."""
        truth, made = _signed(batch.image), _signed(outputs.prediction.detach())
        real = self._judged(truth, batch.mask)
        fake = self._judged((1 - batch.mask) * truth + batch.mask * made, batch.mask)
        return {
            name: critic_loss(critic(real[name]), critic(fake[name]), self.config.gan)
            for name, critic in self.critics.items()
        }

    def _judged(self, picture: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What each critic sees of a picture in [-1, 1]; the local one sees zeros around holes."""
        seen = {"global": picture, "local": picture * mask}
        return {name: seen[name] for name in self.critics}


def _signed(picture: Tensor) -> Tensor:
    return picture * 2 - 1


CARD = Card(
    model=SRPNet,
    config=SRPNetConfig,
    paper="Semantic Residual Pyramid Network for Image Inpainting, Information 13(2):71, 2022",
    license="MIT",  # PEN-Net's; SRPNet has no public weights
    multiple_of=64,
    min_size=64,
    working_size=256,
    start_colours=start_colours,
    patches=True,  # LPIPS .1206 to .1144 on 20 held-out facades with squares, 22.93 to 22.56 dB
    cost=2.5,
    official={
        "pennet": Official(
            what="PEN-Net generator (CVPR 2019)",
            recognise=is_official_pennet,
            convert=pennet_from_official,
        )
    },
    objective=SRPNetObjective,
    objective_config=SRPNetObjectiveConfig,
    small={"width": 4},
)
