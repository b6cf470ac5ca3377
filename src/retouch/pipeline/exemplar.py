"""Gives a fill the grain of the picture's known part: its finest detail is copied, not guessed.

A network knows what belongs into a hole but not its grain: averaged guesses are too smooth, critics
invent noise. Each pixel of the hole looks for the place among the known ones whose surroundings are
most like its own in the fill (`patchmatch`), and takes the finest band of that place for most of
its own. Nothing is averaged over several places: that blurs. docs/pipeline.md has the measurements.
"""

import cv2
import numpy as np

from retouch.pipeline import patchmatch
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Mask
from retouch.pipeline.patchmatch import Places

_REACH = 2
"""Patches of 5 x 5 px are compared."""
_ROUNDS = 3
"""Of propagation and search, at half and at full size."""
_NEAR = 4
"""At full size the random search looks so far around what was found at half the size [px]."""
_SIGMA = 0.85
"""What this Gaussian takes away is the finest band [px]."""
_OWN, _COPIED = np.float32(0.3), np.float32(1)
"""Shares of a fill's own finest band and of the one that it copies."""


def refine(fill: Pixels, image: Pixels, mask: Mask) -> Pixels:
    """Exchange the finest band of a fill for that of like places in the picture.

    Args:
        fill: (h, w, 3) in [0, 1]; only its hole is used.
        image: (h, w, 3) the picture; only known pixels are used.
        mask: (h, w) True = hole.

    Returns:
        (h, w, 3): the fill, changed in the hole only; the fill itself where nothing is known that
        could be copied.
    """
    completed = np.where(mask[..., None], fill, image)
    places = _matches(completed, mask)
    if places is None:
        return fill
    smooth = cv2.GaussianBlur(completed, (0, 0), _SIGMA)
    fine = completed - smooth
    copied = fine[places[0][mask], places[1][mask]]
    result = fill.copy()
    result[mask] = (smooth[mask] + _OWN * fine[mask] + _COPIED * copied).clip(0, 1)
    return result


def _matches(completed: Pixels, mask: Mask) -> Places | None:
    """Find the most alike known place of each pixel of the hole, first at half the size."""
    places = None
    for step in (2, 1):
        size = mask.shape[1] // step, mask.shape[0] // step
        if min(size) <= 2 * _REACH:
            continue
        guide = completed
        if step > 1:
            smaller = cv2.resize(completed, size, interpolation=cv2.INTER_AREA)
            guide = np.asarray(smaller, np.float32)
        hole = mask if step == 1 else cv2.resize(mask.astype(np.float32), size) > 0
        hole = np.ascontiguousarray(hole)  # or the search is compiled again for slices
        known = patchmatch.wholly_known(hole, _REACH)
        if not known.any():
            places = None
            continue
        farthest = max(hole.shape) if places is None else _NEAR
        places = patchmatch.start(places, hole, known, np.random.default_rng(0))
        rows, best = patchmatch.rows_of(guide, _REACH), np.empty(hole.shape, np.float32)
        nothing = np.empty((*hole.shape, 0), np.float32)
        patchmatch.search(rows, _REACH, nothing, known, hole, places, best, farthest, _ROUNDS)
    return places
