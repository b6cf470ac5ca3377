"""Runs a local network over a large crop in tiles that agree exactly with one another."""

from collections.abc import Callable

import numpy as np

from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask

LARGEST = 1280
"""Longest side that is run in one piece [px]."""
INNER = 768
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
    tiles = Tiles(network, lambda box: image[box.slices], mask, context, multiple_of)
    result = image.copy()
    for box in tiles.boxes(Box(0, 0, *mask.shape)):
        result[box.slices] = tiles.fill(box)
    return result


class Tiles:
    """The fill of a large crop, any box of which can be had without the rest.

    Args:
        network: Maps a tile and its mask to a prediction of the same size.
        image: Reads a box of the crop, (h', w', 3) in [0, 1].
        mask: (h, w) True = hole.
        context: What a tile must see around the part that is kept [px].
        multiple_of: Tiles begin at multiples of this.
    """

    def __init__(
        self,
        network: Callable[[Pixels, Mask], Pixels],
        image: Callable[[Box], Pixels],
        mask: Mask,
        context: int,
        multiple_of: int,
    ) -> None:
        self._network = network
        self._image = image
        self._mask = mask
        self._margin = -(-context // multiple_of) * multiple_of
        self._inner = max(INNER // multiple_of, 1) * multiple_of
        self._kept: dict[Box, Pixels] = {}

    def boxes(self, box: Box) -> list[Box]:
        """Tiles that hold a hole and share a pixel with `box`, row by row."""
        h, w = self._mask.shape
        inner = self._inner
        places = [
            Box(top, left, min(inner, h - top), min(inner, w - left))
            for top in range(box.top // inner * inner, box.bottom, inner)
            for left in range(box.left // inner * inner, box.right, inner)
        ]
        return [place for place in places if self._mask[place.slices].any()]

    def fill(self, box: Box) -> Pixels:
        """Run the network for one of `boxes`."""
        seen = box.grown(self._margin, self._mask.shape)
        fill = self._network(np.ascontiguousarray(self._image(seen)), self._mask[seen.slices])
        row, column = box.top - seen.top, box.left - seen.left
        return fill[row : row + box.height, column : column + box.width]

    def piece(self, box: Box) -> Pixels:
        """Compute one box; whoever asks for boxes row by row has each tile run once.

        Returns:
            (height, width, 3): the fill in tiles that hold a hole, elsewhere the picture.
        """
        result = self._image(box).copy()
        self._kept = {place: fill for place, fill in self._kept.items() if place.bottom > box.top}
        for place in self.boxes(box):
            if place not in self._kept:
                self._kept[place] = self.fill(place).copy()
            top, left = max(place.top, box.top), max(place.left, box.left)
            bottom, right = min(place.bottom, box.bottom), min(place.right, box.right)
            result[top - box.top : bottom - box.top, left - box.left : right - box.left] = (
                self._kept[place][
                    top - place.top : bottom - place.top, left - place.left : right - place.left
                ]
            )
        return result
