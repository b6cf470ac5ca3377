"""Canny edges in tensor operations only, for exported graphs; `edges.canny` is what they repeat.

In float64, as there: a picture whose gradients tie would otherwise lose other pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_TRUNCATE = 4.0
"""Where SciPy cuts a Gaussian off [sigma]."""


def canny(
    gray: Tensor, known: Tensor, *, sigma: float = 1.5, low: float = 0.1, high: float = 0.2
) -> Tensor:
    """Find thin edges; arguments and result as for `retouch.data.edges.canny`, as tensors.

    Args:
        gray: (n, h, w).
        known: (n, h, w) bool.
        sigma: Width of the Gaussian [px].
        low: Weakest Sobel magnitude of an edge.
        high: Magnitude that one pixel of every connected edge must reach.

    Returns:
        (n, h, w) bool.
    """
    count = known.to(torch.float64)
    weight = _smooth(count, sigma)
    smooth = _smooth(gray.to(torch.float64) * count, sigma)
    smooth = smooth / (weight + torch.finfo(torch.float64).eps)
    around = _neighbours(functional.pad(smooth[:, None], (1, 1, 1, 1), mode="replicate")[:, 0])
    down = _sobel(around, lambda step, side: (step, side))
    right = _sobel(around, lambda step, side: (side, step))
    magnitude = torch.sqrt(down * down + right * right)
    near = _neighbours(functional.pad(count, (1, 1, 1, 1)))
    inner = torch.stack(list(near.values())).amin(0) > 0  # outside the picture counts as unknown
    thin = inner & (magnitude >= low) & (magnitude > 0) & _peaks(down, right, magnitude)
    return _connected(thin & (magnitude >= high), thin)


def _smooth(x: Tensor, sigma: float) -> Tensor:
    """Gaussian of (n, h, w) with zeros beyond the border."""
    radius = int(_TRUNCATE * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 / (sigma * sigma) * steps**2)
    taps = (taps / taps.sum()).tolist()
    for dim in (1, 2):
        margin = (0, 0, radius, radius) if dim == 1 else (radius, radius)
        padded, length = functional.pad(x, margin), x.shape[dim]
        parts = [tap * padded.narrow(dim, index, length) for index, tap in enumerate(taps)]
        x = torch.stack(parts).sum(0)
    return x


_Around = dict[tuple[int, int], Tensor]
"""What lies so many rows down and columns to the right of each pixel, (n, h, w) each."""


def _neighbours(padded: Tensor) -> _Around:
    """Shift (n, h + 2, w + 2) to the nine neighbours of each pixel."""
    h, w = padded.shape[1] - 2, padded.shape[2] - 2
    steps = (-1, 0, 1)
    return {(y, x): padded.narrow(1, y + 1, h).narrow(2, x + 1, w) for y in steps for x in steps}


def _sobel(around: _Around, place: Callable[[int, int], tuple[int, int]]) -> Tensor:
    slopes = [around[place(1, side)] - around[place(-1, side)] for side in (-1, 0, 1)]
    return slopes[0] + 2 * slopes[1] + slopes[2]


def _peaks(down: Tensor, right: Tensor, magnitude: Tensor) -> Tensor:
    """Pixels that no neighbour along the gradient exceeds, interpolated as in `edges.canny`."""
    steep, opposed = down.abs() > right.abs(), down * right < 0
    steep = steep | (opposed & (down.abs() == right.abs()))
    larger = torch.maximum(down.abs(), right.abs())
    share = torch.minimum(down.abs(), right.abs()) / torch.where(larger > 0, larger, 1)
    near = _neighbours(functional.pad(magnitude, (1, 1, 1, 1)))
    peak = torch.ones_like(steep)
    for sign in (1, -1):
        diagonal = torch.where(opposed, near[-sign, sign], near[sign, sign])
        vertical = torch.where(opposed, near[-sign, 0], near[sign, 0])
        straight = torch.where(steep, vertical, near[0, sign])
        peak = peak & (diagonal * share + straight * (1 - share) <= magnitude)
    return peak


def _connected(seeds: Tensor, within: Tensor) -> Tensor:
    """Grow seeds over 8-connected pixels; a `Loop` in ONNX files."""

    def grown(found: Tensor) -> Tensor:
        wide = functional.max_pool2d(found[:, None], 3, stride=1, padding=1)[:, 0]
        return wide * room

    def spread(found: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        del changed
        before = found
        for _ in range(8):
            found = grown(found)
        return found, (found > before).any()

    def unfinished(found: Tensor, changed: Tensor) -> Tensor:
        del found
        return changed.clone()

    room = within.to(torch.float32)
    state = seeds.to(torch.float32), torch.ones((), dtype=torch.bool, device=seeds.device)
    if torch.onnx.is_in_onnx_export():
        from torch._higher_order_ops.while_loop import while_loop

        found, _ = while_loop(unfinished, spread, state)
        return found > 0
    while unfinished(*state):
        state = spread(*state)
    return state[0] > 0
