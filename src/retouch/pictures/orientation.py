"""Turn arrays the way EXIF asks (CIPA DC-008, tag 274), without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """View an array (h, w, ...) the right way up.

    Args:
        array: As stored in the file.
        orientation: EXIF orientation [1, 8].
    """
    if orientation >= 5:
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def stored(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """View an upright array the way a file with this orientation stores it: the inverse."""
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation >= 5:
        array = np.swapaxes(array, 0, 1)
    return array
