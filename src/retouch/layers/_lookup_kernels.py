# ruff: noqa: ANN001, ANN202 (inside a kernel numba infers the types)
"""CPU kernel that looks numbers of 16 bits up in a table; see `lookup.py`."""

from functools import partial

import torch
from torch import Tensor

from retouch.layers._compiled import kernel, run, spans

_LONGEST = 1 << 22  # numbers of one job at most


@kernel
def _look_up(x, table, y):
    for i in range(x.size):
        y[i] = table[x[i]]


def look_up(x: Tensor, table: Tensor, *, inplace: bool = False) -> Tensor:
    """Replace each number of a dense bf16 tensor by the table's entry for its bits."""
    y = x if inplace else torch.empty_like(x)
    source, target = (_flat(tensor) for tensor in (x, y))
    entries = _flat(table)
    run(
        [
            partial(_look_up, source[at : at + n], entries, target[at : at + n])
            for at, n in spans(len(source), _LONGEST)
        ]
    )
    return y


def _flat(x: Tensor):
    """All of a dense tensor, whatever its layout, as the numbers of 16 bits that lie in memory."""
    return x.as_strided((x.numel(),), (1,)).view(torch.uint16).numpy()
