"""Runs local layers over strips of rows of a large map, so that their maps stay in the caches.

A map of 2048 x 2048 pixels is larger than any cache and than what the C library keeps for the next
tensor: each layer then waits for memory that the system clears anew, and a pixel costs twice as
much as in a small picture. The result is that of the whole map: a strip sees the rows beyond its
borders that its layers need.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.layers.spectral import SpectralConv2d

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
    layers: Sequence[Callable[[Tensor], Tensor]],
    x: Tensor,
    *,
    after: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Compute `after(x + layers(x))`; a large map that needs no gradient is overwritten by it.

    Rows of a large map run through the layers as through a pipe: a convolution keeps the last rows
    that it was given until those below them come. So nothing is computed twice, and what comes out
    lies behind what was read and may take its place.

    Args:
        layers: Applied in turn: convolutions that keep the size, functions of single pixels; the
            first of them leaves its input as it is.
        x: (b, c, h, w), which nobody reads afterwards.
        after: An activation; may work in place.
    """
    rows = _rows(x)
    h = x.shape[-2]
    if rows >= h:
        whole = reduce(lambda part, layer: layer(part), layers, x).add_(x)
        return whole if after is None else after(whole)
    parts = (x[..., top : top + rows, :] for top in range(0, h, rows))
    top = 0
    for part in reduce(lambda found, layer: _passed(found, layer, rows), layers, parts):
        bottom = top + part.shape[-2]
        place = x[..., top:bottom, :].add_(part)
        if after is not None:
            place.copy_(after(place))
        top = bottom
    return x


def _passed(
    parts: Iterable[Tensor], layer: Callable[[Tensor], Tensor], most: int
) -> Iterable[Tensor]:
    """A layer's result, strip by strip, as its input comes in strips of at most so many rows."""
    return _convolved(parts, layer, most) if isinstance(layer, nn.Conv2d) else map(layer, parts)


def _convolved(parts: Iterable[Tensor], conv: nn.Conv2d, most: int) -> Iterator[Tensor]:
    """Rows of a map's convolution, as far as the rows so far allow; the last ones at the end."""
    above, beside = (int(p) for p in conv.padding)
    kernel = conv.unit_weight() if isinstance(conv, SpectralConv2d) else conv.weight
    options = {"padding": (0, beside), "dilation": conv.dilation, "groups": conv.groups}
    window = torch.empty(0)  # the last rows, then the new ones; one piece of memory for all strips
    end = above
    for part in parts:
        rows = part.shape[-2]
        if not window.numel():
            size = (*part.shape[:2], 2 * above + most, part.shape[3])
            window = part.new_empty(size).contiguous(memory_format=torch.channels_last)
            window[..., :above, :] = 0
        window[..., end : end + rows, :] = part
        end += rows
        if end > 2 * above:
            yield functional.conv2d(window[..., :end, :], kernel, conv.bias, **options)
            window[..., : 2 * above, :] = window[..., end - 2 * above : end, :].clone()
            end = 2 * above
    window[..., end : end + above, :] = 0
    yield functional.conv2d(window[..., : end + above, :], kernel, conv.bias, **options)


def _rows(x: Tensor) -> int:
    """Rows of a strip; all of them where strips would not pay or would be in the way."""
    h = x.shape[-2]
    size = x.numel() * x.element_size()
    busy = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if busy or x.device.type != "cpu" or size <= _LARGE:
        return h
    return max(16, round(h * _STRIP / size))
