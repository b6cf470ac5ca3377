"""Runs local layers over strips of rows of a large map, so that their maps stay in the caches.

A map of 2048 x 2048 pixels is larger than any cache and than what the C library keeps for the next
tensor: each layer then waits for memory that the system clears anew, and a pixel costs twice as
much as in a small picture. The result is that of the whole map: a strip sees the rows beyond its
borders that its layers need, and what they spoil there is cut off.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["add_in_strips", "in_strips"]

_LARGE = 24 << 20
"""Bytes of a map that is computed in one piece."""
_STRIP = 4 << 20
"""Bytes of a map's strip."""


def in_strips(run: Callable[..., Tensor], *maps: Tensor, halo: int, scale: float = 1) -> Tensor:
    """Compute `run(*maps)`, in strips where the maps are large and need no gradient.

    Args:
        run: Local layers; their result is `scale` times as high as the first map.
        maps: (b, c, h, w); the others may be a whole number of times as high as the first.
        halo: Rows of the first map that its layers look at above and below; even if scale is 1/2.
        scale: Of the result's height to the first map's: 1/2 or a whole number.

    Returns:
        (b, c', scale * h, w').
    """
    h = maps[0].shape[-2]
    rows = min(_rows(x) * h // x.shape[-2] for x in maps) // 2 * 2
    if rows >= h // 2 * 2:
        return run(*maps)
    result = torch.empty(0)
    for top in range(0, h, rows):
        bottom = min(top + rows, h)
        above, below = max(0, top - halo), min(h, bottom + halo)
        times = [x.shape[-2] // h for x in maps]
        given = zip(maps, times, strict=True)
        part = run(*(x[..., above * t : below * t, :] for x, t in given))
        part = part[..., int(scale * (top - above)) : int(scale * (bottom - above)), :]
        if top == 0:
            size = (part.shape[0], part.shape[1], int(scale * h), part.shape[3])
            result = torch.empty(size, dtype=part.dtype, memory_format=torch.channels_last)
        result[..., int(scale * top) : int(scale * bottom), :] = part
    return result


def add_in_strips(
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    halo: int,
    after: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Compute `after(x + run(x))`; a large map that needs no gradient is overwritten by the result.

    Args:
        run: Local layers that keep the shape.
        x: (b, c, h, w), which nobody reads afterwards.
        halo: Rows that a row of the result depends on, above and below.
        after: An activation; may work in place.
    """
    rows = _rows(x)
    h = x.shape[-2]
    if rows >= h:
        whole = run(x).add_(x)
        return whole if after is None else after(whole)
    kept = x[..., :0, :]  # rows above the strip as they were before they were overwritten
    for top in range(0, h, rows):
        bottom = min(top + rows, h)
        seen = torch.cat([kept, x[..., top : min(h, bottom + halo), :]], dim=-2)
        above = kept.shape[-2]
        kept = x[..., max(top, bottom - halo) : bottom, :].clone()
        part = run(seen)[..., above : above + bottom - top, :].add_(x[..., top:bottom, :])
        x[..., top:bottom, :] = part if after is None else after(part)
    return x


def _rows(x: Tensor) -> int:
    """Rows of a strip; all of them where strips would not pay or would be in the way."""
    h = x.shape[-2]
    size = x.numel() * x.element_size()
    busy = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if busy or x.device.type != "cpu" or size <= _LARGE:
        return h
    return max(16, round(h * _STRIP / size))
