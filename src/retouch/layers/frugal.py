"""Functions of single pixels that take no map of their own, or write where they are told."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

__all__ = ["Tanh", "gelu", "of_sum", "summed", "tanh", "tanh_of_sum"]


class Tanh(nn.Module):
    """Hyperbolic tangent in place, for maps of which only the result is read."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


def tanh(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Compute the hyperbolic tangent in place of x, or into `out`."""
    return torch.tanh_(x) if out is None else torch.tanh(x, out=out)


def summed(x: Tensor, y: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Compute x + y in place of x, or into `out`."""
    return x.add_(y) if out is None else torch.add(x, y, out=out)


def tanh_of_sum(x: Tensor, y: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Compute tanh(x + y) in place of x, or into `out`; `Lookup` does it in one go."""
    if has_torch_function((x, y)):
        return handle_torch_function(tanh_of_sum, (x, y), x, y, out=out)
    return tanh(x.add_(y), out=out)


def of_sum(act: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the function that applies an activation to a sum of two maps; the first is lost."""
    return tanh_of_sum if isinstance(act, Tanh) else lambda x, y: act(summed(x, y))


def gelu(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Compute GELU(x), or write it into `out`; x stays."""
    if has_torch_function((x,)):
        return handle_torch_function(gelu, (x,), x, out=out)
    result = functional.gelu(x)
    return result if out is None else out.copy_(result)
