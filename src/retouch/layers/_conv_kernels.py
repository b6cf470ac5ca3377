# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""CPU kernels of the causal convolution, compiled by numba; see `selective_scan.causal_conv`."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from retouch.layers._compiled import (
    ONE,
    ZERO,
    arrays,
    bits,
    form_of,
    inner,
    kernel,
    load,
    narrow,
    run,
    sigmoid,
    spans,
    store,
    widen,
)


@inner
def _back(x, past, order, t):
    """The pixel visited t steps after the start; before the start there are three in `past`."""
    return x[order[t]] if t >= 0 else past[t + 3]


@kernel
def _conv(x, past, order, taps, bias, span, y, form):
    """Causal convolution of four taps along the order, then SiLU, for some steps.

    x, past and y are bits.
    """
    width = x.shape[1]
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for t in range(span[0], span[0] + span[1]):
        x0, x1 = _back(x, past, order, t - 3), _back(x, past, order, t - 2)
        x2, x3 = _back(x, past, order, t - 1), x[order[t]]
        row = y[t]
        for j in range(width):
            v0, v1 = widen(x0[j], form), widen(x1[j], form)
            v2, v3 = widen(x2[j], form), widen(x3[j], form)
            v = bias[j] + (w0[j] * v0 + w1[j] * v1) + (w2[j] * v2 + w3[j] * v3)
            row[j] = narrow(v * sigmoid(v), form)


# The way back takes tiles of steps, from the last to the first, in one flat array (why, is told in
# `_scan_kernels.py`): three rows of x from before the tile and the tile's own, then the gradients
# of the sums before SiLU, of the tile and of the three steps after it.
_TILE, _WIDTH, _LANES = 32, 96, 8
_ROWS = _TILE + 3


@inner
def _x_at(t):
    """Place of the row of x three steps before step t of the tile."""
    return np.uint64(t * _WIDTH)


@inner
def _g_at(t):
    return np.uint64((_ROWS + 2 + t) * _WIDTH)


@inner
def _through_silu(w, taps, bias, steps, lanes):
    for t in range(steps):
        x0, x1, x2, x3, g = _x_at(t), _x_at(t + 1), _x_at(t + 2), _x_at(t + 3), _g_at(t)
        for j in range(lanes):
            v = bias[j] + (taps[0, j] * w[x0 + j] + taps[1, j] * w[x1 + j])
            v += taps[2, j] * w[x2 + j] + taps[3, j] * w[x3 + j]
            s = sigmoid(v)
            w[g + j] *= s * (ONE + v * (ONE - s))


@inner
def _of_taps(w, dtaps, dbias, steps, lanes):
    d0, d1, d2, d3 = dtaps[0], dtaps[1], dtaps[2], dtaps[3]
    for t in range(steps):
        x0, x1, x2, x3, g = _x_at(t), _x_at(t + 1), _x_at(t + 2), _x_at(t + 3), _g_at(t)
        for j in range(lanes):
            d0[j] += w[g + j] * w[x0 + j]
            d1[j] += w[g + j] * w[x1 + j]
        for j in range(lanes):
            d2[j] += w[g + j] * w[x2 + j]
            d3[j] += w[g + j] * w[x3 + j]
            dbias[j] += w[g + j]


@inner
def _of_x(w, taps, steps, lanes):
    """Put the gradients of x where x was, three rows earlier."""
    for t in range(steps):
        x, g0, g1, g2, g3 = _x_at(t), _g_at(t), _g_at(t + 1), _g_at(t + 2), _g_at(t + 3)
        for j in range(lanes):
            late = taps[3, j] * w[g0 + j] + taps[2, j] * w[g1 + j]
            w[x + j] = late + (taps[1, j] * w[g2 + j] + taps[0, j] * w[g3 + j])


@kernel
def _conv_back(operands, order, span, dy, gradients, form):
    """Gradients of `_conv` for some channels; x, dy and dx are bits, the others are added to."""
    x, taps, bias = operands
    dx, dtaps, dbias = gradients
    first, width = span
    last = first + width
    lanes = np.uint64((width + _LANES - 1) // _LANES * _LANES)  # those beyond the width are zeros
    w = np.zeros((2 * _ROWS + 2) * _WIDTH, np.float32)
    own_taps, own_dtaps = np.zeros((4, lanes), np.float32), np.zeros((4, lanes), np.float32)
    own_bias, own_dbias = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    own_taps[:, :width], own_bias[:width] = taps[:, first:last], bias[first:last]
    for start in range((len(order) - 1) // _TILE * _TILE, -1, -_TILE):
        steps = min(_TILE, len(order) - start)
        for t in range(-3, steps):
            if start + t >= 0:
                load(x[order[start + t], first:last], w[_x_at(t + 3) :], form)
            else:
                w[_x_at(t + 3) : _x_at(t + 4)] = ZERO
        for t in range(steps):
            load(dy[start + t, first:last], w[_g_at(t) :], form)
        _through_silu(w, own_taps, own_bias, steps, lanes)
        _of_taps(w, own_dtaps, own_dbias, steps, lanes)
        _of_x(w, own_taps, steps, lanes)
        for t in range(steps):
            store(w, _x_at(t), dx[order[start + t], first:last], form)
        w[_g_at(_TILE) : _g_at(_TILE + 3)] = w[_g_at(0) : _g_at(3)]
    dtaps[:, first:last] += own_dtaps[:, :width]
    dbias[first:last] += own_dbias[:width]


def conv(
    x: Tensor, taps: Tensor, bias: Tensor, order: Tensor, past: Tensor | None = None
) -> Tensor:
    """Run the causal convolution of `causal_conv` on the CPU.

    x is float32 or bf16, and so are y and what was before, `past` (b, 3, d): without it zeros.
    """
    past = x.new_zeros(len(x), 3, x.shape[2]) if past is None else past
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    walk, weights, offsets = arrays(order, taps.t(), bias)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        xi, pi, yi = bits(x[i], past[i], y[i])
        for span in spans(len(walk), len(walk)):
            jobs.append(partial(_conv, xi, pi, walk, weights, offsets, span, yi, form_of(x.dtype)))
    run(jobs)
    return y


def conv_backward(dy: Tensor, operands: list[Tensor], order: Tensor) -> list[Tensor]:
    """Gradients of `conv` with respect to x, taps and bias; dy and dx are of the dtype of x."""
    x, taps, bias = operands
    dx = torch.empty(x.shape, dtype=x.dtype)
    dtaps, dbias = torch.zeros(len(x), *taps.t().shape), torch.zeros(len(x), *bias.shape)
    walk, weights, offsets = arrays(order, taps.t(), bias)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        (xi, gi, dxi), (dti, dbi) = bits(x[i], dy[i], dx[i]), arrays(dtaps[i], dbias[i])
        inputs, results = (xi, weights, offsets), (dxi, dti, dbi)
        for span in spans(x.shape[2], _WIDTH):
            jobs.append(partial(_conv_back, inputs, walk, span, gi, results, form_of(x.dtype)))
    run(jobs)
    return [dx, dtaps.sum(0).t().contiguous(), dbias.sum(0)]
