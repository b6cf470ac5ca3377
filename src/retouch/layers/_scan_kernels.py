# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""CPU kernels of the selective scan and of the causal convolution before it, compiled by numba.

Channels lie innermost, so one machine vector holds neighbouring channels and nothing is transposed.
A tile of steps stays in the nearest cache while the 16 states pass over it, four at a time. The
exponential is a polynomial, because a library call cannot become vector code: that is what makes
this as fast as C. Only float32 comes here; what is computed is told in `selective_scan.py`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numba import njit
from torch import Tensor

from retouch.layers.selective_scan import TILE

_WIDTH = 96  # channels of one tile at most: three rows of it fill half of a 48 kB cache

# No care for NaN, infinity and -0, fused multiply-adds, but no reordering: the rounding in `_exp2`
# must survive. Only sums over channels (`_dot`) may be reordered. A check for division by zero
# would keep a loop from becoming vector code, so there is none ("numpy").
_STRICT = {"contract", "nnan", "ninf", "nsz"}
_inner = njit(fastmath=_STRICT, error_model="numpy")

_ZERO, _ONE, _TWO = (np.float32(v) for v in (0, 1, 2))
_LOG2E = np.float32(np.log2(np.e))
_ROUND = np.float32(1.5 * 2**23)  # added to z, it leaves round(z) in the lowest bits
_LEAST, _MOST = np.float32(-126), np.float32(126)
_EXPONENT = np.int32(23)
# (2^f - 1) / f on [-1/2, 1/2], Chebyshev fit: 2^f to 5.2e-9.
_E0, _E1, _E2, _E3, _E4, _E5 = np.array(
    [0.693147188, 0.240226509, 5.55035710e-2, 9.61805667e-3, 1.33908674e-3, 1.54614475e-4]
).astype(np.float32)
# (atanh(s) / s - 1) / s^2 as a polynomial in s^2 on [0, 1/9], Chebyshev fit: atanh to 1.5e-8.
_L0, _L1, _L2, _L3 = np.array([0.3333332, 0.20003835, 0.14116978, 0.13433777]).astype(np.float32)


