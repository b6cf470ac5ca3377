# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""CPU kernels of the selective scan; what they compute is told in `selective_scan.py`.

Channels lie innermost, so one machine vector holds neighbouring channels and nothing is transposed.
A tile of steps stays in the nearest cache while the 16 states pass over it, four at a time.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from retouch.layers._compiled import (
    LOG2E,
    ONE,
    ZERO,
    arrays,
    bits,
    copy,
    exp2,
    form_of,
    inner,
    kernel,
    load,
    narrow,
    run,
    sigmoid,
    softplus,
    spans,
    summing,
)
from retouch.layers.selective_scan import TILE

_WIDTH = 96  # channels of one tile at most: three rows of it fill half of a 48 kB cache


@inner
def _scratch(width):
    return np.empty((TILE, width), np.float32)


@inner
def _enter(step, drive, total, d, steps):
    """Turn a tile of delta and x into step lengths, what drives the states, what skips them."""
    for t in range(steps):
        for j in range(len(d)):
            s, x = softplus(step[t, j]), drive[t, j]
            step[t, j] = s
            drive[t, j] = s * x
            total[t, j] = d[j] * x


@inner
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
            v0 = exp2(s * a0[j]) * h0[j] + u * b0
            v1 = exp2(s * a1[j]) * h1[j] + u * b1
            v2 = exp2(s * a2[j]) * h2[j] + u * b2
            v3 = exp2(s * a3[j]) * h3[j] + u * b3
            h0[j], h1[j], h2[j], h3[j] = v0, v1, v2, v3
            total[t, j] += (v0 * c0 + v1 * c1) + (v2 * c2 + v3 * c3)


