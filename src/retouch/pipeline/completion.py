# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""Makes the middle of a thick hole of the picture's own patches where a network smears.

Near its rim a network fills a hole well; far from it even a good one paints haze, however the
picture goes on. Patches copied alone know nothing of what the picture shows. So the network's fill
stays as far as it is good, and what lies deeper is completed as video is (Wexler et al. 2007,
doi:10.1109/TPAMI.2007.60): from coarse to fine each patch looks for the one most like it
(`patchmatch`), and each pixel becomes what the patches over it say, those most that have found
their like. The fill's tones count as well, so that what comes out follows it. Patches replace the
fill only where they have more detail: copies that are smoother than the fill have found nothing.
docs/pipeline.md has the measurements.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from retouch.layers._compiled import kernel
from retouch.pipeline import patchmatch
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask, depth, tight
from retouch.pipeline.patchmatch import Places

_RIM, _FADE = 17, 4
"""So deep inside a hole patches begin, and within so much more they replace the fill [px]."""
_REACH = 3
"""Patches of 7 x 7 px."""
_LEVELS = {16: 12, 8: 10, 4: 8, 2: 6, 1: 3}
"""How many times smaller, and how often patches are sought and pixels made anew there."""
_ROUNDS, _NEAR = 2, 8
"""Of one search; how far it looks around what the coarser level found [px]."""
_FEWEST = 50
"""Patches that there must be to choose from."""
_TONE, _TONES = np.float32(3), 2
"""Weight of the fill's tones against one pixel's colours; Gaussian that makes them [px]."""
_QUANTILE, _SHARP = 0.75, np.float32(0.2)
"""A patch counts exp(-d), where d = 1 is this share of how unlike this part of the patches are."""
_FINE, _NEARBY = 2, 6
"""Gaussians: detail is what is finer than the one, and is compared as the other sees it [px]."""
_SLOPE = np.float32(1.4)
"""How fast patches take over from the fill as the logarithm of their detail passes its own."""
_LOW, _KEPT = 8, np.float32(0.5)
"""Gaussian of tones that patches take over from the fill, and their share [px]."""
_FELT = 40
"""Gaussians end within this distance [px]."""


def complete(fill: Pixels, image: Pixels, mask: Mask) -> Pixels:
    """Replace the middle of thick holes in a fill by patches.

    Args:
        fill: (h, w, 3) in [0, 1]; only its hole is used.
        image: (h, w, 3) the picture; only known pixels are used.
        mask: (h, w) True = hole.

    Returns:
        (h, w, 3) in [0, 1]: the fill, changed only deeper than 17 px inside the hole; the fill
        itself where no hole is so thick.
    """
    inside = depth(mask)
    if inside.shape != mask.shape:
        inside = cv2.resize(inside, mask.shape[::-1])
    middle = inside > _RIM
    if not middle.any():
        return fill
    copied = _completed(np.where(mask[..., None], fill, image), middle)
    near = tight(middle, Box(0, 0, *mask.shape)).grown(_FELT, mask.shape).slices
    copied, own, middle = copied[near], fill[near], middle[near]
    share = ((inside[near] - _RIM) / _FADE).clip(0, 1) * _richer(copied, own, middle)
    change = np.where(middle[..., None], copied - own, np.float32(0))
    change -= _KEPT * _near_mean(change, mask[near], _LOW)
    result = fill.clip(0, 1)
    result[near] = (own + change * share[..., None]).clip(0, 1)
    return result


def _richer(copied: Pixels, fill: Pixels, middle: Mask) -> Pixels:
    """How much of the copy is used, (h, w): 1 where it has clearly more detail than the fill."""
    inner = cv2.erode(middle.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool)
    theirs, own = (_near_mean(_detail(x), inner, _NEARBY) for x in (copied, fill))
    more = np.log((theirs + np.float32(1e-7)) / (own + np.float32(1e-7)))
    return np.asarray((_SLOPE * more + np.float32(0.5)).clip(0, 1), np.float32)


def _detail(picture: Pixels) -> Pixels:
    """Energy of what is fine, (h, w)."""
    fine = picture - cv2.GaussianBlur(picture, (0, 0), _FINE)
    return np.asarray((fine * fine).sum(axis=2), np.float32)


def _near_mean(values: Pixels, where: Mask, sigma: float) -> Pixels:
    """Mean of values near each pixel, of those somewhere only."""
    weight = where.astype(np.float32)
    share = cv2.GaussianBlur(weight, (0, 0), sigma) + np.float32(1e-6)
    weight, share = (x if values.ndim == 2 else x[..., None] for x in (weight, share))
    return np.asarray(cv2.GaussianBlur(values * weight, (0, 0), sigma) / share, np.float32)


def _completed(picture: Pixels, hole: Mask) -> Pixels:
    """Make the hole of patches, from coarse to fine."""
    rng, places, result = np.random.default_rng(0), None, picture
    for level, turns, small in _pyramid(picture, hole):
        known = patchmatch.wholly_known(small, _REACH)
        if np.count_nonzero(known) < _FEWEST:
            places = None
            continue
        wanted, first = patchmatch.widened(small, _REACH), places is None
        farthest = max(small.shape) if first else _NEAR
        tones = cv2.GaussianBlur(level, (0, 0), _TONES) * np.sqrt(_TONE)
        unlike = np.zeros(small.shape, np.float32)
        places = patchmatch.start(places, wanted, known, rng)
        result = level if first else _voted(level, small, wanted, places, unlike)
        for _ in range(turns):
            rows = patchmatch.rows_of(result, _REACH)
            patchmatch.search(rows, _REACH, tones, known, wanted, places, unlike, farthest, _ROUNDS)
            result = _voted(result, small, wanted, places, unlike)
    return result if result.shape == picture.shape else picture


def _pyramid(picture: Pixels, hole: Mask) -> Iterator[tuple[Pixels, int, Mask]]:
    """Yield pictures from small to large, how often each is worked over, and their holes."""
    for step, turns in _LEVELS.items():
        size = hole.shape[1] // step, hole.shape[0] // step
        if min(size) <= 2 * _REACH:
            continue
        if step == 1:
            yield picture, turns, hole
            continue
        level = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        small = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 1e-3
        yield np.asarray(level, np.float32), turns, small


def _voted(picture: Pixels, hole: Mask, wanted: Mask, places: Places, unlike: Pixels) -> Pixels:
    """What the patches over each pixel of the hole say it is."""
    found = unlike[wanted]
    one = np.float32(max(1e-6, np.quantile(found, _QUANTILE)) * _SHARP)
    trust = np.zeros_like(unlike)
    trust[wanted] = np.exp(-found / one) + np.float32(1e-6)
    result = picture.copy()
    _vote(picture, hole, wanted, places, trust, _REACH, result)
    return result


@kernel
def _vote(picture, hole, wanted, places, trust, reach, result):
    """Average what patches bring to each pixel of the hole, by their trust."""
    h, w = hole.shape
    for y in range(h):
        for x in range(w):
            if not hole[y, x]:
                continue
            total = red = green = blue = np.float32(0)
            for row in range(max(0, y - reach), min(h, y + reach + 1)):
                for column in range(max(0, x - reach), min(w, x + reach + 1)):
                    if wanted[row, column]:
                        v = places[0, row, column] + y - row
                        u = places[1, row, column] + x - column
                        share = trust[row, column]
                        total += share
                        red += share * picture[v, u, 0]
                        green += share * picture[v, u, 1]
                        blue += share * picture[v, u, 2]
            result[y, x, 0], result[y, x, 1] = red / total, green / total
            result[y, x, 2] = blue / total
