"""Runs a local network over a large crop in tiles that agree exactly with one another."""

from collections.abc import Callable

import numpy as np

from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask

LARGEST = 1280
"""Longest side that is run in one piece [px]."""
_INNER = 768
"""Side of the part of a tile that is kept [px]."""


def run(
    network: Callable[[Pixels, Mask], Pixels],
    image: Pixels,
    mask: Mask,
    context: int,
    multiple_of: int,
) -> Pixels:
    """Run the tiles that hold a hole; elsewhere the result is the picture itself.

    Args:
        network: Maps a tile and its mask to a prediction of the same size.
        image: (h, w, 3) in [0, 1].
        mask: (h, w) True = hole.
        context: What a tile must see around the part that is kept [px].
        multiple_of: Tiles begin at multiples of this, so that strides fall alike in all of them.

    Returns:
        (h, w, 3), the same up to rounding whatever the tiling.
    """
    h, w = mask.shape
    result = image.copy()
    margin = -(-context // multiple_of) * multiple_of
    inner = max(_INNER // multiple_of, 1) * multiple_of
    for top in range(0, h, inner):
        for left in range(0, w, inner):
            kept = Box(top, left, min(inner, h - top), min(inner, w - left))
            if not mask[kept.slices].any():
                continue
            seen = kept.grown(margin, (h, w))
            fill = network(np.ascontiguousarray(image[seen.slices]), mask[seen.slices])
            row, column = kept.top - seen.top, kept.left - seen.left
            result[kept.slices] = fill[row : row + kept.height, column : column + kept.width]
    return result
