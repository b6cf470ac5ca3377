"""The pipeline for one crop as a single module, uint8 in and out: what `retouch export` writes.

It repeats `Inpainter` for a crop that the network takes at its own size: padding, the network
(twice where its card says so), the colour step at the rim, copy into the hole. What `Inpainter`
does with OpenCV is done with tensors here, because a graph can hold nothing else.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.layers.spectral import fold_spectral
from retouch.models import Card

_STRAIGHT, _DIAGONAL = 0.955, 1.3693
"""Lengths of a step to a neighbour in OpenCV's 3x3 distance transform [px]."""
_REACH = 8
"""As in `compositing.match_rim` [px]."""
_UNSEEN = 4 / 255
"""As in `compositing.match_rim`."""
_COARSE = 2
"""As in `compositing.match_rim` [px]."""
_FADED = 48
"""Steps into a hole after which less than 1/255 is left of a correction."""
_THRESHOLD = 128
"""Mask values from here on are hole."""


class CropGraph(nn.Module):
    """Fills the hole of one crop.

    Args:
        network: In evaluation mode; a copy with plain convolutions is kept.
        card: Its facts.
    """

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network = fold_spectral(network)
        self.multiple, self.mirror = card.multiple_of, card.mirror

    def forward(self, picture: Tensor, mask: Tensor, labels: Tensor | None = None) -> Tensor:
        """Fill the hole; every other sample stays as it is.

        Args:
            picture: (b, h, w, 3) uint8 RGB; what is under the mask is ignored.
            mask: (b, h, w) uint8, from 128 on hole.
            labels: (b, h, w) uint8 label map, for networks that need one.

        Returns:
            (b, h, w, 3) uint8 RGB.
        """
        h, w = mask.shape[1:]
        hole = (mask >= _THRESHOLD)[:, None]  # (b, 1, h, w)
        image = picture.permute(0, 3, 1, 2).to(torch.float32) / 255
        given = [self._padded(image), self._padded(hole.to(torch.float32))]
        if labels is not None:
            given.append(self._padded(labels[:, None].to(torch.float32))[:, 0].long())
        fill = self._predict(given)[..., :h, :w]
        fill = match_rim(fill, image, hole)
        return _samples(torch.where(hole, fill, image))

    def _padded(self, x: Tensor) -> Tensor:
        """Mirror (b, c, h, w) below and to the right, as `sizes.pad` does."""
        for dim in (2, 3):
            length = x.shape[dim]
            whole = (length + self.multiple - 1) // self.multiple * self.multiple
            x = _reflected(x, dim, 0, whole - length)
        return x

    def _predict(self, given: list[Tensor]) -> Tensor:
        if not self.mirror:
            return self.network(*given)
        prediction = self.network(*(torch.cat([part, part.flip(-1)]) for part in given))
        count = given[0].shape[0]
        return (prediction[:count] + prediction[count:].flip(-1)) / 2


class DeblurGraph(CropGraph):
    """Takes the blur out of one crop, all of which changes."""

    def forward(self, picture: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map (b, h, w, 3) uint8 RGB to the same."""
        h, w = picture.shape[1:3]
        image = picture.permute(0, 3, 1, 2).to(torch.float32) / 255
        return _samples(self.network(self._padded(image))[..., :h, :w])


def match_rim(fill: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """Take away the colour step at the rim, as `compositing.match_rim` does.

    Args:
        fill: (b, 3, h, w) in [0, 1].
        image: (b, 3, h, w); only known pixels are used.
        hole: (b, 1, h, w) bool.
    """
    outside = _nearness(hole, math.ceil(_REACH / _STRAIGHT))
    ring = (~hole & (outside >= math.exp(-1) - 1e-6)).to(fill.dtype)
    known = torch.cat([(image - fill) * ring, ring], dim=1)
    blurred = _blurred(functional.avg_pool2d(functional.pad(known, (0, 1, 0, 1)), _COARSE))
    spread = blurred[:, :3] / (blurred[:, 3:] + 1e-6)
    spread = spread.sign() * (spread.abs() - _UNSEEN).clamp(min=0)
    for dim in (2, 3):
        spread = _twice(spread, dim, fill.shape[dim])
    return (fill + spread * _nearness(~hole, _FADED)).clamp(0, 1)


def _twice(x: Tensor, dim: int, length: int) -> Tensor:
    """Enlarge one side to `length` pixels by linear interpolation, two to a cell."""
    place = torch.arange(length, device=x.device)
    last = torch.full((1,), x.shape[dim] - 1, device=x.device)  # exporters compare tensors only
    before = (place - 1) // _COARSE
    share = torch.where(place % _COARSE == 0, 0.75, 0.25).view([-1, 1][: 4 - dim])
    near, far = (x.index_select(dim, i) for i in (before.clamp(min=0), (before + 1).minimum(last)))
    return near + (far - near) * share


def _nearness(target: Tensor, steps: int) -> Tensor:
    """exp(-d / reach) of the distance d to the next True of (b, 1, h, w), 0 beyond all steps."""
    near = target.to(torch.float32)
    straight, diagonal = (math.exp(-step / _REACH) for step in (_STRAIGHT, _DIAGONAL))
    for _ in range(steps):
        row = functional.max_pool2d(near, (1, 3), stride=1, padding=(0, 1))
        column = functional.max_pool2d(near, (3, 1), stride=1, padding=(1, 0))
        around = functional.max_pool2d(row, (3, 1), stride=1, padding=(1, 0))
        near = torch.maximum(near, torch.maximum(row, column) * straight)
        near = torch.maximum(near, around * diagonal)
    return near


def _blurred(x: Tensor) -> Tensor:
    """Gaussian of (b, c, h, w) with OpenCV's kernel size and mirrored border."""
    radius = 4 * _REACH // _COARSE
    sigma = math.sqrt((_REACH / _COARSE) ** 2 - 0.25)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).to(x.device)
    count, channels = x.shape[:2]
    x = x.flatten(0, 1)[:, None]
    for dim, shape in ((2, (1, 1, -1, 1)), (3, (1, 1, 1, -1))):
        x = functional.conv2d(_reflected(x, dim, radius, radius), taps.view(shape))
    return x.view(count, channels, *x.shape[2:])


def _reflected(x: Tensor, dim: int, before: int, behind: int) -> Tensor:
    """Continue along a side, mirrored without the border's own pixel, as often as it takes."""
    length = x.shape[dim]
    place = torch.arange(-before, length + behind, device=x.device)
    period = torch.full((1,), 2 * length - 2, device=x.device)  # exporters divide tensors only
    period = period.clamp(min=1)
    place = place.abs() % period
    return x.index_select(dim, torch.minimum(place, period - place))


def _samples(image: Tensor) -> Tensor:
    """Turn (b, 3, h, w) in [0, 1] into (b, h, w, 3) uint8."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