@kernel
def _scan(operands, order, span, y, states, form):
    """Scan some channels; `states` receives the state before each tile, unless it is empty.

    x, delta, gate and y are bits in one form: what is kept in bf16 is widened and rounded here.
    """
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
            load(delta[start + t, first:last], step[t], form)
            load(x[start + t, first:last], drive[t], form)
            load(gate[order[start + t], first:last], z[t], form)
        _enter(step, drive, total, skip, steps)
        if len(states):
            states[start // TILE, :, first:last] = h
        for n in range(0, n_states, 4):
            _pass((step, drive, total), n, steps, decay, h, b[start:], c[start:])
        for t in range(steps):
            row = y[order[start + t], first:last]
            for j in range(width):
                row[j] = narrow(total[t, j] * z[t, j] * sigmoid(z[t, j]), form)


# A loop that writes to several arrays becomes vector code only if they surely do not overlap. So
# the way back keeps its tile in one array of fixed shape, whose planes are these. It takes two
# states at a time; what belongs to one of them has two planes or rows, n and n + 1.
_STEP, _DRIVE, _TOTAL, _GY, _DSTEP, _DDRIVE, _Z, _DY, _ROWS = range(9)
_PAST, _DECAY, _PLANES = 9, 11, 13
_A, _RATE, _H, _DH, _DA = range(0, 10, 2)  # rows of the plane _ROWS


@summing
def _recall(w, steps, width, b, c, dc):
    """Lead two states through a tile again; their past at t is what they were before step t."""
    for t in range(steps):
        b0, b1, c0, c1 = b[0, t], b[1, t], c[0, t], c[1, t]
        said0, said1 = ZERO, ZERO
        for j in range(width):
            s, u, gy = w[_STEP, t, j], w[_DRIVE, t, j], w[_GY, t, j]
            e0, e1 = exp2(s * w[_ROWS, _RATE, j]), exp2(s * w[_ROWS, _RATE + 1, j])
            h0, h1 = w[_ROWS, _H, j], w[_ROWS, _H + 1, j]
            w[_PAST, t, j], w[_PAST + 1, t, j] = h0, h1
            w[_DECAY, t, j], w[_DECAY + 1, t, j] = e0, e1
            h0, h1 = e0 * h0 + u * b0, e1 * h1 + u * b1
            w[_ROWS, _H, j], w[_ROWS, _H + 1, j] = h0, h1
            w[_TOTAL, t, j] += h0 * c0 + h1 * c1
            said0 += h0 * gy
            said1 += h1 * gy
        dc[0, t] += said0
        dc[1, t] += said1


@summing
def _return(w, backwards, width, b, c, db):
    """Lead the gradient of two states back through a tile, from the last step to the first."""
    for t in backwards:  # an array: counting down leaves scalar code
        b0, b1, c0, c1 = b[0, t], b[1, t], c[0, t], c[1, t]
        felt0, felt1 = ZERO, ZERO
        for j in range(width):
            s, u, gy = w[_STEP, t, j], w[_DRIVE, t, j], w[_GY, t, j]
            g0, g1 = w[_ROWS, _DH, j] + gy * c0, w[_ROWS, _DH + 1, j] + gy * c1
            felt0 += g0 * u
            felt1 += g1 * u
            w[_DDRIVE, t, j] += g0 * b0 + g1 * b1
            g0, g1 = g0 * w[_DECAY, t, j], g1 * w[_DECAY + 1, t, j]
            w[_ROWS, _DH, j], w[_ROWS, _DH + 1, j] = g0, g1
            g0, g1 = g0 * w[_PAST, t, j], g1 * w[_PAST + 1, t, j]
            w[_DSTEP, t, j] += g0 * w[_ROWS, _A, j] + g1 * w[_ROWS, _A + 1, j]
            w[_ROWS, _DA, j] += g0 * s
            w[_ROWS, _DA + 1, j] += g1 * s
        db[0, t] += felt0
        db[1, t] += felt1


@inner
def _enter_back(w, steps, width, d):
    """Like `_enter`; also turn the result's gradient into that of the total."""
    for t in range(steps):
        for j in range(width):
            s, x, z = softplus(w[_STEP, t, j]), w[_DRIVE, t, j], w[_Z, t, j]
            w[_STEP, t, j] = s
            w[_DRIVE, t, j] = s * x
            w[_TOTAL, t, j] = d[j] * x
            w[_GY, t, j] = w[_DY, t, j] * z * sigmoid(z)
            w[_DSTEP, t, j] = ZERO
            w[_DDRIVE, t, j] = ZERO


@inner
def _leave(w, steps, width, d, dd):
    """Make the gradients of x, delta and gate; x and delta stand in the plane of past and decay."""
    for t in range(steps):
        for j in range(width):
            x, gy, z = w[_PAST, t, j], w[_GY, t, j], w[_Z, t, j]
            s = sigmoid(z)
            w[_Z, t, j] = w[_DY, t, j] * w[_TOTAL, t, j] * s * (ONE + z * (ONE - s))
            g = w[_DDRIVE, t, j]
            w[_DSTEP, t, j] = (w[_DSTEP, t, j] + g * x) * sigmoid(w[_DECAY, t, j])
            w[_DDRIVE, t, j] = g * w[_STEP, t, j] + d[j] * gy
            w[_TOTAL, t, j] = gy * x
        for j in range(width):
            dd[j] += w[_TOTAL, t, j]


@kernel
def _scan_back(operands, order, span, dy, states, gradients):
    """Gradients of `_scan` for some channels; those of a, b, c and d are added to what is there."""
    x, delta, a, b, c, d, gate = operands
    dx, ddelta, da, db, dc, dd, dgate = gradients
    first, width = span
    last = first + width
    # Were a plane a multiple of 4 kB, loads would wait for stores to other planes.
    w = np.empty((_PLANES, TILE + 1, _WIDTH), np.float32)
    dh, rates = np.zeros((a.shape[0], width), np.float32), a[:, first:last] * LOG2E
    for start in range((len(order) - 1) // TILE * TILE, -1, -TILE):
        steps = min(TILE, len(order) - start)
        backwards = np.arange(steps)[::-1].copy()
        for t in range(steps):
            copy(delta[start + t, first:last], w[_STEP, t])
            copy(x[start + t, first:last], w[_DRIVE, t])
            copy(gate[order[start + t], first:last], w[_Z, t])
            copy(dy[order[start + t], first:last], w[_DY, t])
        _enter_back(w, steps, width, d[first:last])
        for n in range(0, a.shape[0], 2):
            for k in range(2):
                copy(a[n + k, first:last], w[_ROWS, _A + k])
                copy(rates[n + k], w[_ROWS, _RATE + k])
                copy(states[start // TILE, n + k, first:last], w[_ROWS, _H + k])
                copy(dh[n + k], w[_ROWS, _DH + k])
                copy(da[n + k, first:last], w[_ROWS, _DA + k])
            bn, cn = b[n : n + 2, start:], c[n : n + 2, start:]
            _recall(w, steps, width, bn, cn, dc[n : n + 2, start:])
            _return(w, backwards, width, bn, cn, db[n : n + 2, start:])
            for k in range(2):
                copy(w[_ROWS, _DH + k, :width], dh[n + k])
                copy(w[_ROWS, _DA + k, :width], da[n + k, first:last])
        for t in range(steps):
            copy(x[start + t, first:last], w[_PAST, t])
            copy(delta[start + t, first:last], w[_DECAY, t])
        _leave(w, steps, width, d[first:last], dd[first:last])
        for t in range(steps):
            copy(w[_DDRIVE, t, :width], dx[start + t, first:last])
            copy(w[_DSTEP, t, :width], ddelta[start + t, first:last])
            copy(w[_Z, t, :width], dgate[order[start + t], first:last])


def scan(operands: list[Tensor], order: Tensor, *, keep: bool) -> tuple[Tensor, Tensor]:
    """Run the scan on x, delta, a, b, c, d, gate of `selective_scan` on the CPU.

    All are float32; without `keep`, x, delta and gate may be bf16 together.

    Returns:
        y (b, l, d) in the dtype of gate, and the states before each tile (b, tiles, n, d), no tiles
        unless to `keep`.
    """
    x, delta, a, b, c, d, gate = operands
    batch, length, channels = x.shape
    y = torch.empty_like(gate, memory_format=torch.contiguous_format)
    tiles = -(-length // TILE) if keep else 0
    states = a.new_empty(batch, tiles, a.shape[1], channels)
    form = form_of(x.dtype)
    walk, rates, skip = arrays(order, a.t() * float(LOG2E), d)
    jobs: list[Callable[[], None]] = []
    for i in range(batch):
        xi, di, zi, yi = bits(x[i], delta[i], gate[i], y[i])
        bi, ci, si = arrays(b[i], c[i], states[i])
        for span in spans(channels, _WIDTH):
            jobs.append(partial(_scan, (xi, di, rates, bi, ci, skip, zi), walk, span, yi, si, form))
    run(jobs)
    return y, states


def scan_backward(
    dy: Tensor, operands: list[Tensor], order: Tensor, states: Tensor
) -> list[Tensor]:
    """Gradients of `scan` with respect to its operands, in their order."""
    x, delta, a, b, c, d, gate = operands
    parts = spans(x.shape[2], _WIDTH)
    dx, ddelta, dgate = (torch.empty(x.shape) for _ in range(3))
    # Summed over the batch and, for b and c, over the spans: each job has its own.
    da, dd = torch.zeros(len(x), *a.t().shape), torch.zeros(len(x), *d.shape)
    db, dc = (torch.zeros(len(x), len(parts), b.shape[2], b.shape[1]) for _ in range(2))
    walk, rates, skip = arrays(order, a.t(), d)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        xi, di, zi, bi, ci = arrays(x[i], delta[i], gate[i], b[i].t(), c[i].t())
        gi, si, dxi, ddi, dgi, dai, ddd = arrays(
            dy[i], states[i], dx[i], ddelta[i], dgate[i], da[i], dd[i]
        )
        for k, span in enumerate(parts):
            dbi, dci = arrays(db[i, k], dc[i, k])
            results = (dxi, ddi, dai, dbi, dci, ddd, dgi)
            jobs.append(
                partial(_scan_back, (xi, di, rates, bi, ci, skip, zi), walk, span, gi, si, results)
            )
    run(jobs)
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
