"""Layers that PyTorch has, in the form that is fast here, give PyTorch's numbers."""

from functools import partial

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from retouch.layers.lookup import Lookup
from retouch.layers.normalization import InstanceNorm2d, instance_norm
from retouch.layers.padding import mirrored


@pytest.mark.parametrize("batch", [1, 3])
def test_instance_norm_keeps_the_layout_and_pytorchs_numbers(batch: int):
    torch.manual_seed(0)
    x = torch.randn(batch, 6, 9, 7).to(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.randn(6), torch.randn(6)
    y = instance_norm(x, weight, bias, 1e-6)
    plain = x.detach().contiguous().requires_grad_()
    expected = functional.instance_norm(plain, weight=weight, bias=bias, eps=1e-6)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert_close(y, expected, rtol=1e-5, atol=1e-5)
    (y**3).sum().backward()
    (expected**3).sum().backward()
    assert_close(x.grad, plain.grad, rtol=1e-4, atol=1e-4)


def test_instance_norm_of_bf16_maps_with_float32_weights():
    torch.manual_seed(0)
    layer = InstanceNorm2d(4, affine=True)
    x = torch.randn(2, 4, 8, 8)
    found = layer(x.bfloat16().to(memory_format=torch.channels_last))
    assert found.dtype == torch.bfloat16
    assert_close(found.float(), layer(x), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    "function", [torch.tanh, functional.elu, torch.tanh_, partial(functional.elu, inplace=True)]
)
def test_tables_are_bit_identical(function):
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    maps = every.view(1, 4, 128, 128).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = function(maps.clone())
        with Lookup():
            found = function(maps.clone())
    assert found.stride() == maps.stride()
    assert torch.equal(found.view(torch.int16), expected.view(torch.int16))


def test_gelu_of_the_table_is_pytorchs_as_far_as_that_agrees_with_itself():
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    usual = every.nan_to_num(nan=0).clamp(-1e38, 1e38)  # above, one of its two kernels overflows
    maps = usual.view(1, 4, 128, 128).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Lookup():
        found = functional.gelu(maps)
    assert_close(found, functional.gelu(maps), rtol=0, atol=5e-6)


def test_tables_leave_training_and_other_numbers_alone():
    x = torch.randn(5, requires_grad=True, dtype=torch.bfloat16)
    with Lookup():
        torch.tanh(x).sum().backward()
        assert x.grad is not None
        assert_close(torch.tanh(torch.ones(3)), torch.ones(3).tanh())
        assert_close(functional.elu(torch.ones(3).bfloat16()[::2]), torch.ones(2).bfloat16())


@pytest.mark.parametrize(("side", "mode"), [(1, "replicate"), (2, "replicate"), (3, "reflect")])
def test_maps_are_mirrored_or_their_edge_is_repeated(side: int, mode: str):
    x = torch.randn(2, 3, side, 5, generator=torch.manual_seed(0)).requires_grad_()
    found, wanted = mirrored(x, 2), functional.pad(x, (2, 2, 2, 2), mode=mode)
    assert torch.equal(found, wanted)
    weights = torch.randn_like(wanted)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, wanted)]
    assert_close(*gradients)
