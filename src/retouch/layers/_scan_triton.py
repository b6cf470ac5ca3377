# ruff: noqa: ANN001, ANN202 (inside a kernel Triton infers the types)
"""GPU kernels of the selective scan; what they compute is told in `selective_scan.py`.

A sequence is cut into chunks of a few steps, and a program takes one chunk of 32 channels, so that
one picture makes thousands of programs. Three kernels follow each other:
  - `_summarize` scans every chunk from h = 0 and writes the state it ends with and the sum of its
    steps, which gives the product of its decays;
  - `_carry` composes these pairs from chunk to chunk;
  - `_finish` scans every chunk again, from the right state, and reads the states, adds the skip,
    gates and puts in place.
The way back does the same with the gradient of the states, from the last step to the first, and
`_differentiate` recomputes the states: nothing but the operands is kept for it. All that is scanned
are pairs (product of decays, state), products of numbers in [0, 1]: nothing is divided or
subtracted. To that end the way back loads delta, x and b shifted by a step, so that it scans
exp(s[t] a) h[t-1] and not h, of which that would be a difference.

A warp is as wide as a tile, so each thread owns one channel with all its steps. It scans them in
its registers, without a word to others. Sums over channels are stored per tile and added up by
torch in a fixed order: results do not vary from run to run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_LANES = 32
"""Channels of a tile: one for each thread of a warp."""
_STEPS = 32
"""Steps of a chunk on the way forth."""
_STEPS_BACK = 16
"""Steps of a chunk on the way back, where a thread holds three times as many numbers per step."""
_ROWS = 128
"""Chunks that `_carry` composes at a time."""
_LOG2E = 1.4426950408889634

_LOG2_E = tl.constexpr(_LOG2E)
# (atanh(s) / s - 1) / s^2 as a polynomial in s^2 on [0, 1/9], see `_compiled.py`.
_L0 = tl.constexpr(0.3333332)
_L1 = tl.constexpr(0.20003835)
_L2 = tl.constexpr(0.14116978)
_L3 = tl.constexpr(0.13433777)


@triton.jit
def _softplus(v):
    """log(1 + e^v) as max(v, 0) + 2 atanh(u / (2 + u)) with u = e^-|v|: exact for small u too."""
    u = tl.exp2(-tl.abs(v) * _LOG2_E)
    s = u / (2.0 + u)
    q = s * s
    return tl.maximum(v, 0.0) + 2.0 * s * (1.0 + q * (_L0 + q * (_L1 + q * (_L2 + q * _L3))))


@triton.jit
def _sigmoid(v):
    return 1.0 / (1.0 + tl.exp2(-v * _LOG2_E))


@triton.jit
def _compose(decay, state, next_decay, next_state):
    return decay * next_decay, state * next_decay + next_state


@triton.jit
def _wide(pointer, at, mask):
    return tl.load(pointer + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _tile(length, channels, STEPS: tl.constexpr, LANES: tl.constexpr):  # noqa: N803
    """Which steps and channels are this program's, and the number of its row in tables of chunks.

    Neighbouring programs share a chunk and thus its b and c. Offsets are 64 bits wide.
    """
    blocks = tl.cdiv(channels, LANES)
    program = tl.program_id(0)
    chunk = program // blocks
    t = chunk.to(tl.int64) * STEPS + tl.arange(0, STEPS)
    j = (program % blocks) * LANES + tl.arange(0, LANES)
    row = tl.program_id(1).to(tl.int64) * tl.cdiv(length, STEPS) + chunk
    return t, j, row


@triton.jit(do_not_specialize=["length", "channels", "states"])
def _summarize(  # noqa: PLR0913 (here and below: the operands of the scan)
    x,
    delta,
    rates,
    b,
    ends,
    spans,
    length,
    channels,
    states,
    STEPS: tl.constexpr,  # noqa: N803
    LANES: tl.constexpr,  # noqa: N803
):
    """Write the state at the end of each chunk (b, k, n, d), and the sum of its steps (b, k, d)."""
    t, j, row = _tile(length, channels, STEPS, LANES)
    start = tl.program_id(1).to(tl.int64) * length
    inside = (t < length)[:, None] & (j < channels)[None, :]
    at = (start + t)[:, None] * channels + j[None, :]
    step = tl.where(inside, _softplus(_wide(delta, at, inside)), 0.0)
    drive = step * _wide(x, at, inside)
    tl.store(spans + row * channels + j, tl.sum(step, axis=0), mask=j < channels)
    last = (tl.arange(0, STEPS) == STEPS - 1)[:, None] & (j < channels)[None, :]
    for n in range(states):
        rate = _wide(rates, n * channels + j, j < channels)
        weight = _wide(b, (start + t) * states + n, t < length)
        pairs = (tl.exp2(step * rate[None, :]), drive * weight[:, None])
        _, h = tl.associative_scan(pairs, 0, _compose)
        target = ends + (row * states + n) * channels + j[None, :] + tl.zeros_like(at)
        tl.store(target, h, mask=last)


@triton.jit(do_not_specialize=["chunks", "channels", "states"])
def _carry(  # noqa: PLR0913
    ends,
    spans,
    rates,
    after,
    chunks,
    channels,
    states,
    BACKWARD: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    LANES: tl.constexpr,  # noqa: N803
):
    """Turn what chunks end with from nothing into what they end with, in one of the two ways."""
    blocks = tl.cdiv(channels, LANES)
    n = tl.program_id(0) // blocks
    j = (tl.program_id(0) % blocks) * LANES + tl.arange(0, LANES)
    rate = _wide(rates, n * channels + j, j < channels)
    start = tl.program_id(1).to(tl.int64) * chunks
    rows = tl.arange(0, ROWS)
    carried = tl.zeros([LANES], tl.float32)
    for first in range(0, chunks, ROWS):
        k = first + rows
        inside = (k < chunks)[:, None] & (j < channels)[None, :]
        if BACKWARD:
            k = chunks - 1 - k
        row = (start + k)[:, None]
        at = (row * states + n) * channels + j[None, :]
        span = _wide(spans, row * channels + j[None, :], inside)
        pairs = (tl.exp2(span * rate[None, :]), _wide(ends, at, inside))
        decay, h = tl.associative_scan(pairs, 0, _compose)
        h += decay * carried[None, :]
        tl.store(after + at, h, mask=inside)
        carried = tl.sum(tl.where((rows == ROWS - 1)[:, None], h, 0.0), axis=0)


@triton.jit(do_not_specialize=["length", "channels", "states"])
def _finish(  # noqa: PLR0913
    x,
    delta,
    rates,
    b,
    c,
    d,
    gate,
    order,
    after,
    y,
    length,
    channels,
    states,
    STEPS: tl.constexpr,  # noqa: N803
    LANES: tl.constexpr,  # noqa: N803
):
    """Scan each chunk from the state after the chunk before it, and write the result in place."""
    t, j, row = _tile(length, channels, STEPS, LANES)
    start = tl.program_id(1).to(tl.int64) * length
    inside = (t < length)[:, None] & (j < channels)[None, :]
    at = (start + t)[:, None] * channels + j[None, :]
    step = tl.where(inside, _softplus(_wide(delta, at, inside)), 0.0)
    drive = step * _wide(x, at, inside)
    follows = (j < channels) & (tl.max(t, axis=0) >= STEPS)
    total = tl.zeros([STEPS, LANES], tl.float32)
    for n in range(states):
        rate = _wide(rates, n * channels + j, j < channels)
        weight = _wide(b, (start + t) * states + n, t < length)
        reading = _wide(c, (start + t) * states + n, t < length)
        before = _wide(after, ((row - 1) * states + n) * channels + j, follows)
        pairs = (tl.exp2(step * rate[None, :]), drive * weight[:, None])
        decay, h = tl.associative_scan(pairs, 0, _compose)
        total += (h + decay * before[None, :]) * reading[:, None]
    skip = _wide(d, j, j < channels)
    total += skip[None, :] * _wide(x, at, inside)
    place = tl.load(order + t, mask=t < length, other=0)
    there = (start + place)[:, None] * channels + j[None, :]
    z = _wide(gate, there, inside)
    tl.store(y + there, (total * z * _sigmoid(z)).to(y.dtype.element_ty), mask=inside)
