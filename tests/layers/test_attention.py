"""Attention whose scores are never stored equals attention by its definition."""

import pytest
import torch

from retouch.layers import attention
from retouch.layers.attention import attend_in_blocks


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "_BLOCK", 40)


def operands() -> list[torch.Tensor]:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 9, 3), torch.randn(2, 3, 12), torch.randn(2, 12, 5)
    return [x.double().requires_grad_() for x in (query, key, value)]


def test_blocks_follow_the_definition():
    query, key, value = operands()
    found = attend_in_blocks(query, key, value)
    torch.testing.assert_close(found, torch.softmax(query @ key, dim=2) @ value)


def test_gradients_of_blocks():
    assert torch.autograd.gradcheck(attend_in_blocks, operands())


def test_values_decide_the_type_even_under_autocast():
    query, key, value = (x.detach().float() for x in operands())
    with torch.autocast("cpu", torch.bfloat16):
        found = attend_in_blocks(query, key, value.bfloat16())
    assert found.dtype == torch.bfloat16
    exact = torch.softmax(query @ key, dim=2) @ value
    torch.testing.assert_close(found.float(), exact, rtol=0.03, atol=0.03)
