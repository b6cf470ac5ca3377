"""Structure inpainting: fills the picture and, beside it, its gradients at three scales.

Paper: Yang, Qi, Shi, "Learning to Incorporate Structure Knowledge for Image Inpainting", AAAI 2020,
arXiv:2002.04170. Reference code: YoungGod/sturcture-inpainting @ c3a067e (TensorFlow 1, CC BY-NC).

Differences from the reference (reasons and the oddities kept: docs/networks/structure.md):
  - edges and gradients of the input are leak-free: the reference masks them after the filters, so a
    ring of pixels round the hole tells what it held. `guides="whole"` does that too;
  - any size divisible by 16 and any batch; attention never stores its 16384 x 4096 weights; L1
    terms are means over pictures, their weight carries the authors' batch of 4;
  - no edge gives an edge term of 0, not NaN; the critic's power iteration has no gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.critics import frozen
from retouch.data.batch import Batch
from retouch.data.edges import edges, sobel
from retouch.layers.attention import attend, attend_patches
from retouch.layers.normalization import InstanceNorm2d
from retouch.layers.padding import mirrored
from retouch.layers.spectral import SpectralConv2d
from retouch.losses import structure as losses
from retouch.losses.adversarial import Kind, critic_loss, generator_loss
from retouch.models._card import Card, Official
from retouch.models._structure_official import from_official


@dataclass(frozen=True, kw_only=True)
class StructureConfig:
    """Hyper-parameters; the defaults are the published ones."""

    channels: int = 64
    """Channels at full size, doubled at each halving; a multiple of 16."""
    blocks: int = 8
    """Residual blocks at a quarter of the size."""
    attention: int = 1
    """Side of the patches attention compares: 1 = published, 3 = README, 0 = none (ablation)."""
    embedding: bool = True
    """Whether structure features join the next scale's input; False is an ablation."""
    guides: Literal["known", "whole"] = "known"
    """Edges and gradients see the known pixels only, or the whole picture (published, leaking)."""
    norm: Literal["instance", "none"] = "instance"
    """After each convolution. Instance norm (published) forgets the mean colours of the picture,
    which are then learned only slowly, as contrast to the hole; without it they come through."""

    def __post_init__(self) -> None:
        if self.channels < 16 or self.channels % 16:
            raise ValueError(f"channels must be a positive multiple of 16, got {self.channels}")
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {self.blocks}")
        if self.attention < 0 or (self.attention and self.attention % 2 == 0):
            raise ValueError(f"attention must be 0 or odd, got {self.attention}")


@dataclass(frozen=True, kw_only=True)
class StructureOutputs:
    """The six heads, each from a quarter to the full size."""

    images: tuple[Tensor, ...]
    """Pictures (b, 3, h/4, w/4), (b, 3, h/2, w/2), (b, 3, h, w), RGB in [0, 1]."""
    gradients: tuple[Tensor, ...]
    """Sobel gradients (b, 6, ...) of the picture in [-1, 1]; per color: down, right."""


