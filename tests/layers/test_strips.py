"""Strips give what the whole map gives, and no gradient is lost."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from retouch import models
from retouch.layers import strips
from retouch.layers.frugal import Tanh


@pytest.fixture
def small_strips(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strips, "_LARGE", 1 << 10)
    monkeypatch.setattr(strips, "_STRIP", 1 << 10)


@pytest.mark.parametrize("height", [16, 32, 64, 110])
def test_strips_of_convolutions_agree_with_the_whole(small_strips: None, height: int):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), Tanh(), nn.Conv2d(8, 8, 5, padding=2))
    half = nn.Conv2d(8, 4, 4, stride=2, padding=1)
    x, wide = torch.randn(2, 2, height, 24), torch.randn(2, 2, 2 * height, 48)

    def joined(x: Tensor, wide: Tensor) -> Tensor:
        doubled = nn.functional.interpolate(x, scale_factor=2.0)
        return layers(torch.cat([doubled, wide], dim=1))

    with torch.inference_mode():
        found = strips.in_strips(joined, x, wide, halo=3, scale=2)
        assert_close(found, joined(x, wide))
        assert_close(strips.in_strips(half, found, halo=2, scale=0.5), half(found))


@pytest.mark.parametrize("dilation", [1, 4, 12])
@pytest.mark.parametrize("height", [16, 17, 50, 96])
def test_a_sum_in_strips_agrees_and_overwrites_its_map(
    small_strips: None, height: int, dilation: int
):
    torch.manual_seed(0)
    wide = nn.Conv2d(4, 4, 3, padding=dilation, dilation=dilation)
    layers = nn.Sequential(nn.GELU(), wide, nn.GELU(), nn.Conv2d(4, 4, 3, padding=1))
    x = torch.randn(1, 4, height, 20)
    with torch.inference_mode():
        wanted = torch.tanh(x + layers(x))
        assert_close(strips.add_in_strips(list(layers), x, after=torch.tanh), wanted)
        assert height == 16 or torch.equal(x, strips.add_in_strips([torch.zeros_like], x))


def test_maps_that_want_a_gradient_stay_whole(small_strips: None):
    conv = nn.Conv2d(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 64, 64)
    before = x.clone()
    strips.add_in_strips([conv], x, after=torch.tanh_).sum().backward()
    assert torch.equal(x, before)
    assert conv.weight.grad is not None


@pytest.mark.parametrize("name", ["dilated", "isnet"])
def test_networks_in_strips_agree(monkeypatch: pytest.MonkeyPatch, name: str):
    torch.manual_seed(0)
    network = models.build(name, **models.card(name).small).eval()
    for weight in network.parameters():
        if weight.ndim == 4 and not weight.any():
            nn.init.normal_(weight, std=0.05)
    image, mask = torch.rand(2, 3, 160, 176), torch.zeros(2, 1, 160, 176)
    mask[..., 40:90, 50:120] = 1
    with torch.inference_mode():
        whole = network(image, mask)
        monkeypatch.setattr(strips, "_LARGE", 1 << 10)
        monkeypatch.setattr(strips, "_STRIP", 1 << 12)
        assert_close(network(image, mask), whole, rtol=0, atol=1e-5)
