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
    store,
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
def _scan(operands, order, span, carried, y, states, form):
    """Scan some channels; `states` receives the state before each tile, unless it is empty.

    `carried` is the state before the first step and becomes that after the last.
    x, delta, gate and y are bits in one form: what is kept in bf16 is widened and rounded here.
    """
    x, delta, a, b, c, d, gate = operands
    first, width = span
    n_states = a.shape[0]
    step, drive, total, z = _scratch(width), _scratch(width), _scratch(width), _scratch(width)
    last = first + width
    decay = a[:, first:last].copy()
    skip = d[first:last]
    h = carried[:, first:last].copy()
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
    carried[:, first:last] = h


# A loop that writes to several arrays becomes vector code only if they surely do not overlap. So
# the way back keeps its tile in one flat array of planes, a row per step, and what a loop reads and
# writes there lies a fixed way apart (places are unsigned: a signed one might count from the end).
# It takes two states at a time, each with a plane of its own in PAST and FLOW. PAST holds the
# state before each step and at last its share in the rate's gradient; FLOW the decay and then, one
# row after the other, the gradient that has come back through it.
_STEP, _DRIVE, _TOTAL, _GY, _DSTEP, _DDRIVE, _Z, _DY, _PAST, _FLOW, _PLANES = (*range(9), 10, 12)
_ROWS = TILE + 5  # rows of planes a multiple of 4 kB apart would wait for each other's stores
_LANES = 8  # the vector code takes so many channels at a time; what is left over would be scalar


@inner
def _row(plane, t):
    """Place of the first channel of a plane's row."""
    return np.uint64((plane * _ROWS + t) * _WIDTH)


@inner
def _pair(plane, t):
    """Places in the planes of the first and of the second state."""
    return _row(plane, t), _row(plane + 1, t)


@inner
def _padded(rows, lanes):
    wide = np.zeros((len(rows), lanes), np.float32)
    wide[:, : rows.shape[1]] = rows
    return wide


@summing
def _recall(w, rates, n, steps, lanes, b, c, dc):
    """Lead states n and n + 1 through a tile again."""
    rate0, rate1 = rates[n], rates[n + 1]
    for t in range(steps):
        b0, b1, c0, c1 = b[n, t], b[n + 1, t], c[n, t], c[n + 1, t]
        said0, said1 = ZERO, ZERO
        step, drive, gy, total = _row(_STEP, t), _row(_DRIVE, t), _row(_GY, t), _row(_TOTAL, t)
        (past0, past1), (flow0, flow1) = _pair(_PAST, t), _pair(_FLOW, t)
        next0, next1 = _pair(_PAST, t + 1)
        for j in range(lanes):
            s, u, g = w[step + j], w[drive + j], w[gy + j]
            e0, e1 = exp2(s * rate0[j]), exp2(s * rate1[j])
            h0, h1 = e0 * w[past0 + j] + u * b0, e1 * w[past1 + j] + u * b1
            w[flow0 + j], w[flow1 + j], w[next0 + j], w[next1 + j] = e0, e1, h0, h1
            w[total + j] += h0 * c0 + h1 * c1
            said0 += h0 * g
            said1 += h1 * g
        dc[n, t] += said0
        dc[n + 1, t] += said1


@summing
def _return(w, n, steps, lanes, b, c, db):
    """Lead the gradient of states n and n + 1 back through a tile, from its last step."""
    for i in range(steps):
        t = steps - 1 - i
        b0, b1, c0, c1 = b[n, t], b[n + 1, t], c[n, t], c[n + 1, t]
        felt0, felt1 = ZERO, ZERO
        drive, gy, ddrive = _row(_DRIVE, t), _row(_GY, t), _row(_DDRIVE, t)
        (past0, past1), (flow0, flow1) = _pair(_PAST, t), _pair(_FLOW, t)
        next0, next1 = _pair(_FLOW, t + 1)
        for j in range(lanes):
            u, g = w[drive + j], w[gy + j]
            g0, g1 = w[next0 + j] + g * c0, w[next1 + j] + g * c1
            felt0 += g0 * u
            felt1 += g1 * u
            w[ddrive + j] += g0 * b0 + g1 * b1
            g0, g1 = g0 * w[flow0 + j], g1 * w[flow1 + j]
            w[flow0 + j], w[flow1 + j] = g0, g1
            w[past0 + j] *= g0
            w[past1 + j] *= g1
        db[n, t] += felt0
        db[n + 1, t] += felt1


