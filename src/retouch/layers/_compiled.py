# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""What the CPU kernels share: how numba compiles them, their mathematics, their threads.

The exponential is a polynomial, because a library call cannot become vector code.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numba import njit
from torch import Tensor

# Multiply-adds are fused; nothing is reordered but sums over channels, for the rounding in `exp2`
# must survive (it keeps its own rules where it is inlined). A check for division by zero would keep
# a loop from becoming vector code, so there is none ("numpy").
_STRICT = {"contract", "nsz"}
inner = njit(fastmath=_STRICT, error_model="numpy", forceinline=True)
summing = njit(fastmath={*_STRICT, "reassoc"}, error_model="numpy", forceinline=True)

ZERO, ONE, _TWO = (np.float32(v) for v in (0, 1, 2))
LOG2E = np.float32(np.log2(np.e))
_ROUND = np.float32(1.5 * 2**23)  # added to z, it leaves round(z) in the lowest bits
_LEAST, _MOST = np.float32(-126), np.float32(126)
_EXPONENT = np.int32(23)
# (2^f - 1) / f on [-1/2, 1/2], Chebyshev fit: 2^f to 5.2e-9.
_E0, _E1, _E2, _E3, _E4, _E5 = np.array(
    [0.693147188, 0.240226509, 5.55035710e-2, 9.61805667e-3, 1.33908674e-3, 1.54614475e-4]
).astype(np.float32)
# (atanh(s) / s - 1) / s^2 as a polynomial in s^2 on [0, 1/9], Chebyshev fit: atanh to 1.5e-8.
_L0, _L1, _L2, _L3 = np.array([0.3333332, 0.20003835, 0.14116978, 0.13433777]).astype(np.float32)


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile an outermost loop, which runs without Python's lock, and keep the machine code."""
    try:
        return njit(fastmath=_STRICT, error_model="numpy", nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache may files be written
        return njit(fastmath=_STRICT, error_model="numpy", nogil=True)(function)


@inner
def exp2(z):
    """2^z for z <= 126; z below -126 counts as -126."""
    z = max(z, _LEAST)
    shifted = np.float32(z + _ROUND)
    f = z - (shifted - _ROUND)
    p = ((((_E5 * f + _E4) * f + _E3) * f + _E2) * f + _E1) * f + _E0
    bits = np.float32(p * f + ONE).view(np.int32)
    return np.int32(bits + (shifted.view(np.int32) << _EXPONENT)).view(np.float32)


@inner
def softplus(v):
    """log(1 + e^v), as max(v, 0) + log1p(u) with u = e^-|v| and log1p(u) = 2 atanh(u / (2 + u))."""
    u = exp2(-abs(v) * LOG2E)
    s = u / (_TWO + u)
    q = s * s
    return max(v, ZERO) + _TWO * s * (ONE + q * (((_L3 * q + _L2) * q + _L1) * q + _L0))


@inner
def sigmoid(v):
    return ONE / (ONE + exp2(min(-v * LOG2E, _MOST)))


@inner
def copy(source, target):
    for j in range(len(source)):
        target[j] = source[j]


@inner
def widen(v, form):
    """The float32 of some bits: `form` says whether they are bf16's or float32's own."""
    return np.uint32(np.uint32(v) << form[0]).view(np.float32)


@inner
def narrow(v, form):
    """The bits of a float32 in that form, rounded to the nearest, halves to even."""
    bits = np.float32(v).view(np.uint32)
    return np.uint32(bits + form[1] + (np.uint32(bits >> form[0]) & form[2])) >> form[0]


@inner
def load(source, target, form):
    for j in range(len(source)):
        target[j] = widen(source[j], form)


@inner
def store(source, place, target, form):
    """Keep what begins at a place of a flat array, which is unsigned."""
    for j in range(np.uint64(len(target))):
        target[j] = narrow(source[place + j], form)


def spans(length: int, longest: int) -> list[tuple[int, int]]:
    """Cut a length into parts (start, length), at least one for each of torch's threads."""
    parts = max(-(-length // longest), min(torch.get_num_threads(), length))
    size = -(-length // parts)
    return [(start, min(size, length - start)) for start in range(0, length, size)]


def run(jobs: list[Callable[[], None]]) -> None:
    """Run jobs on as many threads as torch uses; the kernels leave Python's lock."""
    threads = min(torch.get_num_threads(), len(jobs))
    if threads == 1:
        for job in jobs:
            job()
        return
    for result in [_pool(threads).submit(job) for job in jobs]:
        result.result()


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that stay: a picture is thousands of small kernels."""
    return ThreadPoolExecutor(threads, "retouch-kernels")


if hasattr(os, "register_at_fork"):  # a forked process has none of them
    os.register_at_fork(after_in_child=_pool.cache_clear)


Form = tuple[np.uint32, np.uint32, np.uint32]
"""Of stored numbers: places that float32 has more, what rounding adds to them, the odd bit."""


def form_of(dtype: torch.dtype) -> Form:
    shift, half, odd = (16, 0x7FFF, 1) if dtype == torch.bfloat16 else (0, 0, 0)
    return np.uint32(shift), np.uint32(half), np.uint32(odd)


def bits(*tensors: Tensor) -> list[np.ndarray]:
    """Views of bf16 or float32 tensors as unsigned numbers of 16 or 32 bits."""
    dense = [tensor.detach().contiguous() for tensor in tensors]
    return [
        tensor.view(torch.uint16).numpy()
        if tensor.dtype == torch.bfloat16
        else tensor.numpy().view(np.uint32)
        for tensor in dense
    ]


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]
