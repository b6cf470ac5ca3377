"""LPIPS against the official code (package lpips 0.1.4), run once on weights rebuilt here."""

import numpy as np
import pytest
import torch
from streams import kernel, stream
from torch import Tensor

from retouch.evaluation.lpips import LPIPS
from retouch.weights.official import CheckpointError

# lpips.LPIPS(net=..., pretrained=False)(a, b, normalize=True), and its spatial=True map averaged
# over rows 16..39, columns 8..47, with the weights and pictures below.
OFFICIAL = {
    "alex": (0.16644702851772308, 0.17722199857234955),
    "vgg": (0.1920977532863617, 0.23491983115673065),
}


def official_state(metric: LPIPS) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    backbone: dict[str, Tensor] = {}
    shapes = {k: tuple(v.shape) for k, v in metric.state_dict().items()}
    for n in range(len(metric.convolutions)):
        shape = shapes[f"convolutions.{n}.weight"]
        backbone[f"features.{3 * n}.weight"] = kernel(100 + n, shape)
        backbone[f"features.{3 * n}.bias"] = torch.zeros(shape[0])
    backbone["classifier.6.weight"] = torch.zeros(1)  # torchvision's file has a classifier as well
    heads = {
        f"lin{n}.model.1.weight": torch.from_numpy(
            stream(200 + n, *shapes[f"heads.{n}.weight"]).astype(np.float32)
        )
        for n in range(len(metric.heads))
    }
    return backbone, heads


def pictures() -> tuple[Tensor, Tensor]:
    a, b = (np.repeat(np.repeat(stream(n, 8, 9, 3), 8, axis=0), 8, axis=1) for n in (1, 2))
    scaled = (np.floor(p * 256) / 255 for p in (a, 0.7 * a + 0.3 * b))
    x, y = (torch.from_numpy(p).permute(2, 0, 1)[None].float().clamp(max=1) for p in scaled)
    return x, y


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_agrees_with_the_official_code(backbone):
    metric = LPIPS(backbone)
    metric.load(*official_state(metric))
    a, b = pictures()
    hole = torch.zeros(1, 1, 64, 72)
    hole[..., 16:40, 8:48] = 1
    whole, region = OFFICIAL[backbone]
    assert metric(a, b).item() == pytest.approx(whole, rel=1e-5)
    assert metric(a, b, hole).item() == pytest.approx(region, rel=1e-5)
    assert metric(a, a).item() == 0
    both = metric(torch.cat([a, a]), torch.cat([b, a]))
    torch.testing.assert_close(both, torch.tensor([whole, 0.0]), rtol=1e-5, atol=1e-7)


def test_reads_the_jax_layout():
    metric, other = LPIPS(), LPIPS()
    state, heads = official_state(metric)
    name = "AlexNet_0"
    jax: dict[str, np.ndarray] = {"NetLinLayer_0.Conv_0.kernel": np.zeros((1, 1, 64, 1))}
    for n in reversed(range(len(metric.convolutions))):  # the file's order is not the layers'
        jax[f"{name}.Conv_{n}.kernel"] = (
            state[f"features.{3 * n}.weight"].permute(2, 3, 1, 0).numpy()
        )
        jax[f"{name}.Conv_{n}.bias"] = state[f"features.{3 * n}.bias"].numpy()
    metric.load(state, heads)
    other.load(jax, heads)
    for key, value in metric.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_the_smallest_side_is_right(backbone):
    metric = LPIPS(backbone)
    least = torch.rand(1, 3, metric.smallest, metric.smallest)
    assert metric(least, least).item() == 0
    with pytest.raises(RuntimeError):
        metric(least[..., :-1], least[..., :-1])


def test_other_weights_are_refused_in_one_line():
    metric = LPIPS("alex")
    backbone, heads = official_state(metric)
    del backbone["features.12.bias"]
    with pytest.raises(CheckpointError, match=r"not the weights of LPIPS \(alex\)") as caught:
        metric.load(backbone, heads)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError):
        metric.load({}, {})


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match="'alex' or 'vgg'"):
        LPIPS("squeeze")  # pyright: ignore[reportArgumentType]
