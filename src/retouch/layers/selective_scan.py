"""The selective scan of Mamba, and the causal convolution before it, along any order of tokens.

Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv:2312.00752,
Sec. 3; the formulas, gate and skip included, are those of state-spaces/mamba @ e9594ce
(Apache-2.0). Each channel has n states. A step of length s = softplus(delta) leads them on,

    h[t] = exp(s[t] a) h[t-1] + s[t] b[t] x[t]          y[t] = (c[t] . h[t] + d x[t]) silu(gate[t])

with h = 0 before the first step. Tokens lie where their pixels are, and `order` lists the pixels in
the order of the walk: `causal_conv` reads them along it and returns the tokens as a sequence,
`selective_scan` takes sequences and puts its results back in place. On a CPU and without gradients
a walk can be taken in stretches, each of which begins with what the one before `Carried`.

Four forms of the scan compute the same:
  - `selective_scan_reference`, one step after the other, to be read and to test against;
  - a portable one in torch, two-level: chunks of about sqrt(l) steps run side by side, their final
    states are carried from chunk to chunk, and the chunks run again from the right states. It
    multiplies only numbers in [0, 1]. The shorter ways overflow or are not exact: logarithms and a
    cumulative sum give NaN once a chunk's total of |a| s passes 88, and Mamba-2's matrix form needs
    one rate for all states of a head;
  - CPU kernels (`_scan_kernels.py`) where numba is installed; they compute in float32 and read and
    write bf16 too;
  - GPU kernels (`_scan_triton.py`) on CUDA devices from compute capability 8.0 on where Triton is
    installed; they read and write float32, bf16 and float16 and compute in float32.

Why numba: over the 80 scans of a 256x256 picture in SEM-Net, the kernel's inner loop costs 0.36 ns
per state and step, the same loop in C 0.28 compiled for the machine at hand (gcc -O3) and 0.30 for
AVX2, which is what a wheel could ship; the portable form takes 2 to 3.5. For that 20 % a C
extension would need a compiler or wheels for every platform, whereas numba comes from pip on Linux,
macOS and Windows and compiles for the actual processor.
"""

import importlib.util
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from retouch.layers import _scan_gpu

__all__ = [
    "Carried",
    "can_carry",
    "causal_conv",
    "causal_conv_reference",
    "numba_is_installed",
    "selective_scan",
    "selective_scan_reference",
]

TILE = 32
"""Steps between two states that the kernels keep for their backward pass."""
_BLOCK = 64
"""Channels that the portable form takes at a time on a CPU, so that its slabs stay in the cache."""


class Carried(NamedTuple):
    """What is left of a walk so far: zeros before its first step."""

    past: Tensor
    """(b, 3, d) the last tokens that `causal_conv` read."""
    states: Tensor
    """(b, n, d) float32, those of `selective_scan`."""


def can_carry(x: Tensor, states: int) -> bool:
    """Whether a walk over such tokens can be taken in stretches: where kernels run, no gradient."""
    busy = torch.is_grad_enabled() or torch.compiler.is_compiling()
    narrow = x.dtype in (torch.float32, torch.bfloat16)
    return not busy and x.device.type == "cpu" and narrow and states % 4 == 0 and _has_kernels()


def selective_scan_reference(
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    gate: Tensor,
    order: Tensor,
) -> Tensor:
    """Compute `selective_scan` step by step, in the dtype given."""
    step = functional.softplus(delta)
    h = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])  # (b, d, n)
    y: list[Tensor] = []
    for t in range(x.shape[1]):
        decay = torch.exp(step[:, t, :, None] * a)
        h = decay * h + (step * x)[:, t, :, None] * b[:, t, None, :]
        y.append((h * c[:, t, None, :]).sum(2) + d * x[:, t])
    return torch.stack(y, dim=1)[:, _inverse(order)] * functional.silu(gate)


