"""Between Pillow's pictures and arrays, band by band, so that there is never a second full copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch.pictures.orientation import stored, upright

_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
_BAND = 1 << 20  # samples of one channel in a band


def to_array(image: Image.Image, orientation: int = 1) -> NDArray[np.uint8]:
    """Copy a decoded picture (L, LA, RGB, RGBA or CMYK) into an upright array (h, w[, c])."""
    channels = _CHANNELS[image.mode]
    shape = (image.height, image.width)
    if orientation >= 5:
        shape = shape[::-1]
    result = np.empty(shape if channels == 1 else (*shape, channels), dtype=np.uint8)
    lying = stored(result, orientation)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        lying[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return result


def to_image(*planes: NDArray[np.uint8]) -> Image.Image:
    """Make a Pillow picture of arrays (h, w) or (h, w, c) whose channels are put side by side."""
    channels = sum(1 if plane.ndim == 2 else plane.shape[2] for plane in planes)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    height, width = planes[0].shape[:2]
    if len(planes) == 1 and planes[0].flags.c_contiguous:
        return Image.frombuffer(mode, (width, height), planes[0], "raw", mode, 0, 1)
    image = Image.new(mode, (width, height))
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = merged([plane[top : top + rows] for plane in planes])
        image.paste(Image.frombuffer(mode, (width, len(band)), band, "raw", mode, 0, 1), (0, top))
    return image


def merged(planes: list[NDArray[Any]]) -> NDArray[Any]:
    """Put the channels of (h, w) and (h, w, c) arrays side by side in one contiguous array."""
    if len(planes) == 1:
        return np.ascontiguousarray(planes[0])
    return np.concatenate([p[..., None] if p.ndim == 2 else p for p in planes], axis=2)


def split(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Separate (h, w) or (h, w, c) samples, c in 1..4, into pixels and alpha; views."""
    if array.ndim == 2:
        return array, None
    channels = array.shape[2]
    if channels == 1:
        return array[..., 0], None
    if channels == 2:
        return array[..., 0], array[..., 1]
    return array[..., :3], array[..., 3] if channels == 4 else None


def oriented(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn a stored array upright; contiguous where it had to be turned."""
    return array if orientation == 1 else np.ascontiguousarray(upright(array, orientation))
