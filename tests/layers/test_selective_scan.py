"""Snake orders, the selective scan and the causal convolution: every form against the reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from retouch.layers import selective_scan as module
from retouch.layers.selective_scan import (
    Carried,
    can_carry,
    causal_conv,
    causal_conv_reference,
    selective_scan,
    selective_scan_reference,
)
from retouch.layers.snake import position_frequencies, position_table, snake_order, snake_walks

CPU = torch.device("cpu")
NAMES = ("x", "delta", "a", "b", "c", "d", "gate")


def operands(height: int, width: int, channels: int, batch: int = 1) -> tuple[list[Tensor], Tensor]:
    """Float64 operands with the spread of a trained network, and a vertical snake."""
    length = height * width
    wide = (batch, length, channels)
    rates = -torch.arange(1.0, 17.0, dtype=torch.float64) * torch.empty(channels, 1).uniform_(
        0.5, 2
    )
    tensors = [
        torch.randn(wide),
        torch.randn(wide) * 2 - 4,
        rates,
        torch.randn(batch, length, 16),
        torch.randn(batch, length, 16),
        torch.randn(channels),
        torch.randn(wide),
    ]
    order = snake_order(height, width, vertical=True, device=CPU)
    return [tensor.double() for tensor in tensors], order


def relative(result: Tensor, truth: Tensor) -> float:
    return float(((result - truth).abs().max() / truth.abs().max()).detach())


@pytest.fixture(params=["kernels", "portable"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "kernels":
        pytest.importorskip("numba", reason="the CPU kernels need numba")
    else:
        monkeypatch.setattr(module, "_has_kernels", lambda: False)
    return request.param


# 3x5 is shorter than one tile of steps, 9x13 no multiple of one; 100 channels need two spans.
@pytest.mark.parametrize(("height", "width", "channels"), [(3, 5, 8), (9, 13, 12), (8, 16, 100)])
def test_scan_agrees_with_the_reference(form: str, height: int, width: int, channels: int):
    tensors, order = operands(height, width, channels, batch=2)
    truth = selective_scan_reference(*tensors, order=order)
    assert relative(selective_scan(*(t.float() for t in tensors), order=order), truth) < 2e-6
    if form == "portable":
        assert relative(selective_scan(*tensors, order=order), truth) < 1e-13


def test_gradients_agree_with_those_of_the_reference_in_float64(form: str):
    tensors, order = operands(6, 13, 100, batch=2)
    weights = torch.randn(2, 78, 100, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    truth = torch.autograd.grad(
        (selective_scan_reference(*leaves, order=order) * weights).sum(), leaves
    )
    leaves = [tensor.detach().float().requires_grad_() for tensor in tensors]
    ours = torch.autograd.grad(
        (selective_scan(*leaves, order=order) * weights.float()).sum(), leaves
    )
    errors = {n: relative(o, t) for n, o, t in zip(NAMES, ours, truth, strict=True)}
    assert max(errors.values()) < 1e-5, errors


def test_portable_form_passes_gradcheck(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_has_kernels", lambda: False)
    tensors, order = operands(2, 3, 2)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda *t: selective_scan(*t, order=order), leaves)


@pytest.mark.parametrize(("height", "width", "channels"), [(4, 5, 6), (8, 12, 9), (9, 13, 100)])
def test_conv_and_its_gradients_agree_with_the_reference(
    form: str, height: int, width: int, channels: int
):
    order = snake_order(height, width, vertical=True, device=CPU)
    shape = (2, height * width, channels)
    truths = [torch.randn(shape), torch.randn(channels, 4), torch.randn(channels)]
    weights = torch.randn(shape, dtype=torch.float64)
    leaves = [tensor.double().requires_grad_() for tensor in truths]
    y = causal_conv_reference(*leaves, order=order)
    gradients = torch.autograd.grad((y * weights).sum(), leaves)
    leaves = [tensor.clone().requires_grad_() for tensor in truths]
    ours = causal_conv(*leaves, order=order)
    assert relative(ours, y) < 2e-6
    for got, expected in zip(
        torch.autograd.grad((ours * weights.float()).sum(), leaves), gradients, strict=True
    ):
        assert relative(got, expected) < 1e-5


def test_reference_conv_is_causal_along_the_order():
    order = snake_order(3, 4, vertical=False, device=CPU)
    x = torch.zeros(1, 12, 1)
    x[0, 7] = 1  # the fifth step
    y = causal_conv_reference(x, torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.zeros(1), order)
    impulse = torch.nn.functional.silu(torch.tensor([0.0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0]))
    torch.testing.assert_close(y[0, :, 0], impulse)


def test_long_decays_neither_overflow_nor_vanish(form: str):
    tensors, order = operands(8, 8, 4)
    tensors[1] = torch.full_like(tensors[1], 40.0)  # steps of 40, |a| * step up to 1280
    truth = selective_scan_reference(*tensors, order=order)
    assert relative(selective_scan(*(t.float() for t in tensors), order=order), truth) < 2e-6


def test_bfloat16_is_computed_in_float32(form: str):
    tensors, order = operands(4, 4, 8)
    halves = [tensor.bfloat16() for tensor in tensors]
    expected = selective_scan_reference(*(t.double() for t in halves), order=order).bfloat16()
    result = selective_scan(*halves, order=order)
    assert result.dtype == torch.bfloat16
    assert relative(result.double(), expected.double()) < 2**-8


def test_wrong_shapes_are_named():
    tensors, order = operands(2, 3, 4)
    tensors[3] = tensors[3][:, 1:]
    with pytest.raises(ValueError, match=r"b must be of shape \(1, 6, 16\), got \(1, 5, 16\)"):
        selective_scan(*tensors, order=order)


@pytest.mark.parametrize("vertical", [False, True])
def test_snakes_visit_every_pixel_and_only_step_to_neighbours(vertical: bool):
    order = snake_order(5, 7, vertical=vertical, device=CPU).numpy()
    assert sorted(order) == list(range(35))
    rows, columns = np.divmod(order, 7)
    assert (np.abs(np.diff(rows)) + np.abs(np.diff(columns)) == 1).all()


@pytest.mark.parametrize("vertical", [False, True])
def test_stretches_are_the_snake_in_parts(vertical: bool):
    whole = snake_walks(10, 14, position_frequencies(6), torch.empty(0))[vertical][0]
    stretches = snake_walks(10, 14, position_frequencies(6), torch.empty(0), parts=3)[vertical]
    assert len(stretches) == 3
    numbers = torch.arange(140).view(1, 1, 10, 14)
    visited = [part.of(numbers).flatten()[part.order] for part in stretches]
    assert torch.equal(torch.cat(visited), whole.order)
    table = whole.positions.permute(2, 0, 1)[None]
    assert all(torch.equal(part.positions, part.of(table)[0]) for part in stretches)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_walk_in_stretches_is_the_walk(dtype: torch.dtype):
    pytest.importorskip("numba", reason="the CPU kernels need numba")
    torch.manual_seed(0)
    tensors, order = operands(9, 13, 12)
    x, delta, a, b, c, d, gate = (tensor.float() for tensor in tensors)
    x, delta, gate = (tensor.to(dtype) for tensor in (x, delta, gate))
    taps, bias, count = torch.randn(12, 4), torch.randn(12), len(order)
    carried = Carried(torch.zeros(len(x), 3, 12, dtype=dtype), torch.zeros(len(x), a.shape[1], 12))
    with torch.inference_mode():
        assert can_carry(x, a.shape[1])
        walk = selective_scan(x, delta, a, b, c, d, gate, order)
        row = causal_conv(x, taps, bias, order)
        for start, stop in ((0, 40), (40, 42), (42, 43), (43, count)):
            part, places = slice(start, stop), order[start:stop]
            own = torch.arange(stop - start)
            assert torch.equal(causal_conv(x[:, places], taps, bias, own, carried), row[:, part])
            scanned = (x[:, part], delta[:, part], a, b[:, part], c[:, part], d, gate[:, places])
            assert torch.equal(selective_scan(*scanned, own, carried), walk[:, places])


def test_positions_follow_the_snake():
    order = snake_order(3, 4, vertical=True, device=CPU)
    table = position_table(order, position_frequencies(6))
    steps = torch.arange(12.0)
    torch.testing.assert_close(table[order, 0], steps.sin())
    torch.testing.assert_close(table[order, 1], steps.cos())
    torch.testing.assert_close(table[order, 2], (steps * 10000 ** (-1 / 3)).sin())


def test_bf16_operands_give_what_float32_ones_give_rounded():
    pytest.importorskip("numba", reason="the CPU kernels need numba")
    tensors, order = operands(9, 13, 12)
    x, delta, a, b, c, d, gate = (tensor.float() for tensor in tensors)
    x, delta, gate = (tensor.bfloat16() for tensor in (x, delta, gate))
    taps, bias = torch.randn(12, 4), torch.randn(12)
    with torch.inference_mode():
        found = selective_scan(x, delta, a, b, c, d, gate, order)
        wide = selective_scan(x.float(), delta.float(), a, b, c, d, gate.float(), order)
        assert torch.equal(found, wide.bfloat16())
        row = causal_conv(x, taps, bias, order)
        assert torch.equal(row, causal_conv(x.float(), taps, bias, order).bfloat16())


def test_gradients_of_bf16_operands_are_those_of_float32_ones_rounded():
    pytest.importorskip("numba", reason="the CPU kernels need numba")
    tensors, order = operands(9, 13, 100)
    halves = [
        t.bfloat16() if name in ("x", "delta", "gate") else t.float()
        for name, t in zip(NAMES, tensors, strict=True)
    ]
    upstream = torch.randn(1, 117, 100).bfloat16()
    taps, bias = torch.randn(100, 4), torch.randn(100)

    def gradients(run: Callable[..., Tensor], operands: list[Tensor]) -> tuple[Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in operands]
        return torch.autograd.grad(run(*leaves, order), leaves, upstream.to(leaves[0].dtype))

    for run, values in ((selective_scan, halves), (causal_conv, [halves[0], taps, bias])):
        ours, wide = gradients(run, values), gradients(run, [t.float() for t in values])
        for value, mine, theirs in zip(values, ours, wide, strict=True):
            torch.testing.assert_close(mine, theirs.to(value.dtype), rtol=0, atol=0)