def causal_conv_reference(x: Tensor, taps: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Compute `causal_conv` with a grouped convolution, in the dtype given."""
    width = taps.shape[1]
    sequence = functional.pad(x[:, order].transpose(1, 2), (width - 1, 0))  # (b, d, l + 3)
    y = functional.conv1d(sequence, taps[:, None], bias, groups=len(taps))
    return functional.silu(y).transpose(1, 2)


def selective_scan(  # noqa: PLR0913 (the operands of the scan)
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    gate: Tensor,
    order: Tensor,
    carried: Carried | None = None,
) -> Tensor:
    """Run a gated selective scan along an order; arithmetic in float32 (float64 if x is).

    Args:
        x: (b, l, d) tokens, as a sequence in the order of the walk.
        delta: (b, l, d), in the same order; softplus makes it the length of each step.
        a: (d, n) rates of the states, negative.
        b: (b, l, n) how tokens enter the states, in the order of the walk.
        c: (b, l, n) how states are read, in the order of the walk.
        d: (d,) how tokens skip the states.
        gate: (b, l, d), in place; SiLU of it multiplies the result.
        order: (l,) int64, a permutation: step t of the walk is at place `order[t]`.
        carried: Of the stretch before, where one `can_carry`; its states become those at the end.

    Returns:
        (b, l, d) in place and in the dtype of x.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    length, channels, states = x.shape[1], x.shape[2], a.shape[1]
    _check("delta", delta, x.shape)
    _check("a", a, (channels, states))
    _check("b", b, (x.shape[0], length, states))  # len(x) would fix the batch of graphs
    _check("c", c, (x.shape[0], length, states))
    _check("d", d, (channels,))
    _check("gate", gate, x.shape)
    _check("order", order, (length,))
    if _scan_gpu.takes(x):
        return _scan_gpu.scan(x, delta, a, b, c, d, gate, order)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    operands = [x, delta, a, b, c, d, gate]
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in operands)
    kernels = _has_kernels() and x.device.type == "cpu" and dtype == torch.float32
    if kernels and {x.dtype, delta.dtype, gate.dtype} == {torch.bfloat16}:
        a, b, c, d = (tensor.to(dtype) for tensor in (a, b, c, d))
        operands = [x, delta, a, b, c, d, gate]  # the kernels widen the long ones
    else:
        operands = [tensor.to(dtype) for tensor in operands]
    if carried is not None:
        from retouch.layers import _scan_kernels

        y, _ = _scan_kernels.scan(operands, order, keep=False, carried=carried.states)
        return y.to(x.dtype)
    if kernels and states % 4 == 0:
        return _scan_op(*operands, order, keep)[0].to(x.dtype)
    return _two_level([tensor.to(dtype) for tensor in operands], order).to(x.dtype)


def causal_conv(
    x: Tensor, taps: Tensor, bias: Tensor, order: Tensor, carried: Carried | None = None
) -> Tensor:
    """Convolve each channel along an order with its past, then SiLU; arithmetic in float32.

    Args:
        x: (b, l, d) tokens in place.
        taps: (d, 4) weights, that of the current token last; zeros lie before the first step.
        bias: (d,).
        order: (l,) int64, a permutation: step t of the walk is at place `order[t]`.
        carried: Of the stretch before, where one `can_carry`; its past becomes the last tokens.

    Returns:
        (b, l, d) as a sequence in the order of the walk, in the dtype of x.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    _check("taps", taps, (x.shape[2], 4))
    _check("bias", bias, (x.shape[2],))
    _check("order", order, (x.shape[1],))
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    operands = [tensor.to(dtype) for tensor in (x, taps, bias)]
    if _has_kernels() and x.device.type == "cpu" and dtype == torch.float32:
        if x.dtype == torch.bfloat16:
            operands[0] = x  # the kernel widens it
        y = _conv_op(*operands, order) if carried is None else _conv_on(operands, order, carried)
    else:
        y = causal_conv_reference(*operands, order=order)
    return y.to(x.dtype)


def _conv_on(operands: list[Tensor], order: Tensor, carried: Carried) -> Tensor:
    from retouch.layers import _conv_kernels

    (x, taps, bias), past = operands, carried.past
    y = _conv_kernels.conv(x, taps, bias, order, past.to(x.dtype))
    past.copy_(torch.cat([past, x[:, order[-3:]]], dim=1)[:, -3:])
    return y


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise ValueError(f"{name} must be of shape {tuple(shape)}, got {tuple(tensor.shape)}")


def _inverse(order: Tensor) -> Tensor:
    step = torch.empty_like(order)
    step[order] = torch.arange(len(order), device=order.device)
    return step


# ------------------------------------------------------------------------------------ portable form


def _two_level(operands: list[Tensor], order: Tensor) -> Tensor:
    x, delta, a, b, c, d, gate = operands
    batch, length, channels = x.shape
    steps = math.ceil(math.sqrt(length))
    chunks = -(-length // steps)
    # Row t holds step t of every chunk. What lies beyond the end comes after all that is asked for.
    grid = torch.arange(steps * chunks, device=x.device).clamp(max=length - 1)
    grid = grid.view(chunks, steps).t()

    def rows(sequence: Tensor) -> Tensor:  # (b, l, d) to (steps, b * chunks, d)
        return sequence[:, grid].transpose(0, 1).flatten(1, 2)

    inputs = rows(b), rows(c)
    width = _BLOCK if x.device.type == "cpu" and not _exporting() else channels
    parts: list[Tensor] = []
    for first in range(0, channels, width):
        block = slice(first, first + width)
        step = functional.softplus(delta[..., block])
        operands = [rows(step), rows(step * x[..., block]), a[block].t(), *inputs]
        if any(tensor.requires_grad for tensor in operands) and not _exporting():
            # The states of all steps would fill gigabytes: compute them again when they are needed.
            y = checkpoint(_chunked, *operands, chunks=chunks, use_reentrant=False)
        else:
            y = _chunked(*operands, chunks=chunks)
        y = y.view(steps, batch, chunks, -1).permute(1, 2, 0, 3)
        parts.append(y.reshape(batch, chunks * steps, -1)[:, :length])
    y = torch.cat(parts, dim=2) + d * x
    return y[:, _inverse(order)] * functional.silu(gate)


def _chunked(step: Tensor, drive: Tensor, a: Tensor, b: Tensor, c: Tensor, chunks: int) -> Tensor:
    """Scan (steps, b * chunks, d) with states (b * chunks, n, d); a is (n, d)."""

    def advance(h: Tensor, row: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        s, u, bt, ct = row
        decay = torch.exp(s.unsqueeze(1) * a)
        h = torch.addcmul(bt.unsqueeze(2) * u.unsqueeze(1), decay, h)
        return h, (ct.unsqueeze(1) @ h).squeeze(1)

    def carry(h: Tensor, row: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        final, decay = row
        return torch.addcmul(final, decay, h), h.clone()

    def columns(state: Tensor) -> Tensor:  # (b * chunks, n, d) to (chunks, b, n, d)
        return state.view(-1, chunks, *a.shape).transpose(0, 1)

    final, _ = _walk(advance, step.new_zeros(step.shape[1], *a.shape), (step, drive, b, c))
    decay = torch.exp(step.sum(0).unsqueeze(1) * a)
    start = step.new_zeros(step.shape[1] // chunks, *a.shape)
    _, starts = _walk(carry, start, (columns(final), columns(decay)))
    starts = starts.transpose(0, 1).reshape(final.shape)
    return _walk(advance, starts, (step, drive, b, c))[1]


_Rule = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, Tensor]]


def _walk(rule: _Rule, h: Tensor, rows: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Apply a rule to one row after the other; in an ONNX file this is one `Scan` node."""
    if _exporting():
        from torch._higher_order_ops.scan import scan

        return scan(rule, h, rows)
    results: list[Tensor] = []
    for row in zip(*(tensor.unbind(0) for tensor in rows), strict=True):
        h, result = rule(h, row)
        results.append(result)
    return h, torch.stack(results)


