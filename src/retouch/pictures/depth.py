"""Sample depths: 8 bits for formats that hold no more, and the few levels of 1 to 4 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retouch.pictures.picture import Picture, notice

_BAND = 1 << 20


def eight_bits(picture: Picture, name: str) -> Picture:
    """Round 16-bit samples to 8 bits, with a notice; 8-bit pictures come back as they are."""
    if picture.pixels.dtype == np.uint8:
        return picture
    notice(f"{name} holds 8 bits a sample; the 16 bits of the picture are rounded to 8")
    alpha = None if picture.alpha is None else _rounded(picture.alpha)
    return replace(picture, pixels=_rounded(picture.pixels), alpha=alpha)


def _rounded(samples: NDArray[Any]) -> NDArray[np.uint8]:
    result = np.empty(samples.shape, dtype=np.uint8)
    rows = max(1, _BAND // samples[0].size)
    for top in range(0, len(samples), rows):
        band = samples[top : top + rows].astype(np.uint32)
        result[top : top + rows] = (band + 128) // 257
    return result


def straight(picture: Picture) -> Picture:
    """Divide premultiplied samples by their opacity, for formats that do not premultiply."""
    if picture.alpha is None:
        return picture
    result = np.empty_like(picture.pixels)
    rows = max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):
        band = slice(top, top + rows)
        alpha = picture.alpha[band].astype(np.uint64)
        alpha = alpha if picture.is_grey else alpha[..., None]
        divisor = np.maximum(alpha, 1)
        scaled = (picture.pixels[band] * np.uint64(picture.white) + divisor // 2) // divisor
        result[band] = np.minimum(scaled, picture.white)
    return replace(picture, pixels=result)


def levels(grey: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Round grey samples [0, 255] to the levels of 1, 2 or 4 bits [0, 2**bits - 1]."""
    top = (1 << bits) - 1
    table = (np.arange(256) * top + 127) // 255
    return table.astype(np.uint8)[grey]


def pack_bits(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack rows of values of 1, 2, 4 or 8 bits into bytes, the first value highest."""
    if bits == 8:
        return values
    per_byte = 8 // bits
    values = np.pad(values, ((0, 0), (0, -values.shape[1] % per_byte)))
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    groups = values.reshape(len(values), -1, per_byte) << shifts
    return np.bitwise_or.reduce(groups, axis=2).astype(np.uint8)
