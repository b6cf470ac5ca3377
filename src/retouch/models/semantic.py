"""Semantic guidance: a coarse fill, a label map that a person may edit, a fine fill that obeys it.

Paper: "Interactive Image Inpainting Using Semantic Guidance" (external spatial attention, ESPA,
and spatially adaptive normalisation, SPADE). Reference code:
github.com/Mark-Yu1/Interactive-Image-Inpainting @ 3cf442a (no licence: re-implemented from its
behaviour), which holds the first stage and the critic only. SPADE: Park et al., CVPR 2019,
arXiv:1903.07291, from its formula. Critic and training stages: `_semantic_objective.py`.

Differences from the reference:
  - the second stage, its losses and the schedule are not in the code: they follow the paper, and
    what the paper leaves open is chosen here (docs/networks/semantic.md lists every choice);
  - the paper's Eq. 8 prints the labels of the adversarial loss the wrong way round: the standard
    least-squares form is used;
  - SPADE normalises each picture by itself (the paper trains with batches of one);
  - 1x1 convolutions over a transposed map are written as the linear layers they are.

ESPA is called attention but multiplies no two maps: it mixes rows, then columns, through two
learned memories. There is no pixel-by-pixel matrix, its memory is that of one map; its weights fit
a map of 64x64 only, so pictures of 256x256.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.layers.normalization import instance_norm
from retouch.models._card import Card, Official
from retouch.models._semantic_objective import SemanticObjective, SemanticObjectiveConfig
from retouch.segmentation.guest import Untrained, WithSegmenter
from retouch.segmentation.labels import label_set

_SIDE = 256  # ESPA mixes along axes of 64 = 256 / 4


@dataclass(frozen=True, kw_only=True)
class SemanticConfig:
    """Hyper-parameters; the paper gives no widths, 32 is the first stage's lineage's default."""

    channels: int = 64
    """Channels at full size; 2x at a half, 4x at a quarter. The reference's `ngf`."""
    espa: bool = True
    """External spatial attention in the first stage; False is the paper's ablation."""
    guided: bool = True
    """Whether there is a second stage; False is the first alone (the paper's Table III)."""
    hidden: int = 128
    """Channels between label map and modulation in SPADE; 64 nearly halves the decoder's cost."""
    labels: str = "faces"
    """Label set of the guiding map, see `retouch.segmentation.labels`."""
    segmenter: str = ""
    """Weights (by name in the store) of the network that proposes label maps; empty: none;
    `untrained`: a stand-in that knows nothing, for tests."""

    def __post_init__(self) -> None:
        label_set(self.labels)
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"channels must be even and at least 2, got {self.channels}")
        if self.hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {self.hidden}")


class Memory(nn.Module):
    """Two linear layers along the last axis: Eq. 3's product with a learned key or value."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.first = nn.Linear(length, 2 * length, bias=False)
        self.second = nn.Linear(2 * length, length, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(functional.gelu(self.first(x)))


class ESPA(nn.Module):
    """External spatial attention (Eq. 3): layer norm over channels, rows mixed, columns mixed."""

    def __init__(self, channels: int, length: int = _SIDE // 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.key = Memory(length)
        self.value = Memory(length)

    def forward(self, x: Tensor) -> Tensor:  # (b, c, h, w)
        x = self.norm(x.permute(0, 3, 2, 1))  # (b, w, h, c)
        x = self.key(x.transpose(2, 3))  # (b, w, c, h)
        return self.value(x.permute(0, 2, 3, 1))  # (b, c, h, w)


class Conv(nn.Module):
    """Convolution with zero padding, then ELU."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return functional.elu(self.conv(x), inplace=True)