@inner
def _rate(w, a, da, n, steps, lanes):
    """Take the gradients of decays apart into those of step lengths and of rates n and n + 1."""
    a0, a1, da0, da1 = a[n], a[n + 1], da[n], da[n + 1]
    for t in range(steps):
        step, dstep = _row(_STEP, t), _row(_DSTEP, t)
        past0, past1 = _pair(_PAST, t)
        for j in range(lanes):
            s, g0, g1 = w[step + j], w[past0 + j], w[past1 + j]
            w[dstep + j] += g0 * a0[j] + g1 * a1[j]
            da0[j] += g0 * s
            da1[j] += g1 * s


@inner
def _enter_back(w, steps, lanes, d):
    """Like `_enter`; also turn the result's gradient into that of the total."""
    for t in range(steps):
        step, drive, total, gy = _row(_STEP, t), _row(_DRIVE, t), _row(_TOTAL, t), _row(_GY, t)
        gate, dy, dstep, ddrive = _row(_Z, t), _row(_DY, t), _row(_DSTEP, t), _row(_DDRIVE, t)
        for j in range(lanes):
            s, x, z = softplus(w[step + j]), w[drive + j], w[gate + j]
            w[step + j] = s
            w[drive + j] = s * x
            w[total + j] = d[j] * x
            w[gy + j] = w[dy + j] * z * sigmoid(z)
            w[dstep + j] = ZERO
            w[ddrive + j] = ZERO


@inner
def _leave(w, steps, lanes, d, dd):
    """Make the gradients of x, delta and gate; x and delta stand in the planes of two states."""
    for t in range(steps):
        step, drive, total, gy = _row(_STEP, t), _row(_DRIVE, t), _row(_TOTAL, t), _row(_GY, t)
        gate, dy, dstep, ddrive = _row(_Z, t), _row(_DY, t), _row(_DSTEP, t), _row(_DDRIVE, t)
        own_x, delta = _row(_PAST, t), _row(_FLOW, t)
        for j in range(lanes):
            x, g, z = w[own_x + j], w[gy + j], w[gate + j]
            s = sigmoid(z)
            w[gate + j] = w[dy + j] * w[total + j] * s * (ONE + z * (ONE - s))
            felt = w[ddrive + j]
            w[dstep + j] = (w[dstep + j] + felt * x) * sigmoid(w[delta + j])
            w[ddrive + j] = felt * w[step + j] + d[j] * g
            w[drive + j] = g * x
        for j in range(lanes):
            dd[j] += w[drive + j]


