"""Runs local layers over a large map some rows at a time, so that what they make stays in caches.

A map of 1024 x 1024 pixels is larger than a core's cache and than what the C library keeps for the
next tensor: each layer then waits for memory that the system clears anew, and a pixel costs twice
as much as in a small picture. Here the rows of a result are asked for from the top to the bottom,
and each layer asks the one before it for as many as it needs; a convolution keeps the last rows it
was given. So nothing is computed twice, nothing whole is made but the result, and the numbers are
those of the whole map.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.layers.frugal import Tanh, gelu, summed, tanh, tanh_of_sum
from retouch.layers.pixelwise import LayerNorm, Linear, Taller
from retouch.layers.spectral import SpectralConv2d

__all__ = ["Rows", "rows"]

Layer = Callable[[Tensor], Tensor]
Take = Callable[[int, Tensor | None], Tensor]
"""Gives the next so many rows (b, c, n, w) of a map, fewer at its end. Some write them where they
are told (b, c, n, w or more), so that the reader need not copy."""

_LARGE = 6 << 20
"""Bytes of a map that is computed in one piece."""
_STRIP = 2 << 20
"""Bytes of the widest map's rows that are computed at a time."""
_POINTWISE = (LayerNorm, Linear, nn.LeakyReLU, nn.ReLU)
_WRITING = (gelu, summed, tanh, tanh_of_sum)
"""Functions that write where they are told."""


class Rows(ABC):
    """A map that is about to be computed. It may be read several times."""

    @abstractmethod
    def through(self, *layers: Layer) -> "Rows":
        """Apply layers in turn.

        Args:
            layers: Modules; functions of single pixels. The first leaves its input as it is.
        """

    @abstractmethod
    def joined(self, function: Callable[..., Tensor], *others: "Rows") -> "Rows":
        """Apply a function of single pixels, or of rows, to this map and others of its height."""

    @abstractmethod
    def into(self, place: Tensor | None = None) -> Tensor:
        """Compute the map.

        Args:
            place: A map of the result's size that nobody reads afterwards, nor before it but for
                rows that have been read when theirs are computed: a large result overwrites it.

        Returns:
            (b, c, h, w).
        """

    def beside(self, *others: "Rows") -> "Rows":
        """Join the channels of maps of one size."""
        return self.joined(lambda *maps: torch.cat(maps, dim=1), *others) if others else self


