"""Finds the holes of a mask and the crops in which they are filled."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""(h, w), True = hole."""


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture [px]."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """First row below."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """First column to the right."""
        return self.left + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing an array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, margin: int, size: tuple[int, int]) -> "Box":
        """Grow by a margin on each side, within a picture of (h, w)."""
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        bottom = min(size[0], self.bottom + margin)
        right = min(size[1], self.right + margin)
        return Box(top, left, bottom - top, right - left)

    def within(self, outer: "Box") -> "Box":
        """Where it lies in an array of another."""
        return Box(self.top - outer.top, self.left - outer.left, self.height, self.width)

    def overlaps(self, other: "Box") -> bool:
        """Whether the two share a pixel."""
        return (
            self.top < other.bottom
            and other.top < self.bottom
            and self.left < other.right
            and other.left < self.right
        )

    def union(self, other: "Box") -> "Box":
        """The smallest box round both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        bottom, right = max(self.bottom, other.bottom), max(self.right, other.right)
        return Box(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Group:
    """Holes that are filled together."""

    holes: Box
    """Round the holes."""
    crop: Box
    """What the network sees: the holes with their context."""


def groups(mask: Mask, working_size: int) -> list[Group]:
    """Group the holes of a mask, each group with a crop of context round it.

    Crops that overlap are merged as long as the merged crop still fits the working size; others are
    filled one after the other, each seeing what was filled before.

    Args:
        mask: True = hole.
        working_size: Side up to which crops are merged [px].
    """
    size = (mask.shape[0], mask.shape[1])
    found = [Group(box, _crop(box, size, working_size)) for box in components(mask)]
    merged = True
    while merged:
        merged = False
        kept: list[Group] = []
        for group in found:
            for index, other in enumerate(kept):
                union = _merged(group, other, size, working_size)
                if union is not None:
                    kept[index] = union
                    merged = True
                    break
            else:
                kept.append(group)
        found = kept
    return found


def components(mask: Mask) -> list[Box]:
    """Boxes round the connected holes; holes less than a few pixels apart count as connected.

    Works on blocks of pixels, so that a picture of 100 megapixels needs no label map of its size.
    """
    block = 4 if mask.size <= 1 << 22 else 16
    filled = np.flatnonzero(mask.any(axis=1))
    if not len(filled):
        return []
    first = int(filled[0]) // block * block  # rows without holes are not looked at again
    part = mask[first : int(filled[-1]) + 1]
    h, w = part.shape
    rows = np.logical_or.reduceat(part, np.arange(0, h, block), axis=0)
    blocks = np.logical_or.reduceat(rows, np.arange(0, w, block), axis=1)
    count, _, stats, _ = cv2.connectedComponentsWithStats(blocks.astype(np.uint8), connectivity=8)
    boxes: list[Box] = []
    for index in range(1, count):
        left, top, width, height = (int(v) * block for v in stats[index, :4])
        box = tight(part, Box(top, left, min(height, h - top), min(width, w - left)))
        boxes.append(Box(box.top + first, box.left, box.height, box.width))
    return boxes


def thickness(mask: Mask) -> float:
    """Diameter of the largest disc inside the holes [px]; beyond the picture counts as hole."""
    return 2.0 * float(_distances(mask).max())


def depth(mask: Mask) -> NDArray[np.float32]:
    """How far inside a hole pixels are [px]; of a large mask every n-th of every n-th row."""
    return _distances(mask)[1:-1, 1:-1]


def _distances(mask: Mask) -> NDArray[np.float32]:
    """Distances to what is known, with one pixel beyond the picture on every side."""
    step = max(1, max(mask.shape) // 1024)
    small = np.pad(mask[::step, ::step].astype(np.uint8), 1, mode="edge")
    if small.all():
        return np.full(small.shape, max(mask.shape) / 2, np.float32)
    return np.asarray(step * cv2.distanceTransform(small, cv2.DIST_L2, 3), np.float32)


def tight(mask: Mask, box: Box) -> Box:
    """The smallest box round the holes inside a box; there is at least one."""
    part = mask[box.slices]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return Box(
        box.top + int(rows[0]),
        box.left + int(columns[0]),
        int(rows[-1] - rows[0]) + 1,
        int(columns[-1] - columns[0]) + 1,
    )


def _crop(box: Box, size: tuple[int, int], working_size: int) -> Box:
    """Context of half the hole's longer side, at least 64 px, and half the working size in all."""
    longer = max(box.height, box.width)
    margin = max(64, longer // 2, (working_size // 2 - longer) // 2)
    return box.grown(margin, size)


def _merged(a: Group, b: Group, size: tuple[int, int], working_size: int) -> Group | None:
    if not a.crop.overlaps(b.crop):
        return None
    holes = a.holes.union(b.holes)
    crop = a.crop.union(b.crop).union(_crop(holes, size, working_size))
    largest = max(working_size, *(max(g.crop.height, g.crop.width) for g in (a, b)))
    inside = a.holes.overlaps(b.holes)
    if not inside and max(crop.height, crop.width) > largest:
        return None
    return Group(holes, crop)
