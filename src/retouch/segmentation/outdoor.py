"""Outdoor scenes in eight classes: the dilated ResNet-101 of SFTGAN.

Paper: Wang et al., "Recovering Realistic Texture in Image Super-resolution by Deep Spatial Feature
Transform", CVPR 2018, arXiv:1804.02815 (the network only labels its pictures). Reference code:
github.com/xinntao/SFTGAN (no licence file; re-implemented from its description), whose file
`segmentation_OST_bic.pth` loads. The semantic-guidance paper says "DeepLab V2" and names no file;
this is the public network for its OutdoorScenes classes.

Differences from the reference:
  - the input is RGB in [0, 1]; BGR, 0..255 and the mean are handled inside;
  - the result is logits, not probabilities (the label is the same);
  - sides are padded to multiples of 8 by repeating the border, not cropped;
  - the reference's blur uses MATLAB's resize, ours PyTorch's: both antialiased bicubic with
    a = -0.5, they differ at the picture's border only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.segmentation._card import Heads, Official, SegmenterCard
from retouch.segmentation.labels import label_set
from retouch.segmentation.objective import SegmentationObjective, SegmentationObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class OutdoorSceneSegConfig:
    """Hyper-parameters; the defaults are those of `segmentation_OST_bic.pth`."""

    labels: str = "outdoor"
    """Label set of the output, see `retouch.segmentation.labels`."""
    channels: int = 64
    """Channels of the stem; all other widths are multiples of it."""
    blocks: tuple[int, int, int, int] = (3, 4, 23, 3)
    """Bottlenecks of the four stages (ResNet-101)."""
    blur: bool = True
    """Shrink and enlarge the picture by 4 first: the public file learned enlarged pictures."""

    def __post_init__(self) -> None:
        label_set(self.labels)
        if self.channels < 1 or len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(f"channels and blocks must be positive, got {self}")


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with batch norm, added to the (projected) input; the 3x3 holds the stride."""

    def __init__(
        self, inputs: int, middle: int, outputs: int, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.res = nn.Sequential(
            nn.Conv2d(inputs, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, middle, 3, stride, dilation, dilation, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.proj = nn.Sequential()
        if inputs != outputs:
            self.proj.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.proj.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.res(x) + self.proj(x))


def _stage(inputs: int, middle: int, blocks: int, stride: int, dilation: int) -> list[nn.Module]:
    first = Bottleneck(inputs, middle, 4 * middle, stride=stride, dilation=dilation)
    rest = (
        Bottleneck(4 * middle, middle, 4 * middle, dilation=dilation) for _ in range(blocks - 1)
    )
    return [first, *rest]


def _unit(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class OutdoorSceneSeg(nn.Module):
    """Labels every pixel of an outdoor picture."""

    def __init__(self, config: OutdoorSceneSegConfig = OutdoorSceneSegConfig()) -> None:
        super().__init__()
        self.config = config
        c, classes = config.channels, len(label_set(config.labels))
        two, three, four, five = config.blocks
        self.feature = nn.Sequential(
            *_unit(3, c, stride=2),  # (b, c, h/2, w/2)
            *_unit(c, c),
            *_unit(c, 2 * c),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (b, 2c, h/4, w/4)
            *_stage(2 * c, c, two, stride=1, dilation=1),
            *_stage(4 * c, 2 * c, three, stride=2, dilation=1),  # (b, 8c, h/8, w/8)
            *_stage(8 * c, 4 * c, four, stride=1, dilation=2),
            *_stage(16 * c, 8 * c, five, stride=1, dilation=4),
            *_unit(32 * c, 8 * c),
            nn.Dropout2d(0.1),
            nn.Conv2d(8 * c, classes, 1),
        )
        self.deconv = nn.ConvTranspose2d(classes, classes, 16, 8, 4, groups=classes, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        with torch.no_grad():
            self.deconv.weight.copy_(_bilinear(16))

    def forward(self, image: Tensor) -> Tensor:
        """Label a picture.

        Args:
            image: (b, 3, h, w) RGB in [0, 1].

        Returns:
            (b, classes, h, w) logits in the order of `config.labels`.
        """
        h, w = image.shape[-2:]
        x = functional.pad(image, (0, -w % 8, 0, -h % 8), mode="replicate")
        if self.config.blur:
            size = (x.shape[-2], x.shape[-1])
            x = _bicubic(_bicubic(x, (size[0] // 4, size[1] // 4)), size)
        mean = x.new_tensor((123.68, 116.779, 103.939)).view(3, 1, 1)  # Caffe's ImageNet mean
        x = (x * 255 - mean).flip(1)  # BGR
        return self.deconv(self.feature(x))[..., :h, :w]

    def heads(self, image: Tensor) -> Heads:
        """Label a picture, for training; there is no auxiliary head."""
        return Heads(logits=self(image))


def _bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size, mode="bicubic", antialias=True)


def _bilinear(kernel: int) -> Tensor:
    """Kernel of a transposed convolution that enlarges by kernel / 2, (kernel, kernel)."""
    factor = kernel // 2
    ramp = 1 - ((torch.arange(kernel) + 0.5) / factor - 1).abs()
    return torch.outer(ramp, ramp)


@dataclass(frozen=True, kw_only=True)
class OutdoorObjectiveConfig(SegmentationObjectiveConfig):
    """Plain cross-entropy: the source says nothing of hard pixels."""

    hard_pixels: bool = False
    """Average over hard pixels only."""


def _recognise(state: Mapping[str, Tensor]) -> bool:
    return "feature.10.res.0.weight" in state and "deconv.weight" in state


def _convert(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Take the official file as it is: its class order is the data set's."""
    return {"labels": "outdoor", "channels": state["feature.0.weight"].shape[0]}, dict(state)


CARD = SegmenterCard(
    model=OutdoorSceneSeg,
    config=OutdoorSceneSegConfig,
    source="SFTGAN, CVPR 2018, arXiv:1804.02815; xinntao/SFTGAN",
    license="none stated by the authors; research only",
    objective=SegmentationObjective,
    objective_config=OutdoorObjectiveConfig,
    official={
        "segmentation_OST_bic": Official(
            what="OutdoorSceneSeg, 8 classes (segmentation_OST_bic.pth)",
            recognise=_recognise,
            convert=_convert,
        )
    },
    small={"channels": 4, "blocks": (1, 1, 1, 1)},
)
