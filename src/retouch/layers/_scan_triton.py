# ruff: noqa: ANN001, ANN202, N803, PLR0913 (what a kernel takes are the operands of the scan)
"""GPU kernels of the selective scan; what they compute is told in `selective_scan.py`.

A sequence is cut into chunks of a few steps, and a program takes one chunk of 32 channels, so that
one picture makes thousands of programs. Three kernels follow each other:
  - `_summarize` scans every chunk from h = 0 and writes the state it ends with and the sum of its
    steps, which gives the product of its decays;
  - `_carry` composes these pairs from chunk to chunk;
  - `_finish` scans every chunk again, from the right state, reads the states, adds what skips them,
    gates and puts in place.
The way back does the same with the gradient of the states, from the last step to the first, and
computes the states again, so nothing but the operands is kept for it. What is scanned are pairs
(product of decays, state), and the products are of numbers in [0, 1]: nothing is divided or
subtracted. For that the way back loads delta, x and b shifted by one step too, and scans
exp(s[t] a) h[t-1], which it needs as well as h[t] and which a difference would give inexactly.

A warp is as wide as a tile: each thread owns one channel with all its steps and scans them in its
registers. What is summed over channels or steps is stored per program, and torch adds it up in a
fixed order: results do not vary from run to run. All offsets into tensors have 64 bits.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_STEPS = 32  # of a chunk on the way forth
_STEPS_BACK = 16  # on the way back, where a thread holds three times as many numbers per step
_LANES = tl.constexpr(32)  # channels of a tile, one for each thread of a warp
_ROWS = tl.constexpr(128)  # chunks that `_carry` composes at a time

_LOG2E = tl.constexpr(1.4426950408889634)
_LN2 = tl.constexpr(0.6931471805599453)
# (atanh(s) / s - 1) / s^2 as a polynomial in s^2 on [0, 1/9], see `_compiled.py`.
_L0 = tl.constexpr(0.3333332)
_L1 = tl.constexpr(0.20003835)
_L2 = tl.constexpr(0.14116978)
_L3 = tl.constexpr(0.13433777)


@triton.jit
def _softplus(v):
    """log(1 + e^v) as max(v, 0) + 2 atanh(u / (2 + u)) with u = e^-|v|, exact for small u too."""
    u = tl.exp2(-tl.abs(v) * _LOG2E)
    s = u / (2.0 + u)
    q = s * s
    return tl.maximum(v, 0.0) + 2.0 * s * (1.0 + q * (_L0 + q * (_L1 + q * (_L2 + q * _L3))))


@triton.jit
def _sigmoid(v):
    return 1.0 / (1.0 + tl.exp2(-v * _LOG2E))


@triton.jit
def _compose(decay, state, next_decay, next_state):
    return decay * next_decay, state * next_decay + next_state


@triton.jit
def _load(pointer, at, mask):
    return tl.load(pointer + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _store(pointer, at, value, mask):
    tl.store(pointer + at, value.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _tile(length, channels, STEPS: tl.constexpr):
    """Return the program's chunk, its row in tables, where its sequence starts, steps, channels.

    Neighbouring programs share a chunk and thus its b and c.
    """
    blocks, chunks = tl.cdiv(channels, _LANES), tl.cdiv(length, STEPS)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    j = (tl.program_id(0) % blocks) * _LANES + tl.arange(0, _LANES)
    chunk = row % chunks
    return chunk, row, row // chunks * length, chunk * STEPS + tl.arange(0, STEPS), j


@triton.jit
def _step(delta, at, inside):
    return tl.where(inside, _softplus(_load(delta, at, inside)), 0.0)


@triton.jit
def _places(order, start, t, j, length, channels):
    """Offsets of the tile's tokens where they lie in the picture."""
    place = tl.load(order + t, mask=t < length, other=0)
    return (start + place)[:, None] * channels + j[None, :]


@triton.jit
def _gradient_of_total(gate, dy, there, inside):
    z = _load(gate, there, inside)
    return _load(dy, there, inside) * z * _sigmoid(z)


