"""Runs a local network where a crop's holes are, in tiles that agree with one another.

A wire across a picture is a few thousand pixels in a crop of millions. So the network never sees a
crop as such: boxes are laid round the holes, halved as long as that lets it see fewer pixels, and
each is run with the context it needs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask, tight

LARGEST = 768
"""Longest side of a tile's box, without its context [px]."""
_RIM = 8
"""What is kept of a prediction round its box: the colour step at the rim is measured there [px]."""


@dataclass(frozen=True)
class Tile:
    """One run of the network."""

    box: Box
    """Round holes."""
    kept: Box
    """With the rim."""
    seen: Box
    """With the context."""


class Tiles:
    """The fill of a crop, any box of which can be had without the rest.

    Args:
        network: Maps a tile and its mask to a prediction of the same size.
        image: Reads a box of the crop, (h', w', 3) in [0, 1].
        mask: (h, w) True = hole.
        tiles: As `plan` gives them.
    """

    def __init__(
        self,
        network: Callable[[Pixels, Mask], Pixels],
        image: Callable[[Box], Pixels],
        mask: Mask,
        tiles: list[Tile],
    ) -> None:
        self._network = network
        self._image = image
        self._mask = mask
        self._tiles = tiles
        self._fills: dict[Tile, Pixels] = {}

    def piece(self, box: Box) -> Pixels:
        """Compute one box; whoever asks for boxes row by row has each tile run once.

        Returns:
            (height, width, 3): the fill in holes and a few pixels round them, elsewhere the
            picture.
        """
        result = self._image(box).copy()
        self._fills = {t: fill for t, fill in self._fills.items() if t.kept.bottom > box.top}
        asked = [tile for tile in self._tiles if tile.kept.overlaps(box)]
        for tile in asked:
            if tile not in self._fills:
                self._fills[tile] = self._run(tile)
            _copy(self._fills[tile], tile.kept, tile.kept, result, box)
        for tile in asked:  # no rim on top of what saw its whole context
            _copy(self._fills[tile], tile.kept, tile.box, result, box)
        return result

    def _run(self, tile: Tile) -> Pixels:
        """Predict what is kept of a tile."""
        seen, kept = tile.seen, tile.kept
        fill = self._network(np.ascontiguousarray(self._image(seen)), self._mask[seen.slices])
        return fill[kept.within(seen).slices].copy()


def plan(mask: Mask, context: int, multiple_of: int) -> list[Tile]:
    """Lay tiles round the holes so that the network sees few pixels.

    Args:
        mask: (h, w) True = hole.
        context: What the network must see around a hole [px].
        multiple_of: Tiles begin at multiples of this, so that strides fall alike in all of them.
    """
    step, size = multiple_of, mask.shape
    margin = -(-max(context, _RIM) // step) * step
    least = 2 * (2 * margin + step) ** 2  # two of the smallest tiles

    def cost(boxes: list[Box]) -> int:
        seen = (box.grown(margin, size) for box in boxes)
        return sum(box.height * box.width for box in seen)

    def boxes(part: Box) -> list[Box]:
        if not mask[part.slices].any():
            return []
        box = _aligned(tight(mask, part), step, mask.shape)
        fits = max(box.height, box.width) <= LARGEST
        if fits and cost([box]) <= least:
            return [box]
        parts = [box for half in _halves(box, step) for box in boxes(half)]
        return [box] if fits and cost([box]) <= cost(parts) else parts

    found = boxes(Box(0, 0, *size))
    return [Tile(box, box.grown(_RIM, size), box.grown(margin, size)) for box in found]


def _aligned(box: Box, step: int, size: tuple[int, ...]) -> Box:
    """Grow a box to where strides begin."""
    top, left = box.top // step * step, box.left // step * step
    bottom, right = (-(-end // step) * step for end in (box.bottom, box.right))
    return Box(top, left, min(bottom, size[0]) - top, min(right, size[1]) - left)


def _halves(box: Box, step: int) -> tuple[Box, Box]:
    """Cut a box across its longer side."""
    first = max(box.height, box.width) // 2 // step * step
    if box.height >= box.width:
        rest = Box(box.top + first, box.left, box.height - first, box.width)
        return Box(box.top, box.left, first, box.width), rest
    rest = Box(box.top, box.left + first, box.height, box.width - first)
    return Box(box.top, box.left, box.height, first), rest


def _copy(fill: Pixels, kept: Box, part: Box, result: Pixels, box: Box) -> None:
    """Copy what a part of what is kept shares with a box."""
    top, left = max(part.top, box.top), max(part.left, box.left)
    bottom, right = min(part.bottom, box.bottom), min(part.right, box.right)
    shared = Box(top, left, max(0, bottom - top), max(0, right - left))
    result[shared.within(box).slices] = fill[shared.within(kept).slices]
