"""Brings crops to the sizes networks want: resized without leaks, padded to multiples."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask

_BAND = 64
"""Rows of a large crop that are looked at together [px]."""
_UNSEEN = 2e-3
"""`INTER_AREA` leaves out parts of pixels up to half as wide at either end of its window [px]."""


def shrink(image: Pixels, mask: Mask, size: tuple[int, int]) -> tuple[Pixels, Mask]:
    """Bring a crop to another size without letting the hole's content bleed into known pixels.

    Args:
        image: (h, w, 3) in [0, 1].
        mask: (h, w) True = hole.
        size: (h', w') of the result [px].

    Returns:
        Picture and mask; a pixel is hole if any of those it is made of is.
    """
    known = ~mask
    target = (size[1], size[0])
    method = cv2.INTER_AREA if size[0] <= mask.shape[0] else cv2.INTER_LINEAR
    weight = cv2.resize(known.astype(np.float32), target, interpolation=method)
    seen = cv2.copyTo(image, known.view(np.uint8))  # zero in the hole
    small = cv2.resize(seen, target, interpolation=method)
    return _mean(np.asarray(small), np.asarray(weight), mask.shape)


def shrink_bands(
    image: Callable[[Box], Pixels], mask: Mask, size: tuple[int, int]
) -> tuple[Pixels, Mask]:
    """Do what `shrink` does, up to rounding, reading a few rows of the picture at a time.

    Args:
        image: Reads a box of the picture, (h', w', 3) in [0, 1].
        mask: (h, w) True = hole.
        size: (h', w') of the result [px], no side larger than before.
    """
    h, w = mask.shape
    sums = np.zeros((*size, 4), np.float32)
    scale = h / size[0]
    for top in range(0, h, _BAND):
        bottom = min(top + _BAND, h)
        known = (~mask[top:bottom, :, None]).astype(np.float32)
        band = np.concatenate([image(Box(top, 0, bottom - top, w)) * known, known], axis=2)
        band = cv2.resize(band, (size[1], bottom - top), interpolation=cv2.INTER_AREA)
        rows = np.arange(int(top / scale), min(size[0], int(np.ceil(bottom / scale))))[:, None]
        pixels = np.arange(top, bottom)
        ends = np.minimum(pixels + 1, (rows + 1) * scale)
        shares = (ends - np.maximum(pixels, rows * scale)).clip(0) / scale
        part = shares.astype(np.float32) @ band.reshape(bottom - top, -1)
        sums[rows[0, 0] : rows[-1, 0] + 1] += part.reshape(-1, size[1], 4)
    return _mean(sums[..., :3], sums[..., 3], mask.shape)


def _mean(sums: NDArray[Any], weight: NDArray[Any], size: tuple[int, ...]) -> tuple[Pixels, Mask]:
    small = sums / np.maximum(weight, 1e-6)[..., None]
    scales = (many / few for many, few in zip(size, weight.shape, strict=True))
    lost = sum(_UNSEEN / scale for scale in scales)
    return small.clip(0, 1).astype(np.float32), weight < 1 - lost


def at_least(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size (h, w) of a crop, enlarged if its longer side is less than a network's one [px]."""
    scale = max(1.0, side / max(size))
    return round(size[0] * scale), round(size[1] * scale)


def reduce(image: Pixels, size: tuple[int, ...]) -> Pixels:
    """Make a picture without holes (h, w[, 3]) smaller: (h', w')."""
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.float32)


def nearest(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a label map (h, w) to another (h', w'); no class appears that was not there."""
    return cv2.resize(labels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST).astype(np.uint8)


def pad(x: Tensor, amount: tuple[int, int]) -> Tensor:
    """Continue below and to the right: mirrored as far as the picture reaches, then repeated."""
    rows, columns = amount
    while rows or columns:
        down, across = min(rows, x.shape[-2] - 1), min(columns, x.shape[-1] - 1)
        if down == 0 and across == 0:
            return functional.pad(x, (0, columns, 0, rows), mode="replicate")
        x = functional.pad(x, (0, across, 0, down), mode="reflect")
        rows, columns = rows - down, columns - across
    return x
