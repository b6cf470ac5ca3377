# ruff: noqa: ANN001, ANN202, PLR0913 (inside a kernel numba infers the types; it takes no objects)
"""Finds the places of a picture whose surroundings are most alike: PatchMatch.

Random search, and neighbours that continue each other's places, which makes large coherent pieces
(Barnes et al. 2009, doi:10.1145/1531326.1531330). Grain is copied from such places (`exemplar`),
and the middle of thick holes (`completion`).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch.layers._compiled import inner, kernel, summing
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Mask

Places = NDArray[np.int32]
"""(2, h, w) row and column of each pixel's source."""


def wholly_known(hole: Mask, reach: int) -> Mask:
    """Where a patch lies inside the picture and no pixel of it is unknown."""
    known = ~widened(hole, reach)
    known[:reach] = known[-reach:] = False
    known[:, :reach] = known[:, -reach:] = False
    return known


def widened(hole: Mask, reach: int) -> Mask:
    """Where a patch holds something unknown."""
    side = 2 * reach + 1
    return cv2.dilate(hole.view(np.uint8), np.ones((side, side), np.uint8)) > 0


def start(coarse: Places | None, wanted: Mask, known: Mask, rng: np.random.Generator) -> Places:
    """Where a search starts: the places of the picture of half the size, or any.

    Args:
        coarse: (2, h/2, w/2) or None.
        wanted: (h, w) pixels that look for a place.
        known: (h, w) centres that they may find; at least one.
        rng: Draws places where there are none.
    """
    places = np.zeros((2, *wanted.shape), np.int32)
    here = np.stack(np.nonzero(wanted))
    if coarse is None:
        lost = np.ones(here.shape[1], bool)
    else:
        half = np.minimum(here // 2, np.array(coarse.shape[1:])[:, None] - 1)
        there = here + 2 * (coarse[:, half[0], half[1]] - half)
        there = there.clip(0, np.array(wanted.shape)[:, None] - 1)
        places[:, wanted] = there
        lost = ~known[there[0], there[1]]
    sources = np.flatnonzero(known)
    drawn = sources[rng.integers(len(sources), size=int(lost.sum()))]
    places[:, here[0][lost], here[1][lost]] = np.unravel_index(drawn, known.shape)
    return places


def rows_of(picture: Pixels, reach: int) -> Pixels:
    """What `search` compares: (h + 2 reach, 3 (w + 2 reach)), mirrored at the border."""
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return padded.reshape(len(padded), -1)


@summing
def _row(guide, row, first, other_row, other_first, count):
    """Squared difference of two runs; indices are unsigned, so that it becomes vector code."""
    total = np.float32(0)
    for j in range(count):
        d = guide[row, first + j] - guide[other_row, other_first + j]
        total += d * d
    return total


@inner
def _distance(guide, side, row, column, other_row, other_column, limit):
    """Squared difference of two patches; stops once it is above `limit`."""
    total = np.float32(0)
    here, there, count = np.uint64(3 * column), np.uint64(3 * other_column), np.uint64(3 * side)
    for dy in range(side):
        total += _row(guide, np.uint64(row + dy), here, np.uint64(other_row + dy), there, count)
        if total >= limit:
            return total
    return total


@inner
def _unlike(tones, y, x, v, u):
    """Squared difference of the tones of two pixels."""
    total = np.float32(0)
    for channel in range(tones.shape[2]):
        d = tones[y, x, channel] - tones[v, u, channel]
        total += d * d
    return total


@inner
def _try(guide, side, tones, known, places, best, y, x, v, u):
    """Take (v, u) as the source of (y, x) if it is known and more alike than the present one."""
    if v == places[0, y, x] and u == places[1, y, x]:
        return
    if 0 <= v < known.shape[0] and 0 <= u < known.shape[1] and known[v, u]:
        found = _unlike(tones, y, x, v, u)
        if found < best[y, x]:
            found += _distance(guide, side, y, x, v, u, best[y, x] - found)
        if found < best[y, x]:
            best[y, x] = found
            places[0, y, x], places[1, y, x] = v, u


@inner
def _random(state, radius):
    """The next state (numerical recipes' congruential generator) and a step of at most `radius`."""
    state = state * np.uint32(1664525) + np.uint32(1013904223)
    return state, np.int64(state >> np.uint32(8)) % (2 * radius + 1) - radius


@inner
def _ask(guide, side, tones, known, places, best, y, x, back):
    """Try what continues the places of the two neighbours seen before."""
    h, w = best.shape
    for dy, dx in ((back, 0), (0, back)):
        if 0 <= y - dy < h and 0 <= x - dx < w and best[y - dy, x - dx] >= 0:
            v, u = places[0, y - dy, x - dx] + dy, places[1, y - dy, x - dx] + dx
            _try(guide, side, tones, known, places, best, y, x, v, u)


@inner
def _look_around(guide, side, tones, known, places, best, y, x, radius, state):
    """Try random places around the best one, ever nearer."""
    while radius >= 1:
        state, down = _random(state, radius)
        state, across = _random(state, radius)
        v, u = places[0, y, x] + down, places[1, y, x] + across
        _try(guide, side, tones, known, places, best, y, x, v, u)
        radius //= 2
    return state


@kernel
def search(guide, reach, tones, known, wanted, places, best, farthest, rounds) -> None:
    """Improve places in turn, forwards and backwards.

    Args:
        guide: `rows_of` the picture, (h + 2 reach, 3 (w + 2 reach)).
        reach: Patches of (2 reach + 1) x (2 reach + 1) px are compared.
        tones: (h, w, n) what counts beside the patch: n = 0 for nothing.
        known: (h, w) centres that may be found.
        wanted: (h, w) pixels that look for a place.
        places: (2, h, w) where the search starts; is changed.
        best: (h, w) becomes how unlike a wanted pixel and its place are, -1 elsewhere.
        farthest: The random search looks so far around what was found [px].
        rounds: How often.
    """
    h, w = wanted.shape
    state, infinite, side = np.uint32(1), np.float32(np.inf), 2 * reach + 1
    for y in range(h):
        for x in range(w):
            best[y, x] = np.float32(-1)
            if wanted[y, x]:
                v, u = places[0, y, x], places[1, y, x]
                best[y, x] = _unlike(tones, y, x, v, u)
                best[y, x] += _distance(guide, side, y, x, v, u, infinite)
    for turn in range(rounds):
        back = 1 - 2 * (turn % 2)
        for a in range(h):
            y = a if back == 1 else h - 1 - a
            for b in range(w):
                x = b if back == 1 else w - 1 - b
                if wanted[y, x]:
                    _ask(guide, side, tones, known, places, best, y, x, back)
                    state = _look_around(
                        guide, side, tones, known, places, best, y, x, farthest, state
                    )
