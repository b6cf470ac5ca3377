"""PSNR and SSIM that forgive a small shift, for pictures that were not registered to the pixel.

Real camera shake has no true position: the same result a pixel further is as good. The rule is that
of Levin et al., "Understanding and Evaluating Blind Deconvolution Algorithms", CVPR 2009: 15 px are
cut off each side of the truth, and the result is compared at every shift of up to 5 px in steps of
a quarter pixel, bilinear in between; the shift of least squared difference counts. Here whole
pixels are tried first, then the quarters around the best of them.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch.evaluation.pixels import Picture, ScoreError, psnr
from retouch.evaluation.similarity import ssim_gaussian11

__all__ = ["BORDER", "REACH", "aligned", "psnr_shifted", "ssim_shifted"]

BORDER = 15
"""Cut off each side of the truth [px]."""
REACH = 5
"""Largest shift in each direction [px]."""
_STEP = 0.25

Floats = NDArray[np.float32]


def psnr_shifted(truth: Picture, picture: Picture) -> float:
    """PSNR of RGB at the best shift, interior only [dB].

    Args:
        truth: (h, w, 3), 0..255, sides of at least 41.
        picture: The same shape.

    Raises:
        ScoreError: If the pictures are too small.
    """
    return psnr(*aligned(truth, picture))


def ssim_shifted(truth: Picture, picture: Picture) -> float:
    """SSIM (`ssim_gaussian11`) at the shift of the best PSNR, interior only."""
    return ssim_gaussian11(*aligned(truth, picture))


def aligned(truth: Picture, picture: Picture) -> tuple[Floats, Floats]:
    """Cut the interior of the truth, and of the picture at the shift where they differ least.

    Args:
        truth: (h, w, 3), 0..255, sides of at least 41.
        picture: The same shape.

    Returns:
        Both (h - 30, w - 30, 3), 0..255.

    Raises:
        ScoreError: If the pictures are too small.
    """
    least = 2 * BORDER + 11
    if min(truth.shape[:2]) < least:
        raise ScoreError(f"shifted scores need sides of at least {least} px, got {truth.shape[:2]}")
    target = truth[BORDER:-BORDER, BORDER:-BORDER].astype(np.float32)
    movable = picture.astype(np.float32)
    whole = range(-REACH, REACH + 1)
    best = _best(target, movable, ((y, x) for y in whole for x in whole))
    steps = np.arange(-1 + _STEP, 1, _STEP)
    finer = ((best[0] + y, best[1] + x) for y in steps for x in steps)
    best = _best(target, movable, (s for s in finer if max(abs(s[0]), abs(s[1])) <= REACH))
    return target, _cut(movable, best)


def _best(
    target: Floats, picture: Floats, shifts: Iterable[tuple[float, float]]
) -> tuple[float, float]:
    def cost(shift: tuple[float, float]) -> float:
        return float(cv2.norm(target, _cut(picture, shift), cv2.NORM_L2SQR))

    return min(shifts, key=cost)


def _cut(picture: Floats, shift: tuple[float, float]) -> Floats:
    """Cut the interior, moved by (y, x); bilinear between pixels."""
    rows, columns = (side - 2 * BORDER for side in picture.shape[:2])
    below = [int(np.floor(value)) for value in shift]
    parts = [value - low for value, low in zip(shift, below, strict=True)]
    result = np.zeros((rows, columns, picture.shape[2]), np.float32)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = abs(1 - dy - parts[0]) * abs(1 - dx - parts[1])
        if weight:
            top, left = BORDER + below[0] + dy, BORDER + below[1] + dx
            result += np.float32(weight) * picture[top : top + rows, left : left + columns]
    return result
