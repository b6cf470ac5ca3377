"""Snake orders over a picture and the sinusoidal position table along them (SEM-Net, Sec. 3.2).

A snake visits every pixel once and only ever steps to a neighbour: row 0 from left to right, row 1
from right to left, and so on; the vertical snake does the same with columns. Tokens never move in
memory. An order is a list of pixel numbers (row-major), and whoever walks it reads the tokens where
they lie.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Stretch(NamedTuple):
    """Some neighbouring rows or columns of a picture, and the snake through them."""

    rows: slice
    columns: slice
    order: Tensor
    """(h' * w',) numbers of the stretch's own pixels in the order of the visit."""
    positions: Tensor
    """(h', w', c) sinusoids of each pixel's place in the whole walk."""

    def of(self, x: Tensor) -> Tensor:
        """Look at this part of a map: (b, c, h, w) to (b, h', w', c)."""
        return x[:, :, self.rows, self.columns].permute(0, 2, 3, 1)


def snake_walks(
    height: int,
    width: int,
    frequencies: tuple[float, ...],
    like: Tensor,
    parts: int = 1,
) -> tuple[list[Stretch], list[Stretch]]:
    """Return the horizontal and the vertical snake, each in at most so many stretches.

    Positions are on the device and in the dtype of `like`.
    """
    return (
        _stretches(height, width, frequencies, like, parts, vertical=False),
        _stretches(height, width, frequencies, like, parts, vertical=True),
    )


def _stretches(
    height: int,
    width: int,
    frequencies: tuple[float, ...],
    like: Tensor,
    parts: int,
    *,
    vertical: bool,
) -> list[Stretch]:
    lines, length = (width, height) if vertical else (height, width)
    step = -(-lines // parts)
    step += step % 2  # each stretch begins where a snake does
    walk: list[Stretch] = []
    for start in range(0, lines, step):
        some, every = slice(start, min(start + step, lines)), slice(None)
        rows, columns = (every, some) if vertical else (some, every)
        size = len(range(height)[rows]), len(range(width)[columns])
        order = snake_order(*size, vertical=vertical, device=like.device)
        table = position_table(order, frequencies, first=start * length).to(like.dtype)
        walk.append(Stretch(rows, columns, order, table.view(*size, -1)))
    return walk


def snake_order(height: int, width: int, *, vertical: bool, device: torch.device) -> Tensor:
    """List the pixels in the order in which a snake visits them.

    Args:
        height: Rows [px].
        width: Columns [px].
        vertical: Along columns instead of rows.
        device: Where the result lies.

    Returns:
        (height * width,) int64 row-major pixel numbers.

    >>> snake_order(3, 4, vertical=False, device=torch.device("cpu")).tolist()
    [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]
    >>> snake_order(3, 4, vertical=True, device=torch.device("cpu")).tolist()
    [0, 4, 8, 9, 5, 1, 2, 6, 10, 11, 7, 3]
    """
    grid = torch.arange(height * width, device=device).view(height, width)
    if vertical:
        grid = grid.t()
    lines, length = grid.shape
    turned = (torch.arange(lines, device=device) % 2 == 1).view(lines, 1)
    return torch.where(turned, grid.flip(1), grid).reshape(lines * length)


def position_frequencies(channels: int) -> tuple[float, ...]:
    """Angular frequencies of the position table, exactly as float32 code on a CPU makes them.

    At position 65,535 one unit in the last place of a frequency moves the phase by up to 0.004, so
    they are computed once, on the CPU, whatever device the network runs on.

    Args:
        channels: Channels of the tokens; even.

    Returns:
        `channels / 2` frequencies [rad per step].
    """
    even = torch.arange(0, channels, 2, dtype=torch.float32, device="cpu")
    return tuple(torch.exp(even * (-math.log(10000.0) / channels)).tolist())


def position_table(order: Tensor, frequencies: tuple[float, ...], first: int = 0) -> Tensor:
    """Sinusoids of each pixel's position along a snake.

    Args:
        order: (l,) a snake order.
        frequencies: From `position_frequencies`.
        first: Position of the first pixel that is visited.

    Returns:
        (l, 2 * len(frequencies)) float32, row p for pixel p; even channels are sines, odd ones
        cosines.
    """
    step = torch.empty_like(order)
    step[order] = torch.arange(first, first + len(order), device=order.device)
    angle = step.float()[:, None] * torch.tensor(
        frequencies, dtype=torch.float32, device=order.device
    )
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