@triton.jit(do_not_specialize=["length", "channels", "states"])
def _summarize(
    x, delta, rates, b, ends, spans, length, channels, states, STEPS: tl.constexpr
):  # fmt: skip
    """Write the state at the end of each chunk (b, k, n, d) and the sum of its steps (b, k, d)."""
    _chunk, row, start, t, j = _tile(length, channels, STEPS)
    inside = (t < length)[:, None] & (j < channels)[None, :]
    at = (start + t)[:, None] * channels + j[None, :]
    step = _step(delta, at, inside)
    drive = step * _load(x, at, inside)
    _store(spans, row * channels + j, tl.sum(step, axis=0), j < channels)
    last = (tl.arange(0, STEPS) == STEPS - 1)[:, None] & (j < channels)[None, :]
    for n in range(states):
        rate = _load(rates, n * channels + j, j < channels)
        weight = _load(b, (start + t) * states + n, t < length)
        pairs = (tl.exp2(step * rate[None, :]), drive * weight[:, None])
        _product, h = tl.associative_scan(pairs, 0, _compose)
        end = ((row * states + n) * channels + j)[None, :]
        _store(ends, tl.broadcast_to(end, [STEPS, _LANES]), h, last)


@triton.jit(do_not_specialize=["chunks", "channels", "states"])
def _carry(ends, spans, rates, after, chunks, channels, states, BACKWARD: tl.constexpr):
    """Compose what chunks end with if they start from 0 into what they really end with."""
    blocks = tl.cdiv(channels, _LANES)
    n = tl.program_id(0) // blocks % states
    j = (tl.program_id(0) % blocks) * _LANES + tl.arange(0, _LANES)
    start = (tl.program_id(0) // (blocks * states)).to(tl.int64) * chunks
    rate = _load(rates, n * channels + j, j < channels)
    rows = tl.arange(0, _ROWS)
    carried = tl.zeros([_LANES], tl.float32)
    for first in range(0, chunks, _ROWS):
        k = first + rows
        inside = (k < chunks)[:, None] & (j < channels)[None, :]
        if BACKWARD:
            k = chunks - 1 - k
        row = (start + k)[:, None]
        at = (row * states + n) * channels + j[None, :]
        span = _load(spans, row * channels + j[None, :], inside)
        decay = tl.exp2(span * rate[None, :])
        entering = tl.where((rows == 0)[:, None], decay * tl.expand_dims(carried, 0), 0.0)
        pairs = (decay, _load(ends, at, inside) + entering)
        decay, h = tl.associative_scan(pairs, 0, _compose)
        _store(after, at, h, inside)
        carried = tl.sum(tl.where((rows == _ROWS - 1)[:, None], h, 0.0), axis=0)


@triton.jit(do_not_specialize=["length", "channels", "states"])
def _finish(
    x, delta, rates, b, c, d, gate, order, after, y, length, channels, states, STEPS: tl.constexpr
):
    """Scan each chunk from the state after the chunk before it, and write the result in place."""
    chunk, row, start, t, j = _tile(length, channels, STEPS)
    inside = (t < length)[:, None] & (j < channels)[None, :]
    at = (start + t)[:, None] * channels + j[None, :]
    step = _step(delta, at, inside)
    drive = step * _load(x, at, inside)
    first = (tl.arange(0, STEPS) == 0)[:, None]
    known = tl.where(chunk > 0, channels, 0)  # the first chunk has no state before it
    total = tl.zeros([STEPS, _LANES], tl.float32)
    for n in range(states):
        rate = _load(rates, n * channels + j, j < channels)
        weight = _load(b, (start + t) * states + n, t < length)
        reading = _load(c, (start + t) * states + n, t < length)
        before = _load(after, ((row - 1) * states + n) * channels + j, j < known)
        decay = tl.exp2(step * rate[None, :])
        entering = tl.where(first, decay * before[None, :], 0.0)
        pairs = (decay, drive * weight[:, None] + entering)
        decay, h = tl.associative_scan(pairs, 0, _compose)
        total += h * reading[:, None]
    total += _load(d, j, j < channels)[None, :] * _load(x, at, inside)
    there = _places(order, start, t, j, length, channels)
    z = _load(gate, there, inside)
    _store(y, there, total * z * _sigmoid(z), inside)


@triton.jit(do_not_specialize=["length", "channels", "states"])
def _summarize_back(
    delta, rates, c, gate, order, dy, ends, length, channels, states, STEPS: tl.constexpr
):
    """Write the gradient of the state before each chunk (b, k, n, d), were there no later one."""
    _chunk, row, start, t, j = _tile(length, channels, STEPS)
    inside = (t < length)[:, None] & (j < channels)[None, :]
    step = _step(delta, (start + t)[:, None] * channels + j[None, :], inside)
    there = _places(order, start, t, j, length, channels)
    gy = _gradient_of_total(gate, dy, there, inside)
    first = (tl.arange(0, STEPS) == 0)[:, None] & (j < channels)[None, :]
    for n in range(states):
        rate = _load(rates, n * channels + j, j < channels)
        reading = _load(c, (start + t) * states + n, t < length)
        decay = tl.exp2(step * rate[None, :])
        pairs = (decay, decay * gy * reading[:, None])
        decay, g = tl.associative_scan(pairs, 0, _compose, reverse=True)
        end = ((row * states + n) * channels + j)[None, :]
        _store(ends, tl.broadcast_to(end, [STEPS, _LANES]), g, first)


@triton.jit
def _both_ways(step, future, drive, past, gy, rate, before, beyond, weight, weight_past, reading):
    """Of one state: exp(s[t] a) h[t-1], h[t] and the gradient of h[t]."""
    rows = tl.arange(0, step.shape[0])[:, None]
    decay = tl.exp2(step * rate[None, :])
    entering = tl.where(rows == 0, before[None, :], past * weight_past[:, None])
    decay, q = tl.associative_scan((decay, decay * entering), 0, _compose)
    entering = tl.where(rows == step.shape[0] - 1, beyond[None, :], 0.0)
    pairs = (tl.exp2(future * rate[None, :]), gy * reading[:, None] + entering)
    decay, g = tl.associative_scan(pairs, 0, _compose, reverse=True)
    return q, q + drive * weight[:, None], g


@triton.jit
def _sums(  # over the states: the gradients of drive and step, and what was read from the states
    delta, x, rates, b, c, after, later, da, db, dc, gy, inside, length, channels, states,
    STEPS: tl.constexpr,
):  # fmt: skip
    chunk, row, start, t, j = _tile(length, channels, STEPS)
    at, rows = (start + t)[:, None] * channels + j[None, :], tl.arange(0, STEPS)
    step = _step(delta, at, inside)
    drive = step * _load(x, at, inside)
    inner = inside & (rows > 0)[:, None]
    past = _step(delta, at - channels, inner) * _load(x, at - channels, inner)
    inner = ((rows < STEPS - 1) & (t + 1 < length))[:, None] & (j < channels)[None, :]
    future = _step(delta, at + channels, inner)
    known = tl.where(chunk > 0, channels, 0)  # the first chunk has no state before it
    felt = tl.where((chunk + 1) * STEPS < length, channels, 0)  # nothing comes after the last one
    blocks = tl.cdiv(channels, _LANES)
    part = (start // length * blocks + tl.program_id(0) % blocks) * states
    ddrive = tl.zeros([STEPS, _LANES], tl.float32)
    dstep, total = ddrive, ddrive
    for n in range(states):
        rate = _load(rates, n * channels + j, j < channels)
        here = (row * states + n) * channels + j
        before = _load(after, here - states * channels, j < known)
        beyond = _load(later, here + states * channels, j < felt)
        weight = _load(b, (start + t) * states + n, t < length)
        weight_past = _load(b, (start + t - 1) * states + n, (rows > 0) & (t < length))
        reading = _load(c, (start + t) * states + n, t < length)
        q, h, g = _both_ways(
            step, future, drive, past, gy, rate, before, beyond, weight, weight_past, reading
        )
        total += h * reading[:, None]
        ddrive += g * weight[:, None]
        _store(dc, (part + n) * length + t, tl.sum(h * gy, axis=1), t < length)
        _store(db, (part + n) * length + t, tl.sum(g * drive, axis=1), t < length)
        dstep += g * q * rate[None, :]
        _store(da, here, tl.sum(g * q * step, axis=0), j < channels)
    return ddrive, dstep * _LN2, total


@triton.jit(do_not_specialize=["length", "channels", "states"])
def _differentiate(
    x, delta, rates, b, c, d, gate, order, dy, after, later, dx, ddelta, da, db, dc, dd, dgate,
    length, channels, states, STEPS: tl.constexpr,
):  # fmt: skip
    """Write all gradients; those of a and d per chunk, those of b and c per block of channels."""
    _chunk, row, start, t, j = _tile(length, channels, STEPS)
    inside = (t < length)[:, None] & (j < channels)[None, :]
    there = _places(order, start, t, j, length, channels)
    gy = _gradient_of_total(gate, dy, there, inside)
    ddrive, dstep, total = _sums(
        delta, x, rates, b, c, after, later, da, db, dc, gy, inside, length, channels, states,
        STEPS,
    )  # fmt: skip
    at = (start + t)[:, None] * channels + j[None, :]
    skip = _load(d, j, j < channels)[None, :]
    xt, v = _load(x, at, inside), _load(delta, at, inside)
    _store(dx, at, ddrive * _softplus(v) + skip * gy, inside)
    _store(ddelta, at, (dstep + ddrive * xt) * _sigmoid(v), inside)
    _store(dd, row * channels + j, tl.sum(gy * xt, axis=0), j < channels)
    z = _load(gate, there, inside)
    s = _sigmoid(z)
    dz = _load(dy, there, inside) * (total + skip * xt) * s * (1.0 + z * (1.0 - s))
    _store(dgate, there, dz, inside)


def scan(operands: list[Tensor], order: Tensor) -> Tensor:
    """Run the scan on x, delta, a, b, c, d, gate of `selective_scan`, floats of up to 32 bits.

    Returns:
        (b, l, d) in the dtype of x.
    """
    x, delta, a, b, c, d, gate = (tensor.contiguous() for tensor in operands)
    rates = _rates(a)
    y = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _, after = _states(x, delta, rates, b, _STEPS)
        operands = [x, delta, rates, b, c, d.float(), gate, order.contiguous(), after]
        _launch(_finish, _tiles(x, _STEPS), *operands, y, *x.shape[1:], a.shape[1], _STEPS)
    return y


def scan_backward(dy: Tensor, operands: list[Tensor], order: Tensor) -> list[Tensor]:
    """Gradients of `scan` with respect to its operands, in their order and dtypes."""
    x, delta, a, b, c, d, gate = (tensor.contiguous() for tensor in operands)
    dy, order, rates, tiles = dy.contiguous(), order.contiguous(), _rates(a), _tiles(x, _STEPS_BACK)
    batch, length, channels = x.shape
    sizes = length, channels, a.shape[1], _STEPS_BACK
    dx, ddelta, dgate = torch.empty_like(x), torch.empty_like(delta), torch.empty_like(gate)
    parts = batch, -(-channels // _LANES.value), a.shape[1], length
    db, dc = rates.new_empty(parts), rates.new_empty(parts)
    with torch.cuda.device_of(x):
        spans, after = _states(x, delta, rates, b, _STEPS_BACK)
        da, dd = torch.empty_like(after), torch.empty_like(spans)
        _launch(_summarize_back, tiles, delta, rates, c, gate, order, dy, da, *sizes)
        later = _compose_chunks(da, spans, rates, backward=True)  # da has served then
        operands = [x, delta, rates, b, c, d.float(), gate, order, dy, after, later]
        results = [dx, ddelta, da, db, dc, dd, dgate]
        _launch(_differentiate, tiles, *operands, *results, *sizes)
    db, dc = (g.sum(1).transpose(1, 2).contiguous() for g in (db, dc))
    da, dd = da.sum((0, 1)).t().contiguous(), dd.sum((0, 1))
    return [dx, ddelta, da.to(a.dtype), db.to(b.dtype), dc.to(c.dtype), dd.to(d.dtype), dgate]


def _rates(a: Tensor) -> Tensor:
    return (a.float().t() * _LOG2E.value).contiguous()  # (n, d), for powers of two


def _tiles(x: Tensor, steps: int) -> int:
    batch, length, channels = x.shape
    return batch * -(-length // steps) * -(-channels // _LANES.value)


def _states(
    x: Tensor, delta: Tensor, rates: Tensor, b: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """The sum of the steps of each chunk (b, k, d) and the state after it (b, k, n, d)."""
    batch, length, channels = x.shape
    spans = rates.new_empty(batch, -(-length // steps), channels)
    ends = rates.new_empty(*spans.shape[:2], *rates.shape)
    operands = x, delta, rates, b, ends, spans, length, channels, len(rates)
    _launch(_summarize, _tiles(x, steps), *operands, steps)
    return spans, _compose_chunks(ends, spans, rates, backward=False)


def _compose_chunks(ends: Tensor, spans: Tensor, rates: Tensor, *, backward: bool) -> Tensor:
    batch, chunks, states, channels = ends.shape
    after = torch.empty_like(ends)
    programs = batch * states * -(-channels // _LANES.value)
    operands = ends, spans, rates, after, chunks, channels, states
    _launch(_carry, programs, *operands, backward, warps=4)
    return after


def _launch(kernel: Any, programs: int, *arguments: Tensor | int, warps: int = 1) -> None:
    kernel[(programs,)](*arguments, num_warps=warps, enable_fp_fusion=True)
