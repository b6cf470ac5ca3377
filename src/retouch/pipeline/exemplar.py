# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""Gives a fill the grain of the picture's known part: its finest detail is copied, not guessed.

A network knows what belongs into a hole but not its grain: averaged guesses are too smooth, critics
invent noise. Each pixel of the hole looks for the place among the known ones whose surroundings are
most like its own in the fill (PatchMatch: Barnes et al. 2009, doi:10.1145/1531326.1531330, by
random search and by asking its neighbours, which makes large coherent pieces), and takes the finest
band of that place for most of its own. Nothing is averaged over several places: that blurs.
docs/pipeline.md has the measurements.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch.layers._compiled import inner, kernel
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Mask

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

Places = NDArray[np.int32]
"""(2, h, w) row and column of each pixel's source."""


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
        guide = (
            completed if step == 1 else cv2.resize(completed, size, interpolation=cv2.INTER_AREA)
        )
        hole = mask if step == 1 else cv2.resize(mask.astype(np.float32), size) > 0
        hole = np.ascontiguousarray(hole)  # or the search is compiled again for slices
        known = _wholly_known(hole)
        sources = np.argwhere(known).astype(np.int32)
        if not len(sources):
            places = None
            continue
        farthest = max(hole.shape) if places is None else _NEAR
        places = _start(places, hole, known, sources)
        flat = np.pad(guide, ((_REACH, _REACH), (_REACH, _REACH), (0, 0)), mode="reflect")
        _search(flat.reshape(len(flat), -1), known, hole, places, farthest)
    return places


def _wholly_known(hole: Mask) -> Mask:
    """Where a patch lies inside the picture and no pixel of it is unknown."""
    side = 2 * _REACH + 1
    known = cv2.dilate(hole.view(np.uint8), np.ones((side, side), np.uint8)) == 0
    known[:_REACH] = known[-_REACH:] = False
    known[:, :_REACH] = known[:, -_REACH:] = False
    return known


def _start(coarse: Places | None, hole: Mask, known: Mask, sources: Places) -> Places:
    """Where the search starts: the coarser level's places, or any."""
    rng = np.random.default_rng(0)
    h, w = hole.shape
    here = np.mgrid[:h, :w].astype(np.int32)
    if coarse is None:
        places, lost = np.zeros_like(here), hole
    else:
        row, column = (np.minimum(here[axis] // 2, coarse.shape[axis + 1] - 1) for axis in (0, 1))
        places = here + 2 * (coarse[:, row, column] - np.stack([row, column]))
        places = places.clip(0, np.array([h - 1, w - 1]).reshape(2, 1, 1)).astype(np.int32)
        lost = hole & ~known[places[0], places[1]]
    drawn = rng.integers(len(sources), size=int(lost.sum()))
    places[:, lost] = sources[drawn].T
    return places


@inner
def _distance(guide, row, column, other_row, other_column, limit):
    """Squared difference of two patches; stops once it is above `limit`."""
    total = np.float32(0)
    for dy in range(2 * _REACH + 1):
        for j in range(3 * (2 * _REACH + 1)):
            d = guide[row + dy, 3 * column + j] - guide[other_row + dy, 3 * other_column + j]
            total += d * d
        if total >= limit:
            return total
    return total


@inner
def _try(guide, known, places, best, y, x, v, u):
    """Take (v, u) as the source of (y, x) if it is known and more alike than the present one."""
    if 0 <= v < known.shape[0] and 0 <= u < known.shape[1] and known[v, u]:
        found = _distance(guide, y, x, v, u, best[y, x])
        if found < best[y, x]:
            best[y, x] = found
            places[0, y, x], places[1, y, x] = v, u


@inner
def _random(state, radius):
    """The next state (numerical recipes' congruential generator) and a step of at most `radius`."""
    state = state * np.uint32(1664525) + np.uint32(1013904223)
    return state, np.int64(state >> np.uint32(8)) % (2 * radius + 1) - radius


@inner
def _ask(guide, known, places, best, y, x, back):
    """Try what continues the places of the two neighbours seen before."""
    h, w = best.shape
    for dy, dx in ((back, 0), (0, back)):
        if 0 <= y - dy < h and 0 <= x - dx < w and best[y - dy, x - dx] >= 0:
            v, u = places[0, y - dy, x - dx] + dy, places[1, y - dy, x - dx] + dx
            _try(guide, known, places, best, y, x, v, u)


@inner
def _look_around(guide, known, places, best, y, x, radius, state):
    """Try random places around the best one, ever nearer."""
    while radius >= 1:
        state, down = _random(state, radius)
        state, across = _random(state, radius)
        _try(guide, known, places, best, y, x, places[0, y, x] + down, places[1, y, x] + across)
        radius //= 2
    return state


@kernel
def _search(guide, known, hole, places, farthest):
    """Improve `places` in turn, forwards and backwards."""
    h, w = hole.shape
    state, infinite = np.uint32(1), np.float32(np.inf)
    best = np.full((h, w), np.float32(-1))  # stays so outside the hole
    for y in range(h):
        for x in range(w):
            if hole[y, x]:
                best[y, x] = _distance(guide, y, x, places[0, y, x], places[1, y, x], infinite)
    for turn in range(_ROUNDS):
        back = 1 - 2 * (turn % 2)
        for a in range(h):
            y = a if back == 1 else h - 1 - a
            for b in range(w):
                x = b if back == 1 else w - 1 - b
                if hole[y, x]:
                    _ask(guide, known, places, best, y, x, back)
                    state = _look_around(guide, known, places, best, y, x, farthest, state)
