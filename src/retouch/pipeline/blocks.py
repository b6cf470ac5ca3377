"""Puts fills back block by block: of a large crop no array of floats is ever as large as it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from retouch.pictures import Picture
from retouch.pipeline import compositing
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask

LARGEST = 1 << 21
"""Pixels of a crop that is read in one piece."""
_SIDE = 512
"""Side of a block [px]."""
_MARGIN = 64
"""What a block must see of its surroundings [px]: the step at a rim farther off is not felt."""


@dataclass(frozen=True)
class View:
    """A crop of a picture whose samples become floats only where they are looked at."""

    picture: Picture
    crop: Box

    def __call__(self, box: Box) -> Pixels:
        """Read a box of the crop, (height, width, 3) in [0, 1]."""
        top, left = self.crop.top + box.top, self.crop.left + box.left
        samples = self.picture.rgb[top : top + box.height, left : left + box.width]
        return np.divide(samples, np.float32(self.picture.white), dtype=np.float32, order="C")


def complete(image: Pixels, mask: Mask, fill: Callable[[Box], Pixels]) -> None:
    """Write a fill into the holes of a picture (h, w, 3), block by block.

    Args:
        image: Is changed; `fill` must not look at what is under the mask.
        mask: (h, w) True = hole.
        fill: Computes a box of the fill, (height, width, 3).
    """
    for block in _blocks(Box(0, 0, *mask.shape)):
        own = mask[block.slices]
        if not own.any():
            continue
        near = block.grown(_MARGIN, mask.shape)
        part = fill(near)[block.within(near).slices]
        np.copyto(image[block.slices], part, where=own[..., None])


def put(
    fill: Callable[[Box], Pixels], view: View, mask: Mask, holes: Box, feather: int, *, copy: bool
) -> Picture:
    """Write a fill into its hole: colour step at the rim, feathering, the hole's samples.

    Args:
        fill: Computes a box of the crop's fill, (height, width, 3) in [0, 1].
        view: The crop.
        mask: (h, w) of the crop, True = hole.
        holes: Part of the crop whose holes are filled.
        feather: Fade the fill in over this many pixels [px].
        copy: Leave the picture's array alone; False writes into it.

    Returns:
        The filled picture.
    """
    result = view.picture
    margin = max(_MARGIN, feather + feather // 16 + 3)  # a step counts as .955 px there
    for block in _blocks(holes):
        own = mask[block.slices]
        if not own.any():
            continue
        near = block.grown(margin, mask.shape)
        part, image, unknown = fill(near), view(near), mask[near.slices]
        at = view.crop.top + near.top, view.crop.left + near.left
        part = compositing.match_rim(part, image, unknown, at=at)
        part = compositing.feather(part, image, unknown, feather)
        part = part[block.within(near).slices]
        top, left = view.crop.top + block.top, view.crop.left + block.left
        result = result.replace(part, own, top=top, left=left, copy=copy)
        copy = False
    return result


def _blocks(holes: Box) -> Iterator[Box]:
    for top in range(holes.top, holes.bottom, _SIDE):
        for left in range(holes.left, holes.right, _SIDE):
            yield Box(top, left, min(_SIDE, holes.bottom - top), min(_SIDE, holes.right - left))
