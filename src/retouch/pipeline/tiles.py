"""Runs a local network where a crop's holes are, in tiles that agree with one another.

A wire across a picture is a few thousand pixels in a crop of millions. So the network never sees a
crop as such: boxes are laid round the holes, halved as long as that lets it see fewer pixels, and
each is run with the context it needs.
"""

from collections.abc import Callable

import numpy as np

from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask, tight

LARGEST = 768
"""Longest side of the box of a tile, without its context [px]."""
_RIM = 8
"""What is kept of a prediction round its box: the colour step at the rim is measured there [px]."""


class Tiles:
    """The fill of a crop, any box of which can be had without the rest.

    Args:
        network: Maps a tile and its mask to a prediction of the same size.
        image: Reads a box of the crop, (h', w', 3) in [0, 1].
        mask: (h, w) True = hole.
        context: What the network must see around a hole [px].
        multiple_of: Tiles begin at multiples of this, so that strides fall alike in all of them.
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
        self._step = multiple_of
        self._margin = -(-context // multiple_of) * multiple_of
        self._boxes = self._round_holes(Box(0, 0, *mask.shape))
        self._kept: dict[Box, Pixels] = {}

    def piece(self, box: Box) -> Pixels:
        """Compute one box; whoever asks for boxes row by row has each tile run once.

        Returns:
            (height, width, 3): the fill in holes and a few pixels round them, elsewhere the
            picture.
        """
        result = self._image(box).copy()
        kept = [tile.grown(_RIM, self._mask.shape) for tile in self._boxes]
        self._kept = {place: fill for place, fill in self._kept.items() if place.bottom > box.top}
        for tile, place in zip(self._boxes, kept, strict=True):
            if not place.overlaps(box):
                continue
            if place not in self._kept:
                self._kept[place] = self._fill(tile, place)
            top, left = max(place.top, box.top), max(place.left, box.left)
            bottom, right = min(place.bottom, box.bottom), min(place.right, box.right)
            result[top - box.top : bottom - box.top, left - box.left : right - box.left] = (
                self._kept[place][
                    top - place.top : bottom - place.top, left - place.left : right - place.left
                ]
            )
        return result

    def _fill(self, tile: Box, place: Box) -> Pixels:
        """Run the network for a tile and keep a place of it."""
        seen = tile.grown(self._margin, self._mask.shape)
        fill = self._network(np.ascontiguousarray(self._image(seen)), self._mask[seen.slices])
        row, column = place.top - seen.top, place.left - seen.left
        return fill[row : row + place.height, column : column + place.width].copy()

    def _round_holes(self, box: Box) -> list[Box]:
        """Boxes round the holes inside a box that let the network see the fewest pixels."""
        if not self._mask[box.slices].any():
            return []
        whole = self._aligned(tight(self._mask, box))
        if max(whole.height, whole.width) <= 2 * self._margin:
            return [whole]  # halves would see more
        parts = [part for half in self._halves(whole) for part in self._round_holes(half)]
        fits = max(whole.height, whole.width) <= LARGEST
        return [whole] if fits and self._seen([whole]) <= self._seen(parts) else parts

    def _aligned(self, box: Box) -> Box:
        """Grow a box to where strides begin."""
        step, (h, w) = self._step, self._mask.shape
        top, left = box.top // step * step, box.left // step * step
        bottom, right = (-(-end // step) * step for end in (box.bottom, box.right))
        return Box(top, left, min(bottom, h) - top, min(right, w) - left)

    def _halves(self, box: Box) -> tuple[Box, Box]:
        """Cut a box across its longer side."""
        first = max(box.height, box.width) // 2 // self._step * self._step
        if box.height >= box.width:
            rest = Box(box.top + first, box.left, box.height - first, box.width)
            return Box(box.top, box.left, first, box.width), rest
        rest = Box(box.top, box.left + first, box.height, box.width - first)
        return Box(box.top, box.left, box.height, first), rest

    def _seen(self, tiles: list[Box]) -> int:
        """Pixels that the network sees."""
        seen = (tile.grown(self._margin, self._mask.shape) for tile in tiles)
        return sum(box.height * box.width for box in seen)