def _exporting() -> bool:
    """Whether the dynamo exporter makes an ONNX file (the older, tracing one unrolls the steps)."""
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return torch.onnx.is_in_onnx_export() and not tracing


# -------------------------------------------------------------------------------------- CPU kernels


@lru_cache
def numba_is_installed() -> bool:
    """Whether there can be CPU kernels."""
    return importlib.util.find_spec("numba") is not None


def _has_kernels() -> bool:
    return numba_is_installed() and not torch.onnx.is_in_onnx_export()


# All that torch.compiler.assume_constant_result does, without its import of torch._dynamo.
vars(_has_kernels)["_dynamo_marked_constant"] = True


@torch.library.custom_op("retouch::selective_scan", mutates_args=())
def _scan_op(  # noqa: PLR0913 (the operands of the scan)
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    gate: Tensor,
    order: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    from retouch.layers import _scan_kernels

    return _scan_kernels.scan([x, delta, a, b, c, d, gate], order, keep=keep)


@_scan_op.register_fake
def _(  # noqa: PLR0913
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    gate: Tensor,
    order: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    tiles = -(-x.shape[1] // TILE) if keep else 0
    return x.new_empty(x.shape), a.new_empty(x.shape[0], tiles, a.shape[1], x.shape[2])


@torch.library.custom_op("retouch::selective_scan_backward", mutates_args=())
def _scan_backward_op(
    dy: Tensor, operands: list[Tensor], order: Tensor, states: Tensor
) -> list[Tensor]:
    from retouch.layers import _scan_kernels

    return _scan_kernels.scan_backward(dy, operands, order, states)


@_scan_backward_op.register_fake
def _(dy: Tensor, operands: list[Tensor], order: Tensor, states: Tensor) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in operands]


def _keep_operands(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *operands, order, _ = inputs
    ctx.save_for_backward(*operands, order, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # zeros for the states would be made only to be thrown away


def _scan_gradient(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *operands, order, states = ctx.saved_tensors
    return *_scan_backward_op(dy, operands, order, states), None, None


_scan_op.register_autograd(_scan_gradient, setup_context=_keep_operands)


@torch.library.custom_op("retouch::causal_conv", mutates_args=())
def _conv_op(x: Tensor, taps: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    from retouch.layers import _conv_kernels

    return _conv_kernels.conv(x, taps, bias, order)


@_conv_op.register_fake
def _(x: Tensor, taps: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("retouch::causal_conv_backward", mutates_args=())
def _conv_backward_op(dy: Tensor, operands: list[Tensor], order: Tensor) -> list[Tensor]:
    from retouch.layers import _conv_kernels

    return _conv_kernels.conv_backward(dy, operands, order)


@_conv_backward_op.register_fake
def _(dy: Tensor, operands: list[Tensor], order: Tensor) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in operands]


def _conv_gradient(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    *operands, order = ctx.saved_tensors
    return *_conv_backward_op(dy, operands, order), None


_conv_op.register_autograd(
    _conv_gradient, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs)
)
