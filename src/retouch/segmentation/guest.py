"""A frozen segmentation network that accompanies another network without being part of it."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.segmentation.labels import label_set


class WithSegmenter(nn.Module):
    """A network whose label maps can be proposed by a guest.

    `segmenter` maps a picture in [0, 1] to logits (b, classes, h, w); any module may be assigned.
    It is frozen, stays in evaluation mode, follows the network to devices and dtypes, and is
    neither in its state dict nor among its parameters: its weights are their own file.

    Args:
        labels: Name of the label set.
    """

    segmenter: nn.Module | None

    def __init__(self, labels: str) -> None:
        super().__init__()
        self.label_set = label_set(labels)
        self.segmenter = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "segmenter":
            super().__setattr__(name, value)
            return
        if value is not None:
            value.eval().requires_grad_(False)
        object.__setattr__(self, name, value)  # past nn.Module, which would register it

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        if self.segmenter is not None:
            self.segmenter._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def label(self, image: Tensor) -> Tensor:
        """Propose a label map.

        Args:
            image: (b, 3, h, w) RGB in [0, 1], without a hole.

        Returns:
            (b, h, w) int64.

        Raises:
            ValueError: If there is no segmenter, or it speaks of other classes.
        """
        if self.segmenter is None:
            raise ValueError(
                f"give a label map ({self.label_set.name}) or load a segmenter: none is attached"
            )
        logits = self.segmenter(image)
        if logits.shape[1] != len(self.label_set):
            raise ValueError(
                f"{self.label_set.name} has {len(self.label_set)} classes,"
                f" the segmenter {logits.shape[1]}"
            )
        return logits.argmax(1)


class Untrained(nn.Module):
    """Labels an 8x8 grid by its mean colors, with random weights that are always the same.

    It knows nothing: with it a network can be run and tested before any segmenter is trained. The
    grid is coarse so that rounding errors hardly ever change a label.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, classes, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.conv(functional.adaptive_avg_pool2d(image, 8) - 0.5)  # (b, classes, 8, 8)
        return functional.interpolate(logits, (image.shape[-2], image.shape[-1]))