class Autoencoder(nn.Module):
    """First stage: features at a quarter of the size, and the coarse picture painted from them."""

    def __init__(self, channels: int, *, espa: bool) -> None:
        super().__init__()
        c = channels
        self.down = nn.Sequential(
            Conv(5, c, kernel=5),
            Conv(c, 2 * c, stride=2),
            Conv(2 * c, 2 * c),
            Conv(2 * c, 4 * c, stride=2),
            Conv(4 * c, 4 * c),
            Conv(4 * c, 4 * c),
        )
        self.dilated = nn.Sequential(*(Conv(4 * c, 4 * c, dilation=d) for d in (2, 4, 8, 16)))
        self.espa = ESPA(4 * c) if espa else None
        self.context = nn.Conv2d(3, 4 * c, 1, bias=False) if espa else None
        self.merge = nn.Sequential(Conv(4 * c, 4 * c), Conv(4 * c, 4 * c))
        self.up_half = nn.Sequential(Conv(4 * c, 2 * c), Conv(2 * c, 2 * c))
        self.up_full = nn.Sequential(Conv(2 * c, c), Conv(c, c // 2))
        self.head = nn.Conv2d(c // 2, 3, 3, padding=1)

    def forward(self, known: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Fill.

        Args:
            known: (b, 3, h, w) in [-1, 1], 0 in the hole.
            mask: (b, 1, h, w), 1 = hole.

        Returns:
            Coarse picture (b, 3, h, w) in [-1, 1] and features (b, 4c, h/4, w/4).
        """
        x = torch.cat([known, torch.ones_like(mask), mask], dim=1)
        x = self.down(x)  # (b, 4c, h/4, w/4)
        feature = self.dilated(x)
        if self.espa is not None and self.context is not None:
            feature = feature + self._attend(self.espa, self.context(_quarter(known)), x, mask)
        feature = self.merge(feature)
        x = self.up_half(functional.interpolate(feature, scale_factor=2.0))  # (b, 2c, h/2, w/2)
        x = self.up_full(functional.interpolate(x, scale_factor=2.0))  # (b, c/2, h, w)
        return self.head(x).clamp(-1, 1), feature

    @staticmethod
    def _attend(espa: ESPA, context: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """Features inside the hole, the projected known picture outside, before and after."""
        hole = mask[:, :, ::4, ::4]
        return espa(x * hole + context * (1 - hole)) * hole + context * (1 - hole)


def _quarter(x: Tensor) -> Tensor:
    """Bilinear without antialiasing: the mean of the middle 2x2 of each 4x4 cell."""
    size = (x.shape[-2] // 4, x.shape[-1] // 4)
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


class SPADE(nn.Module):
    """Spatially adaptive normalisation: the label map says scale and shift of every pixel."""

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(classes, hidden, 3, padding=1)
        self.scale = nn.Conv2d(hidden, channels, 3, padding=1)
        self.shift = nn.Conv2d(hidden, channels, 3, padding=1)
        for conv in (self.scale, self.shift):  # guidance starts weak: a plain instance norm
            nn.init.normal_(conv.weight, std=0.02)
            nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        hidden = functional.relu(self.shared(guide), inplace=True)
        scale, shift = self.scale(hidden).add_(1), self.shift(hidden)
        del hidden
        return shift.addcmul_(instance_norm(x), scale)


class SPADEBlock(nn.Module):
    """Residual block: twice SPADE, leaky ReLU and 3x3; a guided 1x1 where the width changes."""

    def __init__(self, inputs: int, outputs: int, classes: int, hidden: int) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.norm1 = SPADE(inputs, classes, hidden)
        self.conv1 = nn.Conv2d(inputs, middle, 3, padding=1)
        self.norm2 = SPADE(middle, classes, hidden)
        self.conv2 = nn.Conv2d(middle, outputs, 3, padding=1)
        changes = inputs != outputs
        self.norm = SPADE(inputs, classes, hidden) if changes else None
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if changes else None

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        y = self.conv1(functional.leaky_relu(self.norm1(x, guide), 0.2, inplace=True))
        y = self.conv2(functional.leaky_relu(self.norm2(y, guide), 0.2, inplace=True))
        if self.norm is not None and self.shortcut is not None:
            x = self.shortcut(self.norm(x, guide))
        return x + y


class Decoder(nn.Module):
    """Second stage: paints the features of the first as the label map says."""

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        c = channels
        widths = ((4 * c, 4 * c), (4 * c, 4 * c), (4 * c, 2 * c), (2 * c, c))
        self.strides = (4, 4, 2, 1)
        self.blocks = nn.ModuleList(SPADEBlock(a, b, classes, hidden) for a, b in widths)
        self.head = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, feature: Tensor, guide: Tensor) -> Tensor:
        """Paint.

        Args:
            feature: (b, 4c, h/4, w/4).
            guide: (b, classes, h, w), one-hot.

        Returns:
            (b, 3, h, w) in [-1, 1].
        """
        x = feature
        for block, stride in zip(self.blocks, self.strides, strict=True):
            if stride < 4:
                x = functional.interpolate(x, scale_factor=2.0)
            x = block(x, guide[:, :, ::stride, ::stride])  # (b, 4c, 4c, 2c, c; h / stride)
        return torch.tanh(self.head(functional.leaky_relu(x, 0.2)))


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What the first stage knows of a picture: enough for any number of edits."""

    coarse: Tensor
    """(b, 3, h, w) RGB in [0, 1]: the first stage's own fill."""
    feature: Tensor
    """(b, 4c, h/4, w/4)."""


class Semantic(WithSegmenter):
    """Generator of both stages.

    The segmenter that proposes label maps is a guest (see `retouch.segmentation.guest`), set by
    whoever loads the weights named in `config.segmenter`. The constructor itself sets one only for
    the name `untrained`: a stand-in that knows nothing but lets every part run.
    """

    def __init__(self, config: SemanticConfig = SemanticConfig()) -> None:
        super().__init__(config.labels)
        self.config = config
        self.encoder = Autoencoder(config.channels, espa=config.espa)
        classes = len(self.label_set)
        self.decoder = Decoder(config.channels, classes, config.hidden) if config.guided else None
        if config.segmenter == "untrained":
            self.segmenter = Untrained(classes)

    def forward(self, image: Tensor, mask: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict every pixel; known pixels are not copied (see `retouch.pipeline.compositing`).

        Without `labels` the coarse fill is put into the hole and the segmenter labels the result
        (Sec. III). Without a second stage the coarse fill is the prediction.

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; values under the mask are ignored. 256x256, or
                multiples of 4 if there is no ESPA.
            mask: (b, 1, h, w) in {0, 1}, 1 = hole.
            labels: (b, h, w) int64 in the order of `config.labels`; other values guide nothing.

        Returns:
            (b, 3, h, w) RGB in [0, 1].

        Raises:
            ValueError: If sizes do not fit, or neither labels nor a segmenter are at hand.
        """
        encoded = self.encode(image, mask)
        if self.decoder is None:
            return encoded.coarse
        if labels is None:
            labels = self.propose(encoded, image, mask)
        return self.decode(encoded, labels)

    def encode(self, image: Tensor, mask: Tensor) -> Encoded:
        """Run the first stage, once per picture and mask; arguments as in `forward`."""
        h, w = image.shape[-2:]
        if self.config.espa and (h, w) != (_SIDE, _SIDE):
            raise ValueError(f"ESPA's weights fit {_SIDE}x{_SIDE} pictures only, got {h}x{w}")
        if h % 4 or w % 4:
            raise ValueError(f"height and width must be multiples of 4, got {h}x{w}")
        known = torch.where(mask > 0, 0, image * 2 - 1)
        coarse, feature = self.encoder(known, mask.to(image.dtype))
        return Encoded(coarse=(coarse + 1) / 2, feature=feature)

    def propose(self, encoded: Encoded, image: Tensor, mask: Tensor) -> Tensor:
        """Label what `encode` made of a picture (b, h, w): the coarse fill in its hole."""
        return self.label(torch.where(mask > 0, encoded.coarse, image))

    def decode(self, encoded: Encoded, labels: Tensor) -> Tensor:
        """Run the second stage: all that an edit of the label map costs.

        Args:
            encoded: Result of `encode`.
            labels: (b, h, w) int64, of the picture's size.

        Returns:
            (b, 3, h, w) RGB in [0, 1].

        Raises:
            ValueError: If there is no second stage or the map has another size.
        """
        if self.decoder is None:
            raise ValueError("this network has only the first stage (guided = false)")
        expected = (encoded.coarse.shape[0], *encoded.coarse.shape[-2:])
        if tuple(labels.shape) != expected:
            raise ValueError(f"labels must be {expected}, got {tuple(labels.shape)}")
        classes = torch.arange(len(self.label_set), device=labels.device).view(1, -1, 1, 1)
        guide = (labels[:, None] == classes).to(encoded.feature.dtype)
        return (self.decoder(encoded.feature, guide) + 1) / 2


_OFFICIAL_LAYERS = {
    **dict(zip(("conv1", "conv2_downsample", "conv3", "conv4_downsample", "conv5", "conv6"),
               (f"down.{i}" for i in range(6)), strict=True)),
    **{f"conv{7 + i}_atrous": f"dilated.{i}" for i in range(4)},
    "conv11": "merge.0", "conv12": "merge.1",
    "conv13": "up_half.0", "conv14": "up_half.1",
    "conv15": "up_full.0", "conv16": "up_full.1",
}  # fmt: skip
_OFFICIAL_MEMORIES = {
    f"espa.ex_{official}.net.{i}.weight": f"espa.{ours}.{layer}.weight"
    for official, ours in (("k", "key"), ("v", "value"))
    for i, layer in ((0, "first"), (2, "second"))
}


def _recognise(state: Mapping[str, Tensor]) -> bool:
    return "conv7_atrous.conv.weight" in state and "conv17.conv.weight" in state


def _convert(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Rename the reference's first stage (41 tensors): a network without a second stage."""
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, _, rest = key.partition(".")
        if key in _OFFICIAL_MEMORIES:
            ours[f"encoder.{_OFFICIAL_MEMORIES[key]}"] = value.squeeze(-1)
        elif layer in _OFFICIAL_LAYERS:
            ours[f"encoder.{_OFFICIAL_LAYERS[layer]}.{rest}"] = value
        elif layer == "conv17":
            ours[f"encoder.head.{rest.removeprefix('conv.')}"] = value
        else:
            ours[f"encoder.{key.replace('convc.', 'context.')}"] = value
    channels = state["conv1.conv.weight"].shape[0]
    return {"channels": channels, "espa": "convc.weight" in state, "guided": False}, ours


CARD = Card(
    model=Semantic,
    config=SemanticConfig,
    paper="Interactive Image Inpainting Using Semantic Guidance",
    license="none stated by the authors, and no weights published",
    cost=8.3,
    objective=SemanticObjective,
    objective_config=SemanticObjectiveConfig,
    multiple_of=4,
    min_size=_SIDE,
    working_size=_SIDE,
    fixed_size=_SIDE,
    labels=True,
    official={
        "espa": Official(
            what="ESPA autoencoder: first stage of interactive inpainting (networks.Generator)",
            recognise=_recognise,
            convert=_convert,
        )
    },
    small={"channels": 4, "hidden": 8, "segmenter": "untrained"},
)