class Unit(nn.Module):
    """Reflection padding, convolution, norm, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        activation: nn.Module | None = None,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.margin = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation=dilation)
        self.norm: nn.Module = InstanceNorm2d(outputs, eps=1e-6, affine=True)
        self.activation = activation or nn.Identity()
        _start(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(mirrored(x, self.margin))))


class Up(nn.Module):
    """Twice the size: transposed convolution (TensorFlow's SAME), norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 4) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding=(kernel - 2) // 2)
        self.norm: nn.Module = InstanceNorm2d(outputs, eps=1e-6, affine=True)
        _start(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = self.conv(x)[:, :, : 2 * h, : 2 * w]  # an odd kernel gives one pixel more
        return functional.relu(self.norm(x), inplace=True)


def _start(conv: nn.Conv2d | nn.ConvTranspose2d, std: float | None = None) -> None:
    nn.init.xavier_uniform_(conv.weight) if std is None else nn.init.normal_(conv.weight, std=std)
    nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]


class ResidualBlock(nn.Module):
    """x + unit(dilated unit(x)); nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Unit(channels, channels, 3, nn.ReLU(inplace=True), dilation=2)
        self.second = Unit(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class PooledAttention(nn.Module):
    """Self-attention at half size over max-pooled keys, behind a gate that starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = Unit(channels, channels, 4, nn.ReLU(inplace=True), stride=2)
        self.key, self.query, self.value = (nn.Conv2d(channels, channels // 16, 1) for _ in "kqv")
        self.up = Up(channels // 16, channels)
        self.gamma = nn.Parameter(torch.zeros(1))
        for conv in (self.key, self.query, self.value):
            _start(conv, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        small = self.down(x)  # (b, c, h/2, w/2)
        key = functional.max_pool2d(self.key(small), 2)  # (b, c/16, h/4, w/4)
        value = functional.max_pool2d(self.value(small), 2)
        query = self.query(small)  # (b, c/16, h/2, w/2)
        found = attend(query.flatten(2), key.flatten(2), value.flatten(2))
        return torch.addcmul(x, self.gamma.to(x.dtype), self.up(found.reshape(query.shape)))


class PatchAttention(nn.Module):
    """The README's variant for k > 1: attention over patches, then a merging convolution."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.down = Unit(channels, channels, side, nn.ReLU(inplace=True), stride=2)
        self.up = Up(channels, channels, side)
        self.merge = nn.Conv2d(channels, channels, 3, padding=1)
        self.gamma = nn.Parameter(torch.zeros(1))
        _start(self.merge)

    def forward(self, x: Tensor) -> Tensor:
        found = attend_patches(self.down(x), self.side)  # (b, c, h/2, w/2)
        return functional.relu(self.merge(x + self.gamma.to(x.dtype) * self.up(found)))


class Level(nn.Module):
    """One scale of the decoder: attention, then structure features and their two heads."""

    def __init__(self, channels: int, attention: int) -> None:
        super().__init__()
        self.attention: nn.Module = nn.Identity()
        if attention == 1:
            self.attention = PooledAttention(channels)
        elif attention:
            self.attention = PatchAttention(channels, attention)
        self.embed = Unit(channels, channels, 5, nn.ReLU(inplace=True))
        self.gradient = Unit(channels, 6, 1)
        self.image = Unit(channels, 3, 1, nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Structure features (b, c, ...) of what was attended to, picture in [0, 1], gradients."""
        structure = self.embed(x)
        return structure, (self.image(structure) + 1) / 2, self.gradient(structure)


class Structure(nn.Module):
    """Generator with eleven input channels and six heads."""

    def __init__(self, config: StructureConfig = StructureConfig()) -> None:
        super().__init__()
        self.config = config
        full, half, quarter = (config.channels * n for n in (1, 2, 4))
        self.encoder = nn.Sequential(
            Unit(11, full, 7, nn.ReLU(inplace=True)),
            Unit(full, half, 4, nn.ReLU(inplace=True), stride=2),
            Unit(half, quarter, 4, nn.ReLU(inplace=True), stride=2),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(quarter) for _ in range(config.blocks)))
        self.levels = nn.ModuleList(Level(c, config.attention) for c in (quarter, half, full))
        joined = 2 if config.embedding else 1
        self.ups = nn.ModuleList(Up(joined * c, c // 2) for c in (quarter, half))
        for part in self.modules():
            if config.norm == "none" and isinstance(part, Unit | Up):
                part.norm = nn.Identity()

    def forward(self, image: Tensor, mask: Tensor, guides: Tensor | None = None) -> Tensor:
        """Predict every pixel; known pixels are not copied (see `retouch.pipeline.compositing`).

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; h and w multiples of 16.
            mask: (b, 1, h, w) in {0, 1}, 1 = hole.
            guides: (b, 7, h, w) from `guide`, found here if None; an input of an exported graph.

        Returns:
            (b, 3, h, w) RGB in [0, 1].
        """
        return self.heads(image, mask, guides).images[-1]

    def guide(self, image: Tensor, mask: Tensor) -> Tensor:
        """Canny edges and Sobel gradients of the picture in [-1, 1] as (b, 1 + 6, h, w)."""
        hole = mask if self.config.guides == "known" else None
        return torch.cat([edges(image, hole), sobel(image * 2 - 1, hole)], dim=1)

    def heads(self, image: Tensor, mask: Tensor, guides: Tensor | None = None) -> StructureOutputs:
        """All six heads; arguments as for `forward`."""
        guides = self.guide(image, mask) if guides is None else guides
        hole = mask > 0
        edge, gradient = guides[:, :1], guides[:, 1:]
        seen = (image * 2 - 1).masked_fill(hole, 0)
        paper = (1 - edge).masked_fill(hole, 1)  # 0 on edges, 1 elsewhere and in the hole
        x = torch.cat([seen, paper, mask, gradient.masked_fill(hole, 0)], dim=1)  # (b, 11, h, w)
        x = self.blocks(self.encoder(x))  # (b, 4c, h/4, w/4)
        images: list[Tensor] = []
        gradients: list[Tensor] = []
        for index, level in enumerate(self.levels):
            x = cast(nn.Module, level.attention)(x)
            structure, picture, slopes = level(x)
            images.append(picture)
            gradients.append(slopes)
            if index < len(self.ups):
                x = torch.cat([x, structure], dim=1) if self.config.embedding else x
                del structure  # maps that nothing reads any more are let go of
                x = self.ups[index](x)  # twice the size, half the channels
        return StructureOutputs(images=tuple(images), gradients=tuple(gradients))


class StructureCritic(nn.Module):
    """Patch critic of 70 pixels: five spectral convolutions with TensorFlow's SAME padding."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        widths = (3, channels, 2 * channels, 4 * channels, 8 * channels, 1)
        self.layers = nn.ModuleList()
        for (inputs, outputs), stride in zip(pairwise(widths), (2, 2, 2, 1, 1), strict=True):
            layer = SpectralConv2d(inputs, outputs, 4, stride=stride, bias=True)
            _start(layer, std=0.02)
            self.layers.append(layer)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (b, 1, h/8, w/8) of RGB pictures in [0, 1]; high means real."""
        x = image * 2 - 1
        for index, layer in enumerate(self.layers):
            behind = 1 if index < 3 else 2  # four taps at stride 1 need three more pixels
            x = layer(functional.pad(x, (1, behind, 1, behind)))
            x = functional.leaky_relu(x, 0.2) if index < 4 else x
        return x


@dataclass(frozen=True, kw_only=True)
class StructureObjectiveConfig:
    """What the generator pays for."""

    weights: Mapping[str, float] = field(default_factory=losses.published_weights)
    """Weight of each generator term; matching terms of weight 0 are not computed."""
    targets: Literal["training", "readme"] = "training"
    """Where the loss finds its edges. `training`: picture in [0, 1], shrunk by PIL's nearest pixel;
    `readme`: picture in [-1, 1] (more edges), shrunk by TensorFlow's nearest pixel."""
    adversarial: Kind = "hinge"
    """Form of the adversarial terms; the reference also offers `nsgan`."""
    penalty: float = 0.0
    """Weight of the critic's gradient penalty."""
    critic_channels: int = 64
    """Channels of the critic's first layer."""


class StructureObjective(nn.Module):
    """Reconstruction, pyramid structure loss, a critic and, given a `VGG19`, content and style."""

    def __init__(
        self,
        config: StructureObjectiveConfig = StructureObjectiveConfig(),
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.critics = nn.ModuleDict({"critic": StructureCritic(config.critic_channels)})

    def predict(self, network: Structure, batch: Batch) -> StructureOutputs:
        """One pass of the generator, all six heads."""
        return network.heads(batch.image, batch.mask)

    def truths(self, batch: Batch) -> dict[str, losses.Truth]:
        """What the heads should predict, by scale."""
        readme = self.config.targets == "readme"
        truths: dict[str, losses.Truth] = {}
        for scale, step in losses.STEPS.items():
            image, mask = (t[:, :, ::step, ::step] for t in (batch.image, batch.mask))
            first = step // 2
            edge = edges(image * 2 - 1 if readme else batch.image[:, :, first::step, first::step])
            truths[scale] = losses.Truth(image, mask, sobel(image * 2 - 1), losses.priority(edge))
        return truths

    def shares(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars to average over the global batch, which then carries them as `batch.shares`."""
        return {f"edge_{k}": truth.priority.mean() for k, truth in self.truths(batch).items()}

    def generator_terms(self, outputs: StructureOutputs, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms; each is a scalar."""
        terms: dict[str, Tensor] = {}
        weights = self.config.weights
        for index, (scale, truth) in enumerate(self.truths(batch).items()):
            share = batch.shares.get(f"edge_{scale}", truth.priority.mean())
            heads = outputs.images[index], outputs.gradients[index]
            found = losses.scale_terms(*heads, truth, batch.hole_share, share)
            if weights.get(f"matching_{scale}"):
                found["matching"] = losses.matching(heads[1], truth.gradient)
            terms |= {f"{name}_{scale}": term for name, term in found.items()}
        image, predicted, critic = batch.image, outputs.images[-1], self.critics["critic"]
        composite = predicted * batch.mask + image * (1 - batch.mask)
        with frozen(critic):
            terms["adversarial"] = generator_loss(critic(composite), self.config.adversarial)
        terms["variation"] = 4 * losses.total_variation(composite)  # of pictures in [-1, 1]
        if weights.get("matching_image"):
            terms["matching_image"] = losses.matching(predicted, image)
        return terms | losses.vgg_terms(self.features, (composite, predicted), image, weights)

    def critic_terms(self, outputs: StructureOutputs, batch: Batch) -> dict[str, Tensor]:
        """The critic's loss on real and completed pictures, judged in one pass."""
        critic, image, mask = self.critics["critic"], batch.image, batch.mask
        fake = outputs.images[-1].detach() * mask + image * (1 - mask)
        real, completed = critic(torch.cat([image, fake])).chunk(2)
        loss = 2 * critic_loss(real, completed, self.config.adversarial)
        if self.config.penalty:
            loss += self.config.penalty * losses.gradient_penalty(critic, image, fake, mask)
        return {"critic": loss}


CARD = Card(
    model=Structure,
    config=StructureConfig,
    paper="Learning to Incorporate Structure Knowledge for Image Inpainting, AAAI 2020, 2002.04170",
    license="CC-BY-NC-4.0",
    cost=4.7,
    rim=True,  # LPIPS .1698 to .1669, PSNR 25.11 to 25.20 dB on 24 held-out scenes
    objective=StructureObjective,
    objective_config=StructureObjectiveConfig,
    multiple_of=16,
    min_size=16,
    working_size=256,
    official={
        "structure": Official(
            what="structure knowledge generator (AAAI 2020, TensorFlow 1)",
            recognise=lambda state: "inpaint_net/en_64_8_00/kernel" in state,
            convert=from_official,
        )
    },
    small={"channels": 16, "blocks": 2},
)
