"""Brings crops to the sizes networks want: smaller without leaks, padded to multiples."""

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Mask


def shrink(image: Pixels, mask: Mask, size: tuple[int, int]) -> tuple[Pixels, Mask]:
    """Make a crop smaller without letting the hole's content bleed into known pixels.

    Args:
        image: (h, w, 3) in [0, 1].
        mask: (h, w) True = hole.
        size: (h', w') of the result [px].

    Returns:
        Picture and mask; a small pixel is hole if any of its pixels is.
    """
    known = (~mask).astype(np.float32)
    target = (size[1], size[0])
    weight = cv2.resize(known, target, interpolation=cv2.INTER_AREA)
    small = cv2.resize(image * known[..., None], target, interpolation=cv2.INTER_AREA)
    small = small / np.maximum(weight, 1e-6)[..., None]
    return small.clip(0, 1).astype(np.float32), weight < 1 - 1e-4


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