def _kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile an outermost loop, which runs without Python's lock, and keep the machine code."""
    try:
        return njit(fastmath=_STRICT, error_model="numpy", nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache may files be written
        return njit(fastmath=_STRICT, error_model="numpy", nogil=True)(function)


@_inner
def _exp2(z):
    """2^z for z <= 126; z below -126 counts as -126."""
    z = max(z, _LEAST)
    shifted = np.float32(z + _ROUND)
    f = z - (shifted - _ROUND)
    p = ((((_E5 * f + _E4) * f + _E3) * f + _E2) * f + _E1) * f + _E0
    bits = np.float32(p * f + _ONE).view(np.int32)
    return np.int32(bits + (shifted.view(np.int32) << _EXPONENT)).view(np.float32)


@_inner
def _softplus(v):
    """log(1 + e^v), as max(v, 0) + log1p(u) with u = e^-|v| and log1p(u) = 2 atanh(u / (2 + u))."""
    u = _exp2(-abs(v) * _LOG2E)
    s = u / (_TWO + u)
    q = s * s
    return max(v, _ZERO) + _TWO * s * (_ONE + q * (((_L3 * q + _L2) * q + _L1) * q + _L0))


@_inner
def _sigmoid(v):
    return _ONE / (_ONE + _exp2(min(-v * _LOG2E, _MOST)))


@njit(fastmath={*_STRICT, "reassoc"})
def _dot(x, y):
    total = _ZERO
    for j in range(len(x)):
        total += x[j] * y[j]
    return total


@_inner
def _scratch(width):
    return np.empty((TILE, width), np.float32)


@_inner
def _enter(step, drive, total, d, steps):
    """Turn a tile of delta and x into step lengths, what drives the states, what skips them."""
    for t in range(steps):
        for j in range(len(d)):
            s, x = _softplus(step[t, j]), drive[t, j]
            step[t, j] = s
            drive[t, j] = s * x
            total[t, j] = d[j] * x


@_inner
def _pass(tile, n, steps, a, h, b, c):
    """Lead states n to n + 3 through a tile and add what they say to its total."""
    step, drive, total = tile
    a0, a1, a2, a3 = a[n], a[n + 1], a[n + 2], a[n + 3]
    h0, h1, h2, h3 = h[n], h[n + 1], h[n + 2], h[n + 3]
    for t in range(steps):
        b0, b1, b2, b3 = b[t, n], b[t, n + 1], b[t, n + 2], b[t, n + 3]
        c0, c1, c2, c3 = c[t, n], c[t, n + 1], c[t, n + 2], c[t, n + 3]
        for j in range(a.shape[1]):
            s, u = step[t, j], drive[t, j]
            v0 = _exp2(s * a0[j]) * h0[j] + u * b0
            v1 = _exp2(s * a1[j]) * h1[j] + u * b1
            v2 = _exp2(s * a2[j]) * h2[j] + u * b2
            v3 = _exp2(s * a3[j]) * h3[j] + u * b3
            h0[j], h1[j], h2[j], h3[j] = v0, v1, v2, v3
            total[t, j] += (v0 * c0 + v1 * c1) + (v2 * c2 + v3 * c3)


@_kernel
def _scan(operands, order, span, y, states):
    """Scan some channels; `states` receives the state before each tile, unless it is empty."""
    x, delta, a, b, c, d, gate = operands
    first, width = span
    n_states = a.shape[0]
    step, drive, total, z = _scratch(width), _scratch(width), _scratch(width), _scratch(width)
    last = first + width
    decay = a[:, first:last].copy()
    skip = d[first:last]
    h = np.zeros((n_states, width), np.float32)
    for start in range(0, len(order), TILE):
        steps = min(TILE, len(order) - start)
        for t in range(steps):
            step[t] = delta[start + t, first:last]
            drive[t] = x[start + t, first:last]
            z[t] = gate[order[start + t], first:last]
        _enter(step, drive, total, skip, steps)
        if len(states):
            states[start // TILE, :, first:last] = h
        for n in range(0, n_states, 4):
            _pass((step, drive, total), n, steps, decay, h, b[start:], c[start:])
        for t in range(steps):
            row = y[order[start + t], first:last]
            for j in range(width):
                row[j] = total[t, j] * z[t, j] * _sigmoid(z[t, j])


@_inner
def _recall(tile, past, decay, steps, a, b, c):
    """Lead one state through a tile again, keeping its values (`past[t + 1]` after step t)."""
    step, drive, total = tile
    for t in range(steps):
        bt, ct = b[t], c[t]
        for j in range(len(a)):
            e = _exp2(step[t, j] * (a[j] * _LOG2E))
            v = e * past[t, j] + drive[t, j] * bt
            decay[t, j] = e
            past[t + 1, j] = v
            total[t, j] += v * ct


@_inner
def _return(tile, past, decay, steps, a, b, c):
    """Lead one state's gradient back through a tile, from the last step to the first."""
    step, drive, dy, dstep, ddrive, dh, da, db, dc = tile
    for t in range(steps - 1, -1, -1):
        bt, ct = b[t], c[t]
        for j in range(len(a)):
            dh[j] += dy[t, j] * ct
        dc[t] += _dot(dy[t], past[t + 1])
        db[t] += _dot(dh, drive[t])
        for j in range(len(a)):
            g = dh[j]
            ddrive[t, j] += g * bt
            g *= decay[t, j]
            w = g * past[t, j]
            dstep[t, j] += w * a[j]
            da[j] += w * step[t, j]
            dh[j] = g


@_inner
def _leave(rows, tile, t, d, dd):
    """Gradients of one step's inputs, from those of its step length and of what it drives."""
    x, delta, z, dy, dx, ddelta, dgate = rows
    step, total, gy, dstep, ddrive = tile
    for j in range(len(d)):
        s = _sigmoid(z[j])
        dgate[j] = dy[j] * total[t, j] * s * (_ONE + z[j] * (_ONE - s))
        dx[j] = ddrive[t, j] * step[t, j] + d[j] * gy[t, j]
        ddelta[j] = (dstep[t, j] + ddrive[t, j] * x[j]) * _sigmoid(delta[j])
        dd[j] += gy[t, j] * x[j]


@_kernel
def _scan_back(operands, order, span, dy, states, gradients):
    """Gradients of `_scan` for some channels; those of a, b, c and d are added to what is there."""
    x, delta, a, b, c, d, gate = operands
    dx, ddelta, da, db, dc, dd, dgate = gradients
    first, width = span
    last = first + width
    step, drive, total, gy = _scratch(width), _scratch(width), _scratch(width), _scratch(width)
    dstep, ddrive, decay = _scratch(width), _scratch(width), _scratch(width)
    past = np.empty((TILE + 1, width), np.float32)
    dh = np.zeros((a.shape[0], width), np.float32)
    for start in range((len(order) - 1) // TILE * TILE, -1, -TILE):
        steps = min(TILE, len(order) - start)
        dstep[:], ddrive[:] = _ZERO, _ZERO
        for t in range(steps):
            step[t] = delta[start + t, first:last]
            drive[t] = x[start + t, first:last]
            grow, z = dy[order[start + t], first:last], gate[order[start + t], first:last]
            for j in range(width):
                gy[t, j] = grow[j] * z[j] * _sigmoid(z[j])
        _enter(step, drive, total, d[first:last], steps)
        for n in range(a.shape[0]):
            past[0] = states[start // TILE, n, first:last]
            rate, bn, cn = a[n, first:last], b[n, start:], c[n, start:]
            _recall((step, drive, total), past, decay, steps, rate, bn, cn)
            tile = (
                step,
                drive,
                gy,
                dstep,
                ddrive,
                dh[n],
                da[n, first:last],
                db[n, start:],
                dc[n, start:],
            )
            _return(tile, past, decay, steps, rate, bn, cn)
        for t in range(steps):
            p, q = start + t, order[start + t]
            rows = (
                x[p, first:last],
                delta[p, first:last],
                gate[q, first:last],
                dy[q, first:last],
                dx[p, first:last],
                ddelta[p, first:last],
                dgate[q, first:last],
            )
            _leave(rows, (step, total, gy, dstep, ddrive), t, d[first:last], dd[first:last])


@_inner
def _back(x, order, t, width):
    """The pixel visited t steps after the start; before the start there are zeros."""
    return x[order[t]] if t >= 0 else np.zeros(width, np.float32)


@_kernel
def _conv(x, order, taps, bias, span, y):
    """Causal convolution of four taps along the order, then SiLU, for some steps."""
    width = x.shape[1]
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for t in range(span[0], span[0] + span[1]):
        x0, x1 = _back(x, order, t - 3, width), _back(x, order, t - 2, width)
        x2, x3 = _back(x, order, t - 1, width), x[order[t]]
        row = y[t]
        for j in range(width):
            v = bias[j] + (w0[j] * x0[j] + w1[j] * x1[j]) + (w2[j] * x2[j] + w3[j] * x3[j])
            row[j] = v * _sigmoid(v)


@_kernel
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
            s = _sigmoid(g[j])
            g[j] = dyt[j] * s * (_ONE + g[j] * (_ONE - s))
            db[j] += g[j]
        for k in range(max(0, 3 - t), 4):
            place = order[t - 3 + k]
            xk, w = x[place, first:last], taps[k, first:last]
            dxk, dw = dx[place, first:last], dtaps[k, first:last]
            for j in range(width):
                dxk[j] += w[j] * g[j]
                dw[j] += g[j] * xk[j]


def _spans(length: int, longest: int) -> list[tuple[int, int]]:
    """Cut a length into parts (start, length), at least one for each of torch's threads."""
    parts = max(-(-length // longest), min(torch.get_num_threads(), length))
    size = -(-length // parts)
    return [(start, min(size, length - start)) for start in range(0, length, size)]


def _run(jobs: list[Callable[[], None]]) -> None:
    """Run jobs on as many threads as torch uses; the kernels leave Python's lock."""
    threads = min(torch.get_num_threads(), len(jobs))
    if threads == 1:
        for job in jobs:
            job()
        return
    with ThreadPoolExecutor(threads) as pool:
        for result in [pool.submit(job) for job in jobs]:
            result.result()


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def scan(operands: list[Tensor], order: Tensor, *, keep: bool) -> tuple[Tensor, Tensor]:
    """Run the scan on x, delta, a, b, c, d, gate of `selective_scan`, float32 on the CPU.

    Returns:
        y (b, l, d), and the states before each tile (b, tiles, n, d), no tiles unless to `keep`.
    """
    x, delta, a, b, c, d, gate = operands
    batch, length, channels = x.shape
    y = torch.empty_like(gate, memory_format=torch.contiguous_format)
    tiles = -(-length // TILE) if keep else 0
    states = x.new_empty(batch, tiles, a.shape[1], channels)
    walk, rates, skip = _arrays(order, a.t() * float(_LOG2E), d)
    jobs: list[Callable[[], None]] = []
    for i in range(batch):
        xi, di, bi, ci, zi, yi, si = _arrays(x[i], delta[i], b[i], c[i], gate[i], y[i], states[i])
        for span in _spans(channels, _WIDTH):
            jobs.append(partial(_scan, (xi, di, rates, bi, ci, skip, zi), walk, span, yi, si))
    _run(jobs)
    return y, states


def scan_backward(
    dy: Tensor, operands: list[Tensor], order: Tensor, states: Tensor
) -> list[Tensor]:
    """Gradients of `scan` with respect to its operands, in their order."""
    x, delta, a, b, c, d, gate = operands
    spans = _spans(x.shape[2], _WIDTH)
    dx, ddelta, dgate = (torch.empty(x.shape) for _ in range(3))
    # Summed over the batch and, for b and c, over the spans: each job has its own.
    da, dd = torch.zeros(len(x), *a.t().shape), torch.zeros(len(x), *d.shape)
    db, dc = (torch.zeros(len(x), len(spans), b.shape[2], b.shape[1]) for _ in range(2))
    walk, rates, skip = _arrays(order, a.t(), d)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        xi, di, zi, bi, ci = _arrays(x[i], delta[i], gate[i], b[i].t(), c[i].t())
        gi, si, dxi, ddi, dgi, dai, ddd = _arrays(
            dy[i], states[i], dx[i], ddelta[i], dgate[i], da[i], dd[i]
        )
        for k, span in enumerate(spans):
            dbi, dci = _arrays(db[i, k], dc[i, k])
            results = (dxi, ddi, dai, dbi, dci, ddd, dgi)
            jobs.append(
                partial(_scan_back, (xi, di, rates, bi, ci, skip, zi), walk, span, gi, si, results)
            )
    _run(jobs)
    db, dc = (g.sum(1).transpose(1, 2) for g in (db, dc))
    return [
        dx,
        ddelta,
        da.sum(0).t().contiguous(),
        db.contiguous(),
        dc.contiguous(),
        dd.sum(0),
        dgate,
    ]


def conv(x: Tensor, taps: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Run the causal convolution of `causal_conv`; all float32 on the CPU."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    walk, weights, offsets = _arrays(order, taps.t(), bias)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        xi, yi = _arrays(x[i], y[i])
        for span in _spans(len(walk), len(walk)):
            jobs.append(partial(_conv, xi, walk, weights, offsets, span, yi))
    _run(jobs)
    return y


def conv_backward(dy: Tensor, operands: list[Tensor], order: Tensor) -> list[Tensor]:
    """Gradients of `conv` with respect to x, taps and bias."""
    x, taps, bias = operands
    dx = torch.zeros(x.shape)
    dtaps, dbias = torch.zeros(len(x), *taps.t().shape), torch.zeros(len(x), *bias.shape)
    walk, weights, offsets = _arrays(order, taps.t(), bias)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        xi, gi, dxi, dti, dbi = _arrays(x[i], dy[i], dx[i], dtaps[i], dbias[i])
        for span in _spans(x.shape[2], x.shape[2]):
            jobs.append(
                partial(_conv_back, (xi, weights, offsets), walk, span, gi, (dxi, dti, dbi))
            )
    _run(jobs)
    return [dx, dtaps.sum(0).t().contiguous(), dbias.sum(0)]
