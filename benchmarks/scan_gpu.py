"""The selective scan on a GPU: right first, then how fast, beside the torch form.

Compares the kernels and their gradients with the torch form in float64 on the GPU at hand, and
stops if they differ. Then times SEM-Net's scans of one 256 x 256 px picture, forward and backward,
in the kernels and in the torch form. The share of the memory bandwidth is that of the least traffic
there can be, in which every long operand, result or gradient passes once, against what a copy
reaches on the same GPU.

This script was written where there is no GPU: it has run here against Triton's interpreter as far
as the comparison goes, never to its end. See docs/speed.md for whether it has since.

    python benchmarks/scan_gpu.py
    python benchmarks/scan_gpu.py --dtype bfloat16 --batch 8
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retouch.layers import _scan_gpu
from retouch.layers.selective_scan import selective_scan
from retouch.layers.snake import snake_order

NAMES = ("y", "x", "delta", "a", "b", "c", "d", "gate")
STATES = 16
SCANS = ((8, 96, 256), (24, 192, 128), (24, 384, 64), (16, 768, 32), (8, 192, 256))
"""How many scans of SEM-Net, channels, side of the map [px]."""
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 2**-7}
"""Largest error, relative to the largest number; exp2 of a GPU is right to 2 units of the last."""


def operands(
    batch: int, channels: int, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """Operands with the spread of a trained network, along a vertical snake; a and d in float32."""
    length = height * width
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    rates = -torch.arange(1.0, STATES + 1) * (0.5 + torch.rand(channels, 1, generator=draw))
    long = [normal(batch, length, channels) for _ in range(3)]
    b, c = normal(batch, length, STATES).to(dtype), normal(batch, length, STATES).to(dtype)
    x, delta, gate = (tensor.to(dtype) for tensor in (long[0], long[1] * 2 - 4, long[2]))
    tensors = [x, delta, rates, b, c, normal(channels), gate]
    order = snake_order(height, width, vertical=True, device=device)
    return [tensor.to(device) for tensor in tensors], order


def differences(tensors: list[Tensor], order: Tensor) -> dict[str, float]:
    """Errors of the result and the gradients of the kernels, relative to their largest number."""
    results: list[list[Tensor]] = []
    for given in (tensors, [tensor.double() for tensor in tensors]):  # float64 takes the torch form
        leaves = [tensor.detach().clone().requires_grad_() for tensor in given]
        y = selective_scan(*leaves, order=order)
        weights = torch.cos(torch.arange(y.numel(), device=y.device)).view(y.shape).to(tensors[0])
        results.append([y.detach(), *torch.autograd.grad(y, leaves, weights.to(y.dtype))])
    found = {}
    for name, ours, truth in zip(NAMES, *results, strict=True):
        found[name] = float((ours.double() - truth).abs().max() / truth.abs().max())
    return found


def check(device: torch.device, sizes: tuple[tuple[int, int, int, int], ...]) -> None:
    """Stop if a result or a gradient is wrong."""
    for dtype, bound in BOUNDS.items():
        for size in sizes:
            errors = differences(*operands(*size, dtype=dtype, device=device))
            print(dtype, size, " ".join(f"{name} {error:.1e}" for name, error in errors.items()))
            wrong = [name for name, error in errors.items() if not error < bound]
            if wrong:
                raise SystemExit(f"{', '.join(wrong)} differ by more than {bound:.1e}")


def milliseconds(prepare: Callable[[], Any], work: Callable[[Any], object], repeats: int) -> float:
    """Median time on the GPU of some work on what was prepared, after three runs to warm up."""
    times: list[float] = []
    for _ in range(repeats + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        prepared = prepare()
        start.record()
        work(prepared)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[3:])


def copy_bandwidth(device: torch.device, repeats: int) -> float:
    """Bytes per millisecond that a copy of 1 GiB reads and writes."""
    source = torch.zeros(2**28, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: None, lambda _: target.copy_(source), repeats)


def measure(tensors: list[Tensor], order: Tensor, repeats: int) -> tuple[float, float, float]:
    """Milliseconds forward (no gradient wanted) and backward; GiB added at the peak of both."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]

    def scan() -> Tensor:
        return selective_scan(*leaves, order=order)

    with torch.no_grad():
        forward = milliseconds(lambda: None, lambda _: scan(), repeats)
        dy = torch.ones_like(scan())
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    backward = milliseconds(scan, lambda y: torch.autograd.grad(y, leaves, dy), repeats)
    return forward, backward, (torch.cuda.max_memory_allocated() - held) / 2**30


def main() -> None:
    """Check, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    device = torch.device("cuda")
    if not torch.cuda.is_available() or not _scan_gpu.takes(torch.empty(0, device=device)):
        raise SystemExit("this needs an NVIDIA GPU of compute capability 8.0 or more, and Triton")
    check(device, ((2, 40, 5, 14), (1, 96, 61, 83), (3, 33, 256, 256)))
    bandwidth = copy_bandwidth(device, options.repeats)
    print(f"{torch.cuda.get_device_name()}, copies at {bandwidth / 1e9:.2f} TB/s")
    print("| scans | channels | steps | form | forward/ms | share | backward/ms | share | GiB |")
    print("|---" * 9 + "|")
    dtype = getattr(torch, options.dtype)
    totals = {"kernels": [0.0, 0.0], "torch": [0.0, 0.0]}
    takes = _scan_gpu.takes
    for count, channels, side in SCANS:
        tensors, order = operands(options.batch, channels, side, side, dtype, device)
        long, short = tensors[0].nbytes, tensors[3].nbytes
        least = 4 * long + 2 * short, 7 * long + 4 * short
        for form, total in totals.items():
            _scan_gpu.takes = takes if form == "kernels" else lambda x: False
            *times, peak = measure(tensors, order, options.repeats)
            shares = [size / time / bandwidth for size, time in zip(least, times, strict=True)]
            cells = [f"{time:.3f} | {share:.0%}" for time, share in zip(times, shares, strict=True)]
            row = [count, channels, side * side, form, *cells, f"{peak:.2f}"]
            print("|", " | ".join(map(str, row)), "|", flush=True)
            total[:] = [s + count * t for s, t in zip(total, times, strict=True)]
    for form, (forward, backward) in totals.items():
        print(f"All 80 scans, {form}: {forward:.1f} ms forward, {backward:.1f} ms backward")


if __name__ == "__main__":
    main()
