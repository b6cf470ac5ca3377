"""Metrics of single pixels: PSNR and the several things that papers call L1.

Pictures are (h, w, 3) RGB arrays on the scale 0..255, `uint8` or unrounded floats; `hole` is a
Boolean (h, w) array or None for the whole picture. All sums run in float64.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PSNR_CAP",
    "ScoreError",
    "grey",
    "l1",
    "psnr",
    "psnr_grey",
    "relative_l1",
    "relative_l1_grey",
]

Picture = NDArray[np.uint8] | NDArray[np.floating]
Hole = NDArray[np.bool_] | None


class ScoreError(ValueError):
    """A score cannot be computed for these pictures, or there is no such score."""


PSNR_CAP = 100.0
"""PSNR of identical pictures is infinite; scores stop here [dB] so that means stay finite."""

_GREY = np.array([0.2125, 0.7154, 0.0721])  # Rec. 709 as scikit-image's rgb2gray rounds it


def grey(picture: Picture) -> NDArray[np.float64]:
    """Convert RGB on 0..255 to grey on [0, 1] as scikit-image does.

    Args:
        picture: (h, w, 3), 0..255.

    Returns:
        (h, w) in [0, 1].
    """
    return (picture.astype(np.float64) / 255) @ _GREY


def psnr(truth: Picture, picture: Picture, hole: Hole = None) -> float:
    """Peak signal-to-noise ratio of RGB, `10 log10(255^2 / mean squared difference)` [dB].

    Args:
        truth: (h, w, 3), 0..255.
        picture: The same shape.
        hole: (h, w); only these pixels count, all if None.

    Returns:
        At most `PSNR_CAP`.
    """
    difference = _chosen(truth, hole) - _chosen(picture, hole)
    return _decibel(255.0**2, float(np.mean(difference**2)))


def psnr_grey(truth: Picture, picture: Picture, hole: Hole = None) -> float:
    """PSNR of grey pictures on [0, 1] (EdgeConnect's metric script) [dB]."""
    difference = grey(truth) - grey(picture)
    if hole is not None:
        difference = difference[hole]
    return _decibel(1.0, float(np.mean(difference**2)))


def l1(truth: Picture, picture: Picture, hole: Hole = None) -> float:
    """Mean absolute difference of RGB in percent of the range, `100 mean|a - b| / 255` [%]."""
    return float(np.mean(np.abs(_chosen(truth, hole) - _chosen(picture, hole)))) / 2.55


def relative_l1(truth: Picture, picture: Picture, hole: Hole = None) -> float:
    """PEN-Net's quotient on RGB, `100 sum|a - b| / sum(a + b)`: dark pictures inflate it [%]."""
    a, b = _chosen(truth, hole), _chosen(picture, hole)
    return _quotient(a, b)


def relative_l1_grey(truth: Picture, picture: Picture, hole: Hole = None) -> float:
    """EdgeConnect's quotient on grey, `100 sum|a - b| / sum(a + b)` [%]."""
    a, b = grey(truth), grey(picture)
    return _quotient(a, b) if hole is None else _quotient(a[hole], b[hole])


def _chosen(picture: Picture, hole: Hole) -> NDArray[np.float64]:
    return (picture if hole is None else picture[hole]).astype(np.float64)


def _decibel(peak_squared: float, mean_square: float) -> float:
    if mean_square == 0:
        return PSNR_CAP
    return min(PSNR_CAP, 10 * float(np.log10(peak_squared / mean_square)))


def _quotient(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    total = float(np.sum(a + b))
    return 100 * float(np.sum(np.abs(a - b))) / total if total else 0.0
