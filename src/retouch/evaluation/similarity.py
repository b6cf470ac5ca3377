"""Structural similarity in the variants that inpainting papers report, and MS-SSIM, UQI and VIF.

Every variant is one choice of window, border, covariance and colour; the names say which. Pictures
are (h, w, 3) RGB on 0..255; sums run in float64.

Papers: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity",
IEEE TIP 2004; Wang et al., "Multiscale Structural Similarity", Asilomar 2003; Wang and Bovik,
"A Universal Image Quality Index", IEEE SPL 2002; Sheikh and Bovik, "Image Information and Visual
Quality", IEEE TIP 2006.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch.evaluation.pixels import Hole, Picture, ScoreError, grey

__all__ = [
    "ms_ssim",
    "ssim_gaussian11",
    "ssim_gaussian11_zero_padded",
    "ssim_grey_uniform51",
    "ssim_uniform",
    "uqi_grey",
    "vif_grey",
]

Map = NDArray[np.float64]

_K1, _K2 = 0.01, 0.03  # Wang 2004, Sec. III-B
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, Sec. 3.2
_MS_SSIM_SIDE = 176  # eleven pixels must be left after four halvings


def _gaussian(size: int, sigma: float) -> Map:
    offset = np.arange(size) - (size - 1) / 2
    window = np.exp(-(offset**2) / (2 * sigma**2))
    return window / window.sum()


def _array(result: Any) -> Map:
    return np.asarray(result, dtype=np.float64)


def _filter(picture: Map, window: Map, *, zero_padded: bool) -> Map:
    """Correlate rows and columns with `window`; without padding the border is cut off."""
    if zero_padded:
        padding = cv2.BORDER_CONSTANT
        return _array(cv2.sepFilter2D(picture, cv2.CV_64F, window, window, borderType=padding))
    margin = len(window) // 2
    whole = _array(cv2.sepFilter2D(picture, cv2.CV_64F, window, window))
    return whole[margin : whole.shape[0] - margin, margin : whole.shape[1] - margin]


def _box(picture: Map, size: int) -> Map:
    margin = size // 2
    whole = _array(cv2.boxFilter(picture, cv2.CV_64F, (size, size)))
    return whole[margin : whole.shape[0] - margin, margin : whole.shape[1] - margin]


def _terms(moments: list[Map], peak: float, sample: float = 1.0) -> tuple[Map, Map]:
    """Compute luminance and contrast-structure maps from the window means of a, b, aa, bb, ab."""
    a, b, aa, bb, ab = moments
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    variances = sample * (aa - a * a + bb - b * b)
    covariance = sample * (ab - a * b)
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _products(a: Map, b: Map) -> tuple[Map, Map, Map, Map, Map]:
    return a, b, a * a, b * b, a * b


def _floats(truth: Picture, picture: Picture) -> tuple[Map, Map]:
    return truth.astype(np.float64), picture.astype(np.float64)


def _check(truth: Picture, side: int, what: str) -> None:
    if min(truth.shape[:2]) < side:
        raise ScoreError(f"{what} needs sides of at least {side} px, got {truth.shape[:2]}")


def _gaussian_map(truth: Picture, picture: Picture, *, zero_padded: bool) -> Map:
    _check(truth, 11, "SSIM with an 11-pixel window")
    a, b = _floats(truth, picture)
    window = _gaussian(11, 1.5)
    moments = [_filter(p, window, zero_padded=zero_padded) for p in _products(a, b)]
    luminance, structure = _terms(moments, 255)
    return luminance * structure


def ssim_gaussian11(truth: Picture, picture: Picture, hole: Hole = None) -> float:
    """SSIM of Wang 2004: RGB, 11x11 Gaussian of sigma 1.5, population moments, no padding.

    Args:
        truth: (h, w, 3), 0..255, sides of at least 11.
        picture: The same shape.
        hole: (h, w); only windows centred on these pixels count. None counts all. A hole that
            touches no window centre (all of it within 5 px of the border) gives NaN.

    Returns:
        Mean over map and channels.
    """
    values = _gaussian_map(truth, picture, zero_padded=False)
    return _mean(values, None if hole is None else hole[5:-5, 5:-5])


def ssim_gaussian11_zero_padded(truth: Picture, picture: Picture, hole: Hole = None) -> float:
    """SSIM with the same window and five zeros of padding, mean over the whole map (ISNet)."""
    return _mean(_gaussian_map(truth, picture, zero_padded=True), hole)


def _uniform_map(a: Map, b: Map, size: int, peak: float) -> Map:
    moments = [_box(p, size) for p in _products(a, b)]
    count = size * size
    luminance, structure = _terms(moments, peak, sample=count / (count - 1))
    return luminance * structure


def ssim_uniform(truth: Picture, picture: Picture, hole: Hole = None, *, size: int = 7) -> float:
    """SSIM with scikit-image's defaults: RGB, uniform window, sample covariance, border cut off.

    Args:
        truth: (h, w, 3), 0..255.
        picture: The same shape.
        hole: (h, w); only windows centred on these pixels count.
        size: Side of the window, odd [px]; 7 in SEM-Net's test, 51 in PEN-Net's.
    """
    _check(truth, size, f"SSIM with a {size}-pixel window")
    values = _uniform_map(*_floats(truth, picture), size, 255)
    margin = size // 2
    return _mean(values, None if hole is None else hole[margin:-margin, margin:-margin])


def ssim_grey_uniform51(truth: Picture, picture: Picture, hole: Hole = None) -> float:
    """SSIM of grey pictures with a uniform window of 51 pixels (EdgeConnect's metric script)."""
    _check(truth, 51, "SSIM with a 51-pixel window")
    values = _uniform_map(grey(truth), grey(picture), 51, 1)
    return _mean(values, None if hole is None else hole[25:-25, 25:-25])


def _mean(values: Map, hole: Hole) -> float:
    if hole is None:
        return float(values.mean())
    return float(values[hole].mean()) if hole.any() else float("nan")


def _halve(picture: Map) -> Map:
    """Average 2x2 cells; an odd side is first extended by its last row or column."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        edges = ((0, height % 2), (0, width % 2), (0, 0))
        picture = np.pad(picture, edges, mode="edge")
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    return _array(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def ms_ssim(truth: Picture, picture: Picture) -> float:
    """Multi-scale SSIM of RGB over five scales with Wang 2003's weights.

    Each channel's product of contrast-structure means (negative ones count as 0) and the luminance
    of the last scale, then the mean over the channels; 2x2 means between the scales.

    Args:
        truth: (h, w, 3), 0..255, sides of at least 176.
        picture: The same shape.
    """
    _check(truth, _MS_SSIM_SIDE, "MS-SSIM with five scales")
    a, b = _floats(truth, picture)
    window = _gaussian(11, 1.5)
    result = np.ones(3)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if scale:
            a, b = _halve(a), _halve(b)
        moments = [_filter(p, window, zero_padded=False) for p in _products(a, b)]
        luminance, structure = _terms(moments, 255)
        last = scale == len(_SCALE_WEIGHTS) - 1
        mean = ((luminance * structure) if last else structure).mean(axis=(0, 1))
        result *= np.maximum(mean, 0) ** weight
    return float(result.mean())


def uqi_grey(truth: Picture, picture: Picture, *, sewar: bool = False) -> float:
    """Universal quality index of grey pictures on [0, 1], uniform window of 8 (Wang, Bovik 2002).

    Args:
        truth: (h, w, 3), 0..255, sides of at least 9.
        picture: The same shape.
        sewar: Score as the package `sewar` does, which the structure model's evaluation calls: it
            takes means for sums, so second moments weigh 64 times too much and values lie near 1.
    """
    _check(truth, 9, "UQI")
    a, b = grey(truth), grey(picture)
    whole = [cv2.boxFilter(p, cv2.CV_64F, (8, 8), anchor=(0, 0)) for p in _products(a, b)]
    cut = 8 if sewar else 7
    height, width = a.shape[0] - cut, a.shape[1] - cut
    mean_a, mean_b, aa, bb, ab = (p[:height, :width] for p in whole)
    weight = 64 if sewar else 1
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    variances, covariance = weight * (aa + bb) - squares, weight * ab - product
    values = np.ones_like(product)  # windows in which both pictures are black
    flat = (np.abs(variances) < 1e-12) & (squares > 0)
    values[flat] = 2 * product[flat] / squares[flat]
    full = (np.abs(variances) >= 1e-12) & (squares > 0)
    values[full] = 4 * covariance[full] * product[full] / (variances[full] * squares[full])
    return float(values.mean())


def vif_grey(truth: Picture, picture: Picture, *, noise: float = 2.0) -> float:
    """Visual information fidelity of grey pictures on [0, 1] in the pixel domain, four scales.

    Args:
        truth: (h, w, 3), 0..255.
        picture: The same shape.
        noise: Variance of the visual noise (2 for pictures on 0..255; the structure model's
            evaluation keeps 2 on [0, 1], which makes its values nearly 1).
    """
    _check(truth, 41, "VIF")
    a, b = grey(truth), grey(picture)
    shared, total = 0.0, 0.0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        window = _gaussian(size, size / 5)
        if scale:
            a, b = (_filter(p, window, zero_padded=False)[::2, ::2] for p in (a, b))
        mean_a, mean_b, aa, bb, ab = (
            _filter(p, window, zero_padded=False) for p in _products(a, b)
        )
        information = _information(aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b, noise)
        shared, total = shared + information[0], total + information[1]
    return shared / total


def _information(var_a: Map, var_b: Map, covariance: Map, noise: float) -> tuple[float, float]:
    """Information that a window keeps, and that it held (Sheikh 2006, Eq. 13 and 14)."""
    tiny = 1e-10
    var_a, var_b = np.maximum(var_a, 0), np.maximum(var_b, 0)
    gain = covariance / (var_a + tiny)
    rest = var_b - gain * covariance
    gain, rest = np.where(var_a < tiny, 0, gain), np.where(var_a < tiny, var_b, rest)
    var_a = np.where(var_a < tiny, 0, var_a)
    gain, rest = np.where(var_b < tiny, 0, gain), np.where(var_b < tiny, 0, rest)
    rest = np.where(gain < 0, var_b, rest)
    gain = np.maximum(gain, 0)
    rest = np.maximum(rest, tiny)
    kept = np.log10(1 + gain**2 * var_a / (rest + noise)).sum()
    held = np.log10(1 + var_a / noise).sum()
    return float(kept), float(held)
