# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""CPU kernels of the causal convolution, compiled by numba; see `selective_scan.causal_conv`."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from retouch.layers._compiled import (
    ONE,
    arrays,
    bits,
    form_of,
    inner,
    kernel,
    narrow,
    run,
    sigmoid,
    spans,
    widen,
)


@inner
def _back(x, order, t, width):
    """The pixel visited t steps after the start; before the start there are zeros."""
    return x[order[t]] if t >= 0 else np.zeros(width, x.dtype)


@kernel
def _conv(x, order, taps, bias, span, y, form):
    """Causal convolution of four taps along the order, then SiLU, for some steps; x, y are bits."""
    width = x.shape[1]
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for t in range(span[0], span[0] + span[1]):
        x0, x1 = _back(x, order, t - 3, width), _back(x, order, t - 2, width)
        x2, x3 = _back(x, order, t - 1, width), x[order[t]]
        row = y[t]
        for j in range(width):
            v0, v1 = widen(x0[j], form), widen(x1[j], form)
            v2, v3 = widen(x2[j], form), widen(x3[j], form)
            v = bias[j] + (w0[j] * v0 + w1[j] * v1) + (w2[j] * v2 + w3[j] * v3)
            row[j] = narrow(v * sigmoid(v), form)


@kernel
def _conv_back(operands, order, span, dy, gradients):
    """Gradients of `_conv` for some channels, added to what is there."""
    x, taps, bias = operands
    dx, dtaps, dbias = gradients
    first, width = span
    last = first + width
    g = np.empty(width, np.float32)
    for t in range(len(order)):
        g[:] = bias[first:last]
        for k in range(max(0, 3 - t), 4):
            xk, w = x[order[t - 3 + k], first:last], taps[k, first:last]
            for j in range(width):
                g[j] += w[j] * xk[j]
        dyt, db = dy[t, first:last], dbias[first:last]
        for j in range(width):
            s = sigmoid(g[j])
            g[j] = dyt[j] * s * (ONE + g[j] * (ONE - s))
            db[j] += g[j]
        for k in range(max(0, 3 - t), 4):
            place = order[t - 3 + k]
            xk, w = x[place, first:last], taps[k, first:last]
            dxk, dw = dx[place, first:last], dtaps[k, first:last]
            for j in range(width):
                dxk[j] += w[j] * g[j]
                dw[j] += g[j] * xk[j]


def conv(x: Tensor, taps: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Run the causal convolution of `causal_conv` on the CPU; x is float32 or bf16, and so is y."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    walk, weights, offsets = arrays(order, taps.t(), bias)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        xi, yi = bits(x[i], y[i])
        for span in spans(len(walk), len(walk)):
            jobs.append(partial(_conv, xi, walk, weights, offsets, span, yi, form_of(x.dtype)))
    run(jobs)
    return y


def conv_backward(dy: Tensor, operands: list[Tensor], order: Tensor) -> list[Tensor]:
    """Gradients of `conv` with respect to x, taps and bias."""
    x, taps, bias = operands
    dx = torch.zeros(x.shape)
    dtaps, dbias = torch.zeros(len(x), *taps.t().shape), torch.zeros(len(x), *bias.shape)
    walk, weights, offsets = arrays(order, taps.t(), bias)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        xi, gi, dxi, dti, dbi = arrays(x[i], dy[i], dx[i], dtaps[i], dbias[i])
        for span in spans(x.shape[2], x.shape[2]):
            jobs.append(
                partial(_conv_back, (xi, weights, offsets), walk, span, gi, (dxi, dti, dbi))
            )
    run(jobs)
    return [dx, dtaps.sum(0).t().contiguous(), dbias.sum(0)]