def rows(*maps: Tensor, channels: int = 0) -> tuple[Rows, ...]:
    """Begin to compute something from maps, in strips where they are large and need no gradient.

    Args:
        maps: (b, c, h, w); their heights are whole multiples of each other.
        channels: Of the widest map on the way, at the first map's size; 0: as the maps are.
    """
    first = maps[0]
    size = max(x.numel() * x.element_size() for x in maps)
    size = max(size, first.numel() // first.shape[1] * channels * 2)
    busy = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if busy or first.device.type != "cpu" or size <= _LARGE:
        return tuple(_Whole(x) for x in maps)
    lowest = min(x.shape[-2] for x in maps)
    count = max(1, min(round(size / _STRIP), lowest // 2))
    return tuple(_given(x, count) for x in maps)


@dataclass(frozen=True)
class _Whole(Rows):
    """A map in one piece."""

    map: Tensor

    def through(self, *layers: Layer) -> "_Whole":
        return _Whole(reduce(lambda x, layer: layer(x), layers, self.map))

    def joined(self, function: Callable[..., Tensor], *others: Rows) -> "_Whole":
        return _Whole(function(self.map, *(cast(_Whole, other).map for other in others)))

    def into(self, place: Tensor | None = None) -> Tensor:
        return self.map


@dataclass(frozen=True)
class _Strips(Rows):
    """A map in strips."""

    height: int
    count: int
    """How many strips it is computed in."""
    open: Callable[[int], Take]
    """Begins to read at its top; told how many rows the result stays behind what is read."""
    map: Tensor | None = None
    """The map, if it is one that was given."""

    def through(self, *layers: Layer) -> "_Strips":
        return reduce(_Strips._after, layers, self)

    def _after(self, layer: Layer) -> "_Strips":
        if isinstance(layer, nn.Sequential):
            return self.through(*layer)
        if isinstance(layer, nn.Conv2d):
            return self._convolved(layer)
        if isinstance(layer, nn.PixelShuffle | Taller):
            more = layer.factor if isinstance(layer, Taller) else layer.upscale_factor
            return self._followed(self.height * more, lambda source: _more(source, layer, more))
        if isinstance(layer, nn.PixelUnshuffle | nn.AvgPool2d):
            pool = isinstance(layer, nn.AvgPool2d)
            fewer = _pair(layer.kernel_size)[0] if pool else layer.downscale_factor
            return self._followed(self.height // fewer, lambda source: _fewer(source, layer, fewer))
        if isinstance(layer, Tanh):
            return self.joined(tanh)
        if isinstance(layer, nn.Module) and not isinstance(layer, _POINTWISE):
            return _given(layer(self.into()), self.count)  # who knows what it looks at
        return self.joined(layer)

    def _followed(self, height: int, take: Callable[[Take], Take]) -> "_Strips":
        """A map of so many rows, each read from where it lies in this one."""

        def opened(lag: int) -> Take:
            return _at_most(height, take(self.open(lag * self.height // height)))

        return _Strips(height, self.count, opened)

    def _convolved(self, conv: nn.Conv2d) -> "_Strips":
        above, step = _pair(conv.padding)[0], _pair(conv.stride)[0]
        height = (self.height + 2 * above - _extent(conv)) // step + 1
        if _extent(conv) == 1 and step == 1:
            return self._followed(height, lambda source: lambda n, _: conv(source(n, None)))

        def opened(lag: int) -> Take:
            lag *= step
            convolve = _without_rows(conv)
            if self.map is not None and lag >= above:  # the rows above are still there
                return _at_most(height, _convolved_map(self.map, conv, convolve))
            return _at_most(height, _convolved(self.open(lag + above), conv, convolve))

        return _Strips(height, self.count, opened)

    def joined(self, function: Callable[..., Tensor], *others: Rows) -> "_Strips":
        parts = (self, *(cast(_Strips, other) for other in others))

        def opened(lag: int) -> Take:
            takes = [part.open(lag) for part in parts]

            def joined(n: int, out: Tensor | None) -> Tensor:
                maps = [take(n, None) for take in takes]
                if out is None or function not in _WRITING:
                    return function(*maps)
                return function(*maps, out=out[..., : maps[0].shape[-2], :])

            return joined

        return _Strips(self.height, self.count, opened)

    def into(self, place: Tensor | None = None) -> Tensor:
        take, step = self.open(0), -(-self.height // self.count)
        for top in range(0, self.height, step):
            here = None if place is None else place[..., top : top + step, :]
            part = take(min(step, self.height - top), here)
            if place is None:
                place = _empty(part, self.height)
            _put(part, place, top)
        return cast(Tensor, place)


def _given(x: Tensor, count: int) -> _Strips:
    """A map that is there."""
    return _Strips(x.shape[-2], count, lambda _: _reader(x), x)


def _reader(x: Tensor) -> Take:
    """Rows of a map that is there."""
    top = 0

    def take(n: int, out: Tensor | None) -> Tensor:
        nonlocal top
        part = x[..., top : top + n, :]
        top += n
        return part

    return take


def _without_rows(conv: nn.Conv2d) -> Layer:
    """A convolution that adds no rows above and below."""
    kernel = conv.unit_weight() if isinstance(conv, SpectralConv2d) else conv.weight
    padding = 0, _pair(conv.padding)[1]
    return lambda x: functional.conv2d(
        x, kernel, conv.bias, conv.stride, padding, conv.dilation, conv.groups
    )


def _convolved_map(x: Tensor, conv: nn.Conv2d, convolve: Layer) -> Take:
    """Rows of the convolution of a map that is there."""
    above, step, extent = _pair(conv.padding)[0], _pair(conv.stride)[0], _extent(conv)
    first = -above

    def take(n: int, out: Tensor | None) -> Tensor:
        nonlocal first
        end = first + (n - 1) * step + extent
        beyond = max(-first, 0), max(end - x.shape[-2], 0)
        seen = x[..., max(first, 0) : end, :]
        first += n * step
        return convolve(functional.pad(seen, (0, 0, *beyond)) if any(beyond) else seen)

    return take


def _convolved(source: Take, conv: nn.Conv2d, convolve: Layer) -> Take:
    """Rows of the convolution of rows as they come."""
    above, step, extent = _pair(conv.padding)[0], _pair(conv.stride)[0], _extent(conv)
    window = torch.empty(0)  # the last rows, then the new ones; one piece of memory for all strips
    kept = above

    def take(n: int, out: Tensor | None) -> Tensor:
        nonlocal window, kept
        rows = (n - 1) * step + extent
        part = source(rows - kept, window[..., kept:, :] if window.numel() else None)
        if not window.numel():
            window = _empty(part, rows)
            window[..., :above, :] = 0
        end = kept + part.shape[-2]
        _put(part, window, kept)
        window[..., end:rows, :] = 0  # below the map
        seen = window[..., :rows, :]
        result = convolve(seen)
        kept = extent - step
        last = seen[..., rows - kept :, :]
        window[..., :kept, :] = last if 2 * kept <= rows else last.clone()
        return result

    return take


def _at_most(height: int, source: Take) -> Take:
    """Rows of a map that has so many in all: nobody below is asked for those beyond."""
    left, last = height, torch.empty(0)

    def take(n: int, out: Tensor | None) -> Tensor:
        nonlocal left, last
        n = min(n, left)
        left -= n
        last = source(n, out) if n else last[..., :0, :]
        return last

    return take


def _fewer(source: Take, layer: Layer, factor: int) -> Take:
    """Rows each of which is made of so many."""
    return lambda n, _: layer(source(factor * n, None))


def _more(source: Take, layer: Layer, factor: int) -> Take:
    """Rows of which one makes so many; what is left of them waits."""
    rest = torch.empty(0)

    def take(n: int, out: Tensor | None) -> Tensor:
        nonlocal rest
        held = rest.shape[-2] if rest.numel() else 0
        part = layer(source(-(-(n - held) // factor), None))
        if held:
            part = torch.cat([rest, part], dim=-2)
        rest = part[..., n:, :]
        return part[..., :n, :]

    return take


def _empty(part: Tensor, height: int) -> Tensor:
    """A map of so many rows like those of a part."""
    size = (*part.shape[:2], height, part.shape[3])
    return part.new_empty(size).contiguous(memory_format=torch.channels_last)


def _put(part: Tensor, place: Tensor, top: int) -> None:
    """Copy rows to where they belong, unless they were written there."""
    target = place[..., top : top + part.shape[-2], :]
    if target.data_ptr() != part.data_ptr():
        target.copy_(part)


def _extent(conv: nn.Conv2d) -> int:
    """Rows that one row of a convolution's result looks at."""
    return conv.dilation[0] * (conv.kernel_size[0] - 1) + 1


def _pair(size: object) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else cast(tuple[int, int], size)
