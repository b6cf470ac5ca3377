"""Where the classes of a label set lie in pictures that are all framed alike."""

from functools import cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray

_LEAST = 0.02
"""Share of a class's frequency elsewhere that it has everywhere: nothing is impossible."""
_BACKGROUND = 0.1
"""Share of other pictures in which there is nothing but the first class."""


@cache
def layout(name: str) -> NDArray[np.float32] | None:
    """Return how much likelier each class is at a place of such a picture than elsewhere.

    Args:
        name: Of a label set.

    Returns:
        (classes, cells, cells) logarithm of its frequency there by its frequency in any part of any
        picture [nat]; None if the pictures of the set are not framed alike.
    """
    source = files(__name__).joinpath(f"{name}.png")
    if not source.is_file():
        return None
    packed = np.frombuffer(source.read_bytes(), np.uint8)
    stacked = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))
    cells = stacked.shape[1]
    share = stacked.reshape(-1, cells, cells).astype(np.float32) / 255
    elsewhere = share.mean(axis=(1, 2), keepdims=True).clip(1e-4) * (1 - _BACKGROUND)
    elsewhere[0] += _BACKGROUND
    return np.log((share * (1 - _LEAST) + elsewhere * _LEAST) / elsewhere)
