# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""CPU kernels that look numbers of 16 bits up in a table; see `lookup.py`."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from retouch.layers._compiled import form_of, kernel, narrow, run, spans, widen

_LONGEST = 1 << 22  # numbers of one job at most
_CHUNK = np.uint64(512)
_BF16 = form_of(torch.bfloat16)


@kernel
def _look_up(x, table, y):
    for i in range(x.size):
        y[i] = table[x[i]]


@kernel
def _look_up_sum(x, y, table, z):
    total = np.empty(_CHUNK, np.uint16)  # sums are vector code, looking up is not
    end = np.uint64(x.size)
    at = np.uint64(0)
    while at < end:
        n = min(_CHUNK, end - at)
        for i in range(n):
            total[i] = narrow(widen(x[at + i], _BF16) + widen(y[at + i], _BF16), _BF16)
        for i in range(n):
            z[at + i] = table[total[i]]
        at += n


def look_up(x: Tensor, table: Tensor, out: Tensor | None = None) -> Tensor:
    """Replace each number of a dense bf16 tensor by the table's entry for its bits.

    Args:
        x: Of any shape.
        table: (65536,), bf16.
        out: Laid out as `x`, or `x` itself; None makes one.
    """
    return _run(_look_up, [x], table, torch.empty_like(x) if out is None else out)


def look_up_sum(x: Tensor, y: Tensor, table: Tensor, out: Tensor) -> Tensor:
    """Look up x + y, rounded to bf16; all are dense, of one shape and laid out alike."""
    return _run(_look_up_sum, [x, y], table, out)


def _run(job: Callable[..., None], given: list[Tensor], table: Tensor, out: Tensor) -> Tensor:
    *sources, entries, target = (_flat(x) for x in (*given, table, out))
    run(
        [
            partial(job, *(x[at : at + n] for x in sources), entries, target[at : at + n])
            for at, n in spans(len(target), _LONGEST)
        ]
    )
    return out


def _flat(x: Tensor):
    """All of a dense tensor, whatever its layout, as the numbers of 16 bits that lie in memory."""
    return x.as_strided((x.numel(),), (1,)).view(torch.uint16).numpy()
