"""Structure targets of a picture: Canny edges and Sobel gradients, with or without a hole.

With a hole both are leak-free: a value is computed from known pixels alone, or it is 0. Canny
(Canny 1986, "A Computational Approach to Edge Detection", IEEE PAMI 8(6)) equals scikit-image's
`feature.canny`, which the structure network's authors used, pixel for pixel: smoothing normalised
at borders, Sobel magnitudes, suppression along the interpolated gradient direction, hysteresis over
8-connected edges. It needs NumPy and SciPy only.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from retouch.data import _edges_graph

__all__ = ["GRAY", "canny", "edges", "sobel"]

GRAY = (0.2125, 0.7154, 0.0721)
"""Luminance of linear RGB (ITU-R BT.709, as scikit-image's `rgb2gray` rounds it)."""

_NEIGHBORS = np.ones((1, 3, 3), dtype=bool)  # of one picture of a stack


def canny(
    gray: NDArray[np.floating],
    *,
    sigma: float = 1.5,
    low: float = 0.1,
    high: float = 0.2,
    known: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Find thin edges.

    Args:
        gray: (n, h, w) grey pictures, each on its own; computed in float64.
        sigma: Width of the Gaussian [px].
        low: Weakest Sobel magnitude of an edge (a ramp of 1 per pixel has 8).
        high: Magnitude that one pixel of every connected edge must reach.
        known: (n, h, w), False where a pixel must not count. Nothing leaks: the result does not
            depend on unknown values, and no edge lies on or beside an unknown pixel.

    Returns:
        (n, h, w), True on edges; the outermost ring is always False.

    Raises:
        ValueError: If the shapes do not fit, or `low` is above `high`.

    >>> picture = np.zeros((1, 9, 9))
    >>> picture[:, :, 4], picture[:, :, 5:] = 0.7, 1
    >>> canny(picture)[0, 4].astype(int).tolist()
    [0, 0, 0, 0, 1, 0, 0, 0, 0]
    """
    if gray.ndim != 3 or (known is not None and known.shape != gray.shape):
        shape = None if known is None else known.shape
        raise ValueError(f"gray and known must be (n, h, w), got {gray.shape} and {shape}")
    if not 0 <= low <= high:
        raise ValueError(f"low and high must satisfy 0 <= low <= high, got {low} and {high}")
    if known is None:
        known = np.ones(gray.shape, dtype=bool)
    smooth = _smooth(np.where(known, gray, 0).astype(np.float64), known, sigma)
    down, right = _slope(smooth, axis=1), _slope(smooth, axis=2)
    magnitude = np.sqrt(down * down + right * right)
    # Outside the picture counts as unknown.
    inner = np.asarray(ndimage.binary_erosion(known, _NEIGHBORS), dtype=bool)
    thin = _thin(down, right, magnitude, inner & (magnitude >= low) & (magnitude > 0))
    labels = np.empty(thin.shape, np.int32)
    ndimage.label(thin, np.pad(_NEIGHBORS, ((1, 1), (0, 0), (0, 0))), output=labels)
    strong = np.zeros(labels.max(initial=0) + 1, dtype=bool)
    strong[labels[thin & (magnitude >= high)]] = True
    strong[0] = False  # background
    return strong[labels]


def _smooth(
    gray: NDArray[np.float64], known: NDArray[np.bool_], sigma: float
) -> NDArray[np.float64]:
    """Gaussian mean of the known pixels within 4 sigma; unknown ones must be 0."""
    widths = (0, sigma, sigma)
    weight = ndimage.gaussian_filter(known.astype(np.float64), widths, mode="constant")
    smooth = ndimage.gaussian_filter(gray, widths, mode="constant")
    return smooth / (weight + np.finfo(np.float64).eps)


def _slope(smooth: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Sobel derivative along `axis`; the border repeats."""
    derivative = ndimage.correlate1d(smooth, (-1, 0, 1), axis=axis)
    return ndimage.correlate1d(derivative, (1, 2, 1), axis=3 - axis)


def _thin(
    down: NDArray[np.float64],
    right: NDArray[np.float64],
    magnitude: NDArray[np.float64],
    candidates: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Keep candidates that no neighbour along the gradient exceeds.

    The neighbour is interpolated between the straight and the diagonal pixel that enclose the
    direction. Candidates must not touch the picture's border.
    """
    n, y, x = np.nonzero(candidates)
    dy, dx, center = down[n, y, x], right[n, y, x], magnitude[n, y, x]
    steep = np.abs(dy) > np.abs(dx)
    opposed = dy * dx < 0
    steep |= opposed & (np.abs(dy) == np.abs(dx))
    share = np.minimum(np.abs(dy), np.abs(dx)) / np.maximum(np.abs(dy), np.abs(dx))
    # Towards larger x where the gradient is flat, else towards the y that lies on the same side.
    side = np.where(opposed, -1, 1)
    straight_y, straight_x = np.where(steep, side, 0), np.where(steep, 0, 1)
    keep = np.ones(len(n), dtype=bool)
    for sign in (1, -1):
        diagonal = magnitude[n, y + sign * side, x + sign]
        straight = magnitude[n, y + sign * straight_y, x + sign * straight_x]
        keep &= diagonal * share + straight * (1 - share) <= center
    thin = np.zeros_like(candidates)
    thin[n[keep], y[keep], x[keep]] = True
    return thin


def edges(image: Tensor, mask: Tensor | None = None, *, sigma: float = 1.5) -> Tensor:
    """Canny edges of a batch; no gradient flows through.

    Args:
        image: (b, 3, h, w) RGB in [0, 1] (thresholds are 0.1 and 0.2 of that range).
        mask: (b, 1, h, w), 1 = hole, which is then ignored as if it were beyond the border; None
            looks at the whole picture.
        sigma: Width of the Gaussian [px].

    Returns:
        (b, 1, h, w), 1 on edges, else 0, of the image's dtype and on its device.
    """
    if torch.onnx.is_in_onnx_export():
        return _edges_in_graph(image, mask, sigma)
    return _edges(image.detach(), mask, sigma)


def _edges_in_graph(image: Tensor, mask: Tensor | None, sigma: float) -> Tensor:
    parts = [weight * image[:, i].to(torch.float64) for i, weight in enumerate(GRAY)]
    gray = parts[0] + parts[1] + parts[2]
    known = torch.ones_like(gray, dtype=torch.bool) if mask is None else mask[:, 0] < 0.5
    return _edges_graph.canny(gray, known, sigma=sigma)[:, None].to(image.dtype)


@torch.library.custom_op(
    "retouch::canny", mutates_args=()
)  # compilers call it, and look no further
def _edges(image: Tensor, mask: Tensor | None, sigma: float) -> Tensor:
    gray = np.tensordot(image.to("cpu", torch.float64).numpy(), np.asarray(GRAY), axes=(1, 0))
    known = None if mask is None else mask[:, 0].cpu().numpy() < 0.5
    found = canny(gray, sigma=sigma, known=known)  # (b, h, w)
    return torch.from_numpy(found)[:, None].to(image.device, image.dtype)


@_edges.register_fake
def _(image: Tensor, mask: Tensor | None, sigma: float) -> Tensor:
    return torch.empty_like(image[:, :1])


def sobel(image: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sobel gradients, un-normalised: a ramp of 1 per pixel gives 8.

    Args:
        image: (b, c, h, w), h and w at least 2; the border is reflected without its own pixel.
        mask: (b, 1, h, w), 1 = hole: a gradient is then 0 where its 3x3 window touches the hole.

    Returns:
        (b, 2c, h, w): for each channel the derivative downwards, then to the right.

    >>> ramp = torch.arange(4.0).expand(1, 1, 3, 4)
    >>> sobel(ramp)[0, :, 1].abs().tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 8.0, 8.0, 0.0]]
    """
    if mask is not None:
        image = image.masked_fill(mask > 0, 0)
    # Slices, not a convolution: exact under autocast, too.
    padded = functional.pad(image, (1, 1, 1, 1), mode="reflect")  # (b, c, h+2, w+2)
    rows = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    columns = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    down = rows[..., 2:, :] - rows[..., :-2, :]
    right = columns[..., 2:] - columns[..., :-2]
    gradient = torch.stack([down, right], dim=2).flatten(1, 2)  # (b, 2c, h, w)
    if mask is None:
        return gradient
    touched = functional.max_pool2d(mask, 3, stride=1, padding=1)
    return gradient.masked_fill(touched > 0, 0)
