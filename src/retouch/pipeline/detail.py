"""Gives a fill that was made at a smaller size the fine detail of the picture's known part.

The idea is that of contextual residual aggregation (Yi et al., CVPR 2020, arXiv:2005.09704): what a
picture loses by being
made smaller is copied into the hole from where the small picture looks alike. Here each cell of the
hole copies from one
place only (averaging several blurs), and neighbours prefer places that continue each other.
"""

from collections.abc import Callable

import cv2
import numpy as np

from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask, depth

_CELL = 4
"""Side of a cell in the small picture [px]."""
_PATCH = 8
"""Side of the patch by which cells are compared [px]."""
_SOURCES = 6000
"""Most places a cell chooses from."""
_SURE, _UNSURE = 8, 24
"""So deep inside a hole a fill begins to give way to one of a smaller picture, and has [px]."""
_ROWS = 256
"""Rows of the small picture that are searched for sources at once."""


def transfer(small: Pixels, small_mask: Mask, image: Pixels) -> Callable[[Box], Pixels]:
    """Enlarge a small fill and add residuals of the known part.

    Args:
        small: (h/s, w/s, 3) the filled small picture, its known part included.
        small_mask: (h/s, w/s) True = hole.
        image: (h, w, 3) the picture; what is under its hole is not used.

    Returns:
        Computes a box of the enlarged fill with detail in the hole, (h', w', 3).
    """
    h, w = image.shape[:2]
    smooth = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)
    lost = image - smooth
    return Detailed(
        small, small_mask, (h, w), lambda box: smooth[box.slices], lambda box: lost[box.slices]
    ).piece


def mixed(
    fill: Callable[[Box], Pixels], middle: Callable[[Box], Pixels], mask: Mask
) -> Callable[[Box], Pixels]:
    """Take the rim of a hole from one fill and its middle from another, made at a smaller size.

    Near what is known a fill has more detail the larger it is made; far from it a network guesses,
    the less the smaller the picture.

    Args:
        fill: Computes a box of the one at the mask's size, (height, width, 3).
        middle: Likewise of the smaller one.
        mask: (h, w) True = hole.
    """
    deep = (depth(mask) - _SURE) / (_UNSURE - _SURE)
    share = np.asarray(deep[..., None].clip(0, 1), np.float32)
    whole = share.shape[:2] == mask.shape
    enlarged = None if whole else Enlarged(share, (mask.shape[0], mask.shape[1])).piece

    def piece(box: Box) -> Pixels:
        part = share[box.slices] if enlarged is None else enlarged(box).clip(0, 1)
        near = fill(box)
        if not part.any():
            return near
        return np.asarray(near + (middle(box) - near) * part, np.float32)

    return piece


class Detailed:
    """A small fill enlarged with residuals, any box of which can be had without the rest.

    Args:
        small: (h/s, w/s, 3) the filled small picture, its known part included.
        small_mask: (h/s, w/s) True = hole.
        size: (h, w) of the whole [px].
        smooth: Reads a box of the small picture enlarged to `size`, (h', w', 3).
        lost: Reads a box of what the picture has beyond that.
    """

    def __init__(
        self,
        small: Pixels,
        small_mask: Mask,
        size: tuple[int, int],
        smooth: Callable[[Box], Pixels],
        lost: Callable[[Box], Pixels],
    ) -> None:
        self._smooth, self._lost = smooth, lost
        sources, targets = _cells(small_mask)
        if not len(sources) or not len(targets):
            sources, targets = sources[:0], targets[:0]
        chosen = _match(small, sources, targets) if len(targets) else targets
        scale = np.array(size) / small_mask.shape
        self._side = np.ceil(_CELL * scale).astype(int)
        self._goes = np.rint(targets * scale).astype(int)
        self._comes = np.minimum(np.rint(chosen * scale).astype(int), np.array(size) - self._side)

    def piece(self, box: Box) -> Pixels:
        """Compute one box, (height, width, 3) in [0, 1]; the same whatever else is asked.

        Sources are wholly known, with a margin, so that no hole's content is read.
        """
        smooth = self._smooth(box)
        result = smooth.copy()
        first, last = np.array([box.top, box.left]), np.array([box.bottom, box.right])
        begins = np.maximum(self._goes, first)
        ends = np.minimum(self._goes + self._side, last)
        moves = self._comes - self._goes
        inside = np.flatnonzero((begins < ends).all(axis=1))
        for (top, left), (bottom, right), (down, across) in zip(
            begins[inside].tolist(), ends[inside].tolist(), moves[inside].tolist(), strict=True
        ):
            source = Box(top + down, left + across, bottom - top, right - left)
            goes = (
                slice(top - box.top, bottom - box.top),
                slice(left - box.left, right - box.left),
            )
            np.add(smooth[goes], self._lost(source), out=result[goes])
        return np.clip(result, 0, 1, out=result)


