"""Puts a fill into its hole: colour step at the rim, widening, feathering."""

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch.pipeline.holes import Mask

Pixels = NDArray[np.float32]
"""(h, w, 3) RGB in [0, 1]."""


_UNSEEN = np.float32(4 / 255)
"""Colour steps at the rim that are not corrected."""
_REACH = 8
"""Distance from the rim at which a correction has fallen to 1/e [px]."""
_LARGEST_DISC = 16
"""Radius up to which moving a disc over the mask is quicker than a map of distances [px]."""
_COARSE = 2
"""Side of the cells in which the step at a rim is spread [px]."""


def dilate(mask: Mask, radius: int) -> Mask:
    """Widen the holes by a disc.

    Args:
        mask: True = hole.
        radius: [px]; 0 returns the mask itself.

    Raises:
        ValueError: If the radius is negative.
    """
    if radius < 0:
        raise ValueError(f"dilate must be at least 0 px, got {radius}")
    if radius == 0:
        return mask
    if radius > _LARGEST_DISC:
        away = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return away <= radius if mask.any() else mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(mask.view(np.uint8), disc).view(bool)


def match_rim(fill: Pixels, image: Pixels, mask: Mask, *, at: tuple[int, int] = (0, 0)) -> Pixels:
    """Take away the colour step between a fill and the pixels round its hole.

    The low frequencies of (known - fill) just outside the hole are spread inwards and fade with
    the distance to the rim. What is smaller than anybody sees (4 of 255) is left alone: correcting
    it costs more texture than it wins.

    Args:
        fill: The network's picture, the known part included.
        image: The picture; only known pixels are used.
        mask: True = hole.
        at: Row and column of the whole picture where these arrays begin [px]; so the cells in which
            the step is spread are the same whatever part of it is given.

    Returns:
        (h, w, 3): the corrected fill; only the hole is meant to be used.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return fill
    margin = 6 * _REACH  # more than the ring and the blur's radius: nothing beyond counts
    top, left = (max(0, int(places[0]) - margin) for places in (rows, columns))
    near = (
        slice(top, int(rows[-1]) + margin + 1),
        slice(left, int(columns[-1]) + margin + 1),
    )
    odd = (at[0] + top) % _COARSE, (at[1] + left) % _COARSE
    step = _step(fill[near], image[near], mask[near], odd)
    if step is None:
        return fill
    result = fill.copy()
    result[near] += step
    np.clip(result[near], 0, 1, out=result[near])
    return result


def _step(fill: Pixels, image: Pixels, mask: Mask, odd: tuple[int, int]) -> Pixels | None:
    """What to add to a fill, (h, w, 3); None if nothing is known around its hole."""
    holes = np.ascontiguousarray(mask).view(np.uint8)
    outside = cv2.distanceTransform(1 - holes, cv2.DIST_L2, 3)
    ring = np.nonzero((outside > 0) & (outside <= _REACH))
    if not len(ring[0]):
        return None
    (h, w), (down, across) = mask.shape, odd
    places = ring[0] + down, ring[1] + across
    spread = _spread(image[ring] - fill[ring], places, (h + down, w + across))
    spread -= spread.clip(-_UNSEEN, _UNSEEN)
    whole = cv2.resize(spread, None, fx=_COARSE, fy=_COARSE, interpolation=cv2.INTER_LINEAR)
    fade = np.exp(cv2.distanceTransform(holes, cv2.DIST_L2, 3) / np.float32(-_REACH))
    step = np.asarray(whole, np.float32)[down : down + h, across : across + w]
    step *= cv2.merge([fade] * 3)
    return step


def _spread(step: Pixels, places: tuple[NDArray[np.intp], ...], size: tuple[int, int]) -> Pixels:
    """Mean step near each cell, (h/2, w/2, 3): half the size is enough for what is so smooth."""
    rows, columns = (-(-side // _COARSE) for side in size)
    cells = places[0] // _COARSE * columns + places[1] // _COARSE
    sums = [np.bincount(cells, step[:, i], rows * columns) for i in range(3)]
    sums.append(np.bincount(cells, None, rows * columns))
    sigma = np.sqrt((_REACH / _COARSE) ** 2 - 0.25)  # cells and enlarging blur by the rest
    planes = (x.astype(np.float32).reshape(rows, columns) for x in sums)
    blurred = (cv2.GaussianBlur(x, (0, 0), sigma) for x in planes)
    *colours, count = (np.asarray(x, np.float32) for x in blurred)
    count += np.float32(1e-6 * _COARSE**2)
    return np.asarray(cv2.merge([x / count for x in colours]), np.float32)


def feather(fill: Pixels, image: Pixels, mask: Mask, width: int) -> Pixels:
    """Blend a fill with what was under the outermost pixels of its (dilated) hole.

    Args:
        fill: The network's picture.
        image: The picture with its own content under the mask.
        mask: True = hole, already widened by at least `width`.
        width: Pixels over which the fill fades in [px]; 0 leaves it as it is.
    """
    if width == 0:
        return fill
    holes = np.ascontiguousarray(mask).view(np.uint8)
    distance = cv2.distanceTransform(holes, cv2.DIST_L2, 3)
    alpha = np.clip(distance / np.float32(width + 1), 0, 1)[..., None]
    return (image + (fill - image) * alpha).astype(np.float32)