@kernel
def _scan_back(operands, order, span, dy, states, gradients, form):
    """Gradients of `_scan` for some channels; those of a, b, c and d are added to what is there.

    x, delta, gate, dy and the gradients of the first three are bits in one form.
    """
    x, delta, a, b, c, d, gate = operands
    dx, ddelta, da, db, dc, dd, dgate = gradients
    first, width = span
    last = first + width
    lanes = np.uint64(
        (width + _LANES - 1) // _LANES * _LANES
    )  # those beyond the width drive nothing
    w = np.zeros(_PLANES * _ROWS * _WIDTH, np.float32)
    own_a, own_da = _padded(a[:, first:last], lanes), np.zeros((a.shape[0], lanes), np.float32)
    own_d, own_dd = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    own_d[:width] = d[first:last]
    rates, dh = own_a * LOG2E, np.zeros((a.shape[0], lanes), np.float32)
    for start in range((len(order) - 1) // TILE * TILE, -1, -TILE):
        steps = min(TILE, len(order) - start)
        for t in range(steps):
            load(delta[start + t, first:last], w[_row(_STEP, t) :], form)
            load(x[start + t, first:last], w[_row(_DRIVE, t) :], form)
            load(gate[order[start + t], first:last], w[_row(_Z, t) :], form)
            load(dy[order[start + t], first:last], w[_row(_DY, t) :], form)
        _enter_back(w, steps, lanes, own_d)
        tile_b, tile_c, tile_db, tile_dc = b[:, start:], c[:, start:], db[:, start:], dc[:, start:]
        for n in range(0, a.shape[0], 2):
            for k in range(2):
                copy(states[start // TILE, n + k, first:last], w[_row(_PAST + k, 0) :])
            _recall(w, rates, n, steps, lanes, tile_b, tile_c, tile_dc)
            for k in range(2):
                copy(dh[n + k], w[_row(_FLOW + k, steps) :])
            _return(w, n, steps, lanes, tile_b, tile_c, tile_db)
            for k in range(2):
                copy(w[_row(_FLOW + k, 0) : _row(_FLOW + k, 0) + lanes], dh[n + k])
            _rate(w, own_a, own_da, n, steps, lanes)
        for t in range(steps):
            load(x[start + t, first:last], w[_row(_PAST, t) :], form)
            load(delta[start + t, first:last], w[_row(_FLOW, t) :], form)
        _leave(w, steps, lanes, own_d, own_dd)
        for t in range(steps):
            store(w, _row(_DDRIVE, t), dx[start + t, first:last], form)
            store(w, _row(_DSTEP, t), ddelta[start + t, first:last], form)
            store(w, _row(_Z, t), dgate[order[start + t], first:last], form)
    da[:, first:last] += own_da[:, :width]
    dd[first:last] += own_dd[:width]


def scan(
    operands: list[Tensor], order: Tensor, *, keep: bool, carried: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run the scan on x, delta, a, b, c, d, gate of `selective_scan` on the CPU.

    All are float32, or x, delta and gate together bf16. `carried` (b, n, d) is the state before the
    first step, without it zeros, and becomes that after the last.

    Returns:
        y (b, l, d) in the dtype of gate, and the states before each tile (b, tiles, n, d), no tiles
        unless to `keep`.
    """
    x, delta, a, b, c, d, gate = operands
    batch, length, channels = x.shape
    y = torch.empty_like(gate, memory_format=torch.contiguous_format)
    tiles = -(-length // TILE) if keep else 0
    states = a.new_empty(batch, tiles, a.shape[1], channels)
    if carried is None:
        carried = a.new_zeros(batch, a.shape[1], channels)
    form = form_of(x.dtype)
    walk, rates, skip = arrays(order, a.t() * float(LOG2E), d)
    jobs: list[Callable[[], None]] = []
    for i in range(batch):
        xi, di, zi, yi = bits(x[i], delta[i], gate[i], y[i])
        bi, ci, si, hi = arrays(b[i], c[i], states[i], carried[i])
        parts = (xi, di, rates, bi, ci, skip, zi)
        for span in spans(channels, _WIDTH):
            jobs.append(partial(_scan, parts, walk, span, hi, yi, si, form))
    run(jobs)
    return y, states


def scan_backward(
    dy: Tensor, operands: list[Tensor], order: Tensor, states: Tensor
) -> list[Tensor]:
    """Gradients of `scan` with respect to its operands, in their order."""
    x, delta, a, b, c, d, gate = operands
    parts = spans(x.shape[2], _WIDTH)
    dx, ddelta, dgate = (torch.empty(x.shape, dtype=x.dtype) for _ in range(3))
    # Summed over the batch and, for b and c, over the spans: each job has its own.
    da, dd = torch.zeros(len(x), *a.t().shape), torch.zeros(len(x), *d.shape)
    db, dc = (torch.zeros(len(x), len(parts), b.shape[2], b.shape[1]) for _ in range(2))
    form = form_of(x.dtype)
    walk, rates, skip = arrays(order, a.t(), d)
    jobs: list[Callable[[], None]] = []
    for i in range(len(x)):
        xi, di, zi, gi, dxi, ddi, dgi = bits(
            x[i], delta[i], gate[i], dy[i], dx[i], ddelta[i], dgate[i]
        )
        bi, ci, si, dai, ddd = arrays(b[i].t(), c[i].t(), states[i], da[i], dd[i])
        for k, span in enumerate(parts):
            dbi, dci = arrays(db[i, k], dc[i, k])
            results = (dxi, ddi, dai, dbi, dci, ddd, dgi)
            parts_of = (xi, di, rates, bi, ci, skip, zi)
            jobs.append(partial(_scan_back, parts_of, walk, span, gi, si, results, form))
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
