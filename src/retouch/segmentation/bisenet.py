"""BiSeNet for label maps: the face parser, and any other label set to be trained.

Paper: Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation",
ECCV 2018, arXiv:1808.00897. Reference code: github.com/zllrunning/face-parsing.PyTorch @ d2e684c
(MIT), whose file `79999_iter.pth` (CelebAMask-HQ, 19 classes) loads.

As in the reference, the paper's spatial path is replaced by the ResNet-18's own map at 1/8.

Differences from the reference:
  - the input is RGB in [0, 1]; ImageNet's mean and deviation are taken inside;
  - classes come in the data set's order: the importer reorders the classifiers' rows;
  - logits are interpolated from 1/8 straight to the picture's size, where the reference goes to
    512 px and leaves the rest to the caller;
  - `channels` scales every width (64 in the published network).
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
class BiSeNetConfig:
    """Hyper-parameters; the defaults are those of `79999_iter.pth` but for `size`."""

    labels: str = "faces"
    """Label set of the output, see `retouch.segmentation.labels`."""
    channels: int = 64
    """Channels of the ResNet's first stage; all other widths are multiples of it."""
    size: int | None = None
    """Side to which pictures are brought for the network [px]; None: as they come."""

    def __post_init__(self) -> None:
        label_set(self.labels)
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")
        if self.size is not None and self.size < 32:
            raise ValueError(f"size must be at least 32, got {self.size}")


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class Residual(nn.Module):
    """ResNet-18's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = Unit(inputs, outputs, 3, stride)
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(self.first(x))) + self.shortcut(x))


class ResNet18(nn.Module):
    """The backbone; `channels` is 64 in the published network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = Unit(3, channels, 7, 2)
        widths = [channels, channels, 2 * channels, 4 * channels, 8 * channels]
        self.stages = nn.ModuleList(
            nn.Sequential(Residual(a, b, stride), Residual(b, b, 1))
            for a, b, stride in zip(widths[:-1], widths[1:], (1, 2, 2, 2), strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps at 1/8, 1/16 and 1/32."""
        x = functional.max_pool2d(self.stem(x), 3, stride=2, padding=1)  # (b, c, h/4, w/4)
        x = self.stages[0](x)
        eighth = self.stages[1](x)  # (b, 2c, h/8, w/8)
        sixteenth = self.stages[2](eighth)  # (b, 4c, h/16, w/16)
        return eighth, sixteenth, self.stages[3](sixteenth)


class AttentionRefinement(nn.Module):
    """Scales every channel by a gate computed from its mean over the picture (Sec. 3.2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.unit = Unit(inputs, outputs, 3)
        self.gate = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.unit(x)
        return x * self.norm(self.gate(_mean(x))).sigmoid()


class FeatureFusion(nn.Module):
    """Joins detail and context, then adds a gated copy of the sum to itself (Sec. 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.unit = Unit(channels, channels, 1)
        self.squeeze = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.excite = nn.Conv2d(channels // 4, channels, 1, bias=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.unit(torch.cat([detail, context], dim=1))
        gate = self.excite(functional.relu(self.squeeze(_mean(x)))).sigmoid()
        return x * gate + x


class Head(nn.Module):
    """Classifier: 3x3 unit and 1x1 convolution."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.unit = Unit(inputs, hidden, 3)
        self.classifier = nn.Conv2d(hidden, classes, 1, bias=False)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        logits = self.classifier(self.unit(x))
        return functional.interpolate(logits, size, mode="bilinear", align_corners=True)


class BiSeNet(nn.Module):
    """Labels every pixel of a picture."""

    def __init__(self, config: BiSeNetConfig = BiSeNetConfig()) -> None:
        super().__init__()
        self.config = config
        c, classes = config.channels, len(label_set(config.labels))
        self.backbone = ResNet18(c)
        self.refine16 = AttentionRefinement(4 * c, 2 * c)
        self.refine32 = AttentionRefinement(8 * c, 2 * c)
        self.pooled = Unit(8 * c, 2 * c, 1)
        self.merge32 = Unit(2 * c, 2 * c, 3)
        self.merge16 = Unit(2 * c, 2 * c, 3)
        self.fuse = FeatureFusion(4 * c)
        self.head = Head(4 * c, 4 * c, classes)
        self.head16 = Head(2 * c, c, classes)
        self.head32 = Head(2 * c, c, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Label a picture; the auxiliary heads are not computed.

        Args:
            image: (b, 3, h, w) RGB in [0, 1], at least 32 px on a side.

        Returns:
            (b, classes, h, w) logits in the order of `config.labels`.
        """
        _, _, fused = self._features(image)
        return self.head(fused, _size(image))

    def heads(self, image: Tensor) -> Heads:
        """Label a picture with all heads, for training.

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; in training mode b must be at least 2, since batch
                norm sees one value per picture and channel in the gates.
        """
        at32, at16, fused = self._features(image)
        size = _size(image)
        return Heads(
            logits=self.head(fused, size),
            logits16=self.head16(at16, size),
            logits32=self.head32(at32, size),
        )

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Context at 1/16 (from 1/32), context at 1/8 (from 1/16) and the fused map at 1/8."""
        side = self.config.size
        if side is not None and _size(image) != (side, side):
            # With antialiasing this is Pillow's bilinear resize, as the reference does it.
            image = functional.interpolate(image, (side, side), mode="bilinear", antialias=True)
        mean = image.new_tensor((0.485, 0.456, 0.406)).view(3, 1, 1)  # ImageNet's
        deviation = image.new_tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
        eighth, sixteenth, last = self.backbone((image - mean) / deviation)
        x = self.refine32(last) + self.pooled(_mean(last))  # (b, 2c, h/32, w/32)
        at32 = self.merge32(functional.interpolate(x, _size(sixteenth)))  # (b, 2c, h/16, w/16)
        x = self.refine16(sixteenth) + at32
        at16 = self.merge16(functional.interpolate(x, _size(eighth)))  # (b, 2c, h/8, w/8)
        return at32, at16, self.fuse(eighth, at16)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


_FACE_ORDER = (0, 1, 6, 7, 4, 5, 3, 8, 9, 15, 2, 10, 11, 12, 17, 16, 18, 13, 14)
"""CelebAMask-HQ's label of each class of `79999_iter.pth`, in the file's order."""

_RENAMED = (
    ("cp.resnet.conv1.", "backbone.stem.conv."),
    ("cp.resnet.bn1.", "backbone.stem.norm."),
    *((f"cp.resnet.layer{i + 1}.", f"backbone.stages.{i}.") for i in range(4)),
    (".conv1.", ".first.conv."),
    (".bn1.", ".first.norm."),
    (".conv2.", ".conv."),
    (".bn2.", ".norm."),
    (".downsample.", ".shortcut."),
)
_RENAMED_OUTSIDE = (
    ("cp.conv_head", "merge"),
    ("cp.conv_avg.", "pooled."),
    ("cp.arm", "refine"),
    ("ffm.convblk.", "fuse.unit."),
    ("ffm.conv1.", "fuse.squeeze."),
    ("ffm.conv2.", "fuse.excite."),
    ("conv_out.conv_out.", "head.classifier."),
    ("conv_out16.conv_out.", "head16.classifier."),
    ("conv_out32.conv_out.", "head32.classifier."),
    ("conv_out", "head"),
    (".conv_atten.", ".gate."),
    (".bn_atten.", ".norm."),
    (".conv.conv.", ".unit.conv."),
    (".conv.bn.", ".unit.norm."),
    (".bn.", ".norm."),
)


def _recognise(state: Mapping[str, Tensor]) -> bool:
    return "cp.arm16.conv_atten.weight" in state and "ffm.convblk.conv.weight" in state


def _convert(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Rename the keys of the official file and bring the classes into the data set's order.

    Raises:
        ValueError: If the file has another number of classes than the public face parser.
    """
    classes = state["conv_out.conv_out.weight"].shape[0]
    if classes != len(_FACE_ORDER):
        raise ValueError(f"the face parser has {len(_FACE_ORDER)} classes, this file {classes}")
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        rules = _RENAMED if key.startswith("cp.resnet.") else _RENAMED_OUTSIDE
        name = key
        for official, mine in rules:
            name = name.replace(official, mine)
        if ".classifier." in name:
            value = torch.empty_like(value).index_copy_(0, torch.tensor(_FACE_ORDER), value)
        ours[name] = value
    channels = state["cp.resnet.conv1.weight"].shape[0]
    return {"labels": "faces", "channels": channels, "size": 512}, ours


CARD = SegmenterCard(
    model=BiSeNet,
    config=BiSeNetConfig,
    source="BiSeNet, ECCV 2018, arXiv:1808.00897; zllrunning/face-parsing.PyTorch (MIT)",
    license="MIT, trained on CelebAMask-HQ (non-commercial research)",
    objective=SegmentationObjective,
    objective_config=SegmentationObjectiveConfig,
    official={
        "79999_iter": Official(
            what="BiSeNet face parser, 19 classes of CelebAMask-HQ (79999_iter.pth)",
            recognise=_recognise,
            convert=_convert,
        )
    },
    small={"channels": 8},
)
