"""The GPU kernels of the selective scan as operators of torch, with their gradient.

The operators are opaque to torch.compile and need no Triton until they run.
"""

import importlib.util
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["scan", "takes"]


def takes(x: Tensor) -> bool:
    """Whether the kernels scan such tokens: on a CUDA device, of up to 32 bits."""
    return x.device.type == "cuda" and x.dtype != torch.float64 and _triton_runs()


def _triton_runs() -> bool:
    return _triton_is_usable() and not torch.onnx.is_in_onnx_export()


# All that torch.compiler.assume_constant_result does, without its import of torch._dynamo.
vars(_triton_runs)["_dynamo_marked_constant"] = True


@lru_cache
def _triton_is_usable() -> bool:
    if importlib.util.find_spec("triton") is None or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability() >= (8, 0)  # older ones have no bf16


@torch.library.custom_op("retouch::selective_scan_gpu", mutates_args=())
def scan(
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    gate: Tensor,
    order: Tensor,
) -> Tensor:
    """Run `selective_scan` on the GPU; floats of up to 32 bits, arithmetic in float32."""
    from retouch.layers import _scan_triton

    return _scan_triton.scan([x, delta, a, b, c, d, gate], order)


@scan.register_fake
def _(
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    gate: Tensor,
    order: Tensor,
) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("retouch::selective_scan_gpu_backward", mutates_args=())
def _backward(dy: Tensor, operands: list[Tensor], order: Tensor) -> list[Tensor]:
    from retouch.layers import _scan_triton

    return _scan_triton.scan_backward(dy, operands, order)


@_backward.register_fake
def _(dy: Tensor, operands: list[Tensor], order: Tensor) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in operands]


def _gradient(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    *operands, order = ctx.saved_tensors
    return *_backward(dy, operands, order), None


scan.register_autograd(
    _gradient, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs)
)
