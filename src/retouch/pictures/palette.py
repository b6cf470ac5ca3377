"""Palettes: colours of indices, and indices of colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BAND = 1 << 20


def indices(
    pixels: NDArray[np.uint8], alpha: NDArray[np.uint8] | None, palette: NDArray[np.uint8]
) -> NDArray[np.uint8] | None:
    """Find every pixel's colour in a palette.

    Args:
        pixels: (h, w, 3).
        alpha: (h, w) or None for opaque.
        palette: (n, 4) RGBA, n at most 256.

    Returns:
        (h, w) indices, the first where the palette repeats a colour; None if a colour is missing.
    """
    keys, first = np.unique(_keys(palette[:, :3], palette[:, 3]), return_index=True)
    result = np.empty(pixels.shape[:2], dtype=np.uint8)
    rows = max(1, _BAND // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        band = slice(top, top + rows)
        wanted = _keys(pixels[band], None if alpha is None else alpha[band])
        place = np.searchsorted(keys, wanted)
        place[place == len(keys)] = 0
        if not np.array_equal(keys[place], wanted):
            return None
        result[band] = first[place]
    return result


def _keys(rgb: NDArray[np.uint8], alpha: NDArray[Any] | None) -> NDArray[np.uint32]:
    """Pack (..., 3) colours and their opacity into one number each."""
    wide = rgb.astype(np.uint32)
    shifts = np.array([24, 16, 8], dtype=np.uint32)
    key = np.bitwise_or.reduce(wide << shifts, axis=-1)
    return key | (np.uint32(255) if alpha is None else alpha.astype(np.uint32))