class Enlarged:
    """A small picture enlarged by cubic interpolation, computed where it is looked at.

    As OpenCV's `INTER_CUBIC` (Keys 1981, a = -0.75) up to rounding.

    Args:
        small: (h, w, 3).
        size: Height and width of the whole [px].
    """

    def __init__(self, small: Pixels, size: tuple[int, int]) -> None:
        self._planes = np.ascontiguousarray(small.transpose(2, 0, 1))  # (3, h, w)
        self._rows = _Taps(small.shape[0], size[0])
        self._columns = _Taps(small.shape[1], size[1])

    def piece(self, box: Box) -> Pixels:
        """Compute one box, (height, width, 3)."""
        rows, down = self._rows.weights(box.top, box.bottom)
        columns, across = self._columns.weights(box.left, box.right)
        planes = down @ (self._planes[:, rows, columns] @ across.T)  # (3, height, width)
        return np.asarray(planes.transpose(1, 2, 0), np.float32)


class _Taps:
    """Which four of `count` small pixels make each of `side` large ones along one axis, and how."""

    def __init__(self, count: int, side: int) -> None:
        place = (np.arange(side) + 0.5) * (count / side) - 0.5
        before = np.floor(place)
        x = place - before
        far, near, a = 1 + x, 1 - x, -0.75
        outer = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
        inner = ((a + 2) * x - (a + 3)) * x * x + 1
        behind = ((a + 2) * near - (a + 3)) * near * near + 1
        shares = np.stack([outer, inner, behind, 1 - outer - inner - behind], axis=1)
        self._shares = shares.astype(np.float32)
        self._taps = (before.astype(int)[:, None] + np.arange(-1, 3)).clip(0, count - 1)

    def weights(self, start: int, stop: int) -> tuple[slice, Pixels]:
        """Small pixels that large ones from `start` to `stop` need, and the matrix between them."""
        taps = self._taps[start:stop]
        first, last = int(taps[0, 0]), int(taps[-1, -1]) + 1
        matrix = np.zeros((stop - start, last - first), np.float32)
        rows = np.arange(stop - start)
        for tap in range(4):
            matrix[rows, taps[:, tap] - first] += self._shares[start:stop, tap]
        return slice(first, last), matrix


def _cells(mask: Mask) -> tuple[np.ndarray, np.ndarray]:
    """Top-left corners (n, 2) of wholly known patches and of cells that touch the hole."""
    h, w = mask.shape
    rows, columns = h - h % _CELL, w - w % _CELL
    blocks = mask[:rows, :columns].reshape(rows // _CELL, _CELL, columns // _CELL, _CELL)
    touched = np.argwhere(blocks.any(axis=(1, 3))) * _CELL
    if min(h, w) < _PATCH:
        return np.empty((0, 2), int), touched
    counts = cv2.integral(mask.view(np.uint8))
    free = np.empty((h - _PATCH + 1, w - _PATCH + 1), bool)  # patches without a hole
    for top in range(0, len(free), _ROWS):
        part = counts[top : top + _ROWS + _PATCH]
        holes = part[_PATCH:, _PATCH:] - part[:-_PATCH, _PATCH:]
        holes += part[:-_PATCH, :-_PATCH] - part[_PATCH:, :-_PATCH]
        free[top : top + _ROWS] = holes == 0
    return _every(free) + (_PATCH - _CELL) // 2, touched


def _every(free: Mask) -> np.ndarray:
    """Places (n, 2) that are free: at most `_SOURCES`, evenly among all."""
    step = max(1, -(-int(np.count_nonzero(free)) // _SOURCES))
    found, passed = [np.empty((0, 2), int)], 0
    for top in range(0, len(free), _ROWS):
        places = np.argwhere(free[top : top + _ROWS])
        places[:, 0] += top
        found.append(places[-passed % step :: step])
        passed += len(places)
    return np.concatenate(found)


def _match(small: Pixels, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """For each target cell the source cell (n, 2) whose patch is nearest, coherent along a row."""
    pad = (_PATCH - _CELL) // 2
    sides = (pad, pad + _CELL, pad, pad + _CELL)
    padded = np.asarray(cv2.copyMakeBorder(small, *sides, cv2.BORDER_REFLECT_101), np.float32)
    known = _patches(padded, sources)
    lengths = np.einsum("ij,ij->i", known, known)[:, None]
    known = np.concatenate([known * -2, lengths], axis=1)  # |a - b|^2 without |a|^2, in one product
    chosen = np.empty((len(targets), 2), int)
    for start in range(0, len(targets), 1024):
        block = _patches(padded, targets[start : start + 1024])
        block = np.concatenate([block, np.ones_like(block[:, :1])], axis=1)
        chosen[start : start + 1024] = sources[(block @ known.T).argmin(axis=1)]
    return chosen


def _patches(padded: Pixels, corners: np.ndarray) -> np.ndarray:
    """Patches round cells as rows (n, patch*patch*3), their mean counting less than their form."""
    down, across, _ = padded.strides
    count = (padded.shape[0] - _PATCH + 1, padded.shape[1] - _PATCH + 1)
    windows = np.lib.stride_tricks.as_strided(  # rows of a patch lie in memory as they are
        padded, (*count, _PATCH, _PATCH * 3), (down, across, down, 4), writeable=False
    )
    found = windows[corners[:, 0], corners[:, 1]].reshape(len(corners), _PATCH**2, 3)
    centres = tuple((corners + _PATCH // 2).T)
    found -= 0.5 * cv2.blur(padded, (_PATCH, _PATCH))[centres][:, None]
    return found.reshape(len(corners), -1)
