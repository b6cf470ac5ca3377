"""Gives a fill that was made at a smaller size the fine detail of the picture's known part.

The idea is that of contextual residual aggregation (Yi et al., CVPR 2020, arXiv:2005.09704): what a
picture loses by being
made smaller is copied into the hole from where the small picture looks alike. Here each cell of the
hole copies from one
place only (averaging several blurs), and neighbours prefer places that continue each other.
"""

import cv2
import numpy as np

from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Mask

_CELL = 4
"""Side of a cell in the small picture [px]."""
_PATCH = 8
"""Side of the patch by which cells are compared [px]."""
_SOURCES = 6000
"""Most places a cell chooses from."""


def transfer(small: Pixels, small_mask: Mask, image: Pixels, mask: Mask) -> Pixels:
    """Enlarge a small fill and add residuals of the known part.

    Args:
        small: (h/s, w/s, 3) the filled small picture, its known part included.
        small_mask: (h/s, w/s) True = hole.
        image: (h, w, 3) the picture.
        mask: (h, w) True = hole.

    Returns:
        (h, w, 3): the enlarged fill with detail in the hole.
    """
    h, w = mask.shape
    smooth = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)
    sources, targets = _cells(small_mask)
    if not len(sources) or not len(targets):
        return np.clip(smooth, 0, 1, out=smooth)
    chosen = _match(small, sources, targets)
    return _paste(smooth, image, targets, chosen, small_mask.shape)


def _cells(mask: Mask) -> tuple[np.ndarray, np.ndarray]:
    """Top-left corners (n, 2) of wholly known patches and of cells that touch the hole."""
    h, w = mask.shape
    pad = (_PATCH - _CELL) // 2
    counts = cv2.integral(mask.view(np.uint8))
    rows, columns = np.arange(pad, h - _CELL - pad + 1), np.arange(pad, w - _CELL - pad + 1)
    if not len(rows) or not len(columns):
        return np.empty((0, 2), int), np.empty((0, 2), int)
    top, left = rows[:, None] - pad, columns[None] - pad
    holes = (
        counts[top + _PATCH, left + _PATCH]
        - counts[top, left + _PATCH]
        - counts[top + _PATCH, left]
        + counts[top, left]
    )
    free = np.argwhere(holes == 0) + pad
    step = max(1, int(np.ceil(len(free) / _SOURCES)))
    grid = [np.arange(0, side - _CELL + 1, _CELL) for side in (h, w)]
    touched = [(r, c) for r in grid[0] for c in grid[1] if mask[r : r + _CELL, c : c + _CELL].any()]
    return free[::step], np.array(touched, int).reshape(-1, 2)


def _match(small: Pixels, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """For each target cell the source cell (n, 2) whose patch is nearest, coherent along a row."""
    pad = (_PATCH - _CELL) // 2
    sides = (pad, pad + _CELL, pad, pad + _CELL)
    padded = np.asarray(cv2.copyMakeBorder(small, *sides, cv2.BORDER_REFLECT_101), np.float32)
    known = _patches(padded, sources)
    wanted = _patches(padded, targets)
    lengths = (known**2).sum(axis=1)
    chosen = np.empty((len(targets), 2), int)
    for start in range(0, len(targets), 1024):
        block = wanted[start : start + 1024]
        distance = lengths[None] - 2 * block @ known.T
        chosen[start : start + 1024] = sources[distance.argmin(axis=1)]
    return chosen


def _patches(padded: Pixels, corners: np.ndarray) -> np.ndarray:
    """Patches round cells as rows (n, patch*patch*3), their mean counting less than their form."""
    offsets = np.arange(_PATCH)
    rows = corners[:, 0, None, None] + offsets[:, None]
    columns = corners[:, 1, None, None] + offsets
    found = padded[rows, columns]  # (n, patch, patch, 3)
    mean = found.mean(axis=(1, 2), keepdims=True)
    return (found - 0.5 * mean).reshape(len(corners), -1)


def _paste(
    smooth: Pixels, image: Pixels, targets: np.ndarray, chosen: np.ndarray, small: tuple
) -> Pixels:
    """Add to each target what the picture has beyond the smooth one where it was chosen from.

    Sources are wholly known, with a margin, so that no hole's content is read.
    """
    h, w = smooth.shape[:2]
    down, across = h / small[0], w / small[1]
    result = np.clip(smooth, 0, 1)
    side = (int(np.ceil(_CELL * down)), int(np.ceil(_CELL * across)))
    for (row, column), (from_row, from_column) in zip(targets, chosen, strict=True):
        top, left = round(row * down), round(column * across)
        source = (
            min(round(from_row * down), h - side[0]),
            min(round(from_column * across), w - side[1]),
        )
        tall, wide = min(side[0], h - top), min(side[1], w - left)
        goes = (slice(top, top + tall), slice(left, left + wide))
        comes = (slice(source[0], source[0] + tall), slice(source[1], source[1] + wide))
        result[goes] = (smooth[goes] + (image[comes] - smooth[comes])).clip(0, 1)
    return result
