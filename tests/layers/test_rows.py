"""Strips give what the whole map gives, and no gradient is lost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from retouch import models
from retouch.layers import rows as strips
from retouch.layers.frugal import Tanh, gelu, summed, tanh_of_sum
from retouch.layers.lookup import Lookup
from retouch.layers.pixelwise import LayerNorm, Linear, Taller
from retouch.layers.rows import rows
from retouch.layers.spectral import SpectralConv2d


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strips, "_LARGE", 1 << 10)
    monkeypatch.setattr(strips, "_STRIP", 1 << 10)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch):
    """Computes something as it is and with every map in one piece."""

    def both(compute: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            found = compute()
            monkeypatch.setattr(strips, "_LARGE", 1 << 30)
            return found, compute()

    return both


CHAINS = {
    "convolutions": [nn.Conv2d(4, 8, 3, padding=1), Tanh(), nn.Conv2d(8, 8, 5, padding=2)],
    "spectral, dilated": [
        SpectralConv2d(4, 4, 3, padding=12, dilation=12).eval(),
        nn.LeakyReLU(0.2),
    ],
    "halved": [nn.Sequential(nn.Conv2d(4, 8, 4, stride=2, padding=1), nn.Conv2d(8, 8, 1))],
    "halved twice": [
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        Tanh(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
    ],
    "unfolded": [nn.Conv2d(4, 16, 1), nn.PixelShuffle(2), nn.Conv2d(4, 4, 7, padding=3)],
    "unfolded twice": [nn.Conv2d(4, 64, 3, padding=1), *[nn.PixelShuffle(2), Tanh()] * 2],
    "folded": [nn.PixelUnshuffle(2), gelu, nn.Conv2d(16, 4, 3, padding=1)],
    "pooled": [nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1)],
    "taller": [nn.Conv2d(4, 4, 3, padding=1), Taller(2), nn.Conv2d(4, 4, 5, padding=2)],
    "of pixels": [nn.Conv2d(4, 6, 3, padding=1), LayerNorm(6), nn.ReLU(), Linear(6, 4)],
    "looks at all": [nn.Conv2d(4, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.Conv2d(4, 4, 1)],
    "enlarged": [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 4, 3, padding=1)],
}


@pytest.mark.parametrize("height", [16, 18, 64, 110])
@pytest.mark.parametrize("chain", CHAINS)
def test_strips_agree_with_the_whole(
    whole: Callable[..., tuple[Tensor, Tensor]], chain: str, height: int
):
    torch.manual_seed(0)
    x = torch.randn(2, 4, height, 24).double()
    layers = [layer.double() if isinstance(layer, nn.Module) else layer for layer in CHAINS[chain]]
    found, wanted = whole(lambda: rows(x)[0].through(*layers).into())
    assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("height", [16, 18, 50, 110])
def test_maps_of_two_sizes_are_joined(whole: Callable[..., tuple[Tensor, Tensor]], height: int):
    torch.manual_seed(0)
    low = torch.randn(1, 8, height, 24).double()
    high = torch.randn(1, 3, 2 * height, 48).double()
    up = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.PixelShuffle(2)).double()
    merge = nn.Conv2d(7, 5, 3, padding=1).double()

    def compute() -> Tensor:
        small, large = rows(low, high)
        return small.through(up).beside(large).through(merge).into()

    found, wanted = whole(compute)
    assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dilation", [1, 2, 4, 12])
@pytest.mark.parametrize("height", [16, 17, 50, 96])
def test_a_sum_overwrites_its_map(height: int, dilation: int):
    torch.manual_seed(0)
    wide = nn.Conv2d(4, 4, 3, padding=dilation, dilation=dilation).double()
    last = nn.Conv2d(4, 4, 3, padding=1).double()
    x = torch.randn(1, 4, height, 20).double()
    with torch.inference_mode():
        for layers in ([wide, Tanh(), last], [gelu, wide, gelu, last], [wide]):
            given = x.clone()
            (known,) = rows(given)
            found = known.through(*layers).joined(tanh_of_sum, known).into(given)
            wanted = torch.tanh(x + nn.Sequential(*(_module(layer) for layer in layers))(x))
            assert_close(found, wanted, rtol=1e-10, atol=1e-10)
            assert found is given


def _module(layer: object) -> nn.Module:
    return layer if isinstance(layer, nn.Module) else nn.GELU()


def test_tables_write_where_they_are_told(whole: Callable[..., tuple[Tensor, Tensor]]):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, padding=1).to(torch.bfloat16)
    x = torch.randn(1, 8, 40, 24).bfloat16().contiguous(memory_format=torch.channels_last)

    def compute() -> Tensor:
        with Lookup():
            (known,) = rows(x)
            inner = known.through(gelu, conv, Tanh(), conv)
            return inner.joined(tanh_of_sum, known).through(conv).joined(summed, known).into()

    found, wanted = whole(compute)
    assert torch.equal(found, wanted)


def test_maps_that_want_a_gradient_stay_whole():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 64, 64)
    before = x.clone()
    (known,) = rows(x)
    known.through(conv).joined(tanh_of_sum, known).into(x).sum().backward()
    assert torch.equal(x, before)
    assert conv.weight.grad is not None


@pytest.mark.parametrize(
    ("name", "fields"),
    [("dilated", {}), ("isnet", {})]
    + [("isnet", {"variant": variant}) for variant in ("base", "base-ff", "unet")],
)
def test_networks_in_strips_agree(
    whole: Callable[..., tuple[Tensor, Tensor]], name: str, fields: dict[str, Any]
):
    torch.manual_seed(0)
    network = models.build(name, **models.card(name).small, **fields).double().eval()
    for weight in network.parameters():
        if weight.ndim == 4 and not weight.any():
            nn.init.normal_(weight, std=0.05)
    image, mask = torch.rand(2, 3, 160, 176).double(), torch.zeros(2, 1, 160, 176).double()
    mask[..., 40:90, 50:120] = 1
    found, wanted = whole(lambda: network(image, mask))
    assert_close(found, wanted, rtol=1e-10, atol=1e-10)
