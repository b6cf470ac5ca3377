"""Content and style losses against sums written out in numpy, and on VGG's official layout."""

import numpy as np
import pytest
import torch

from retouch.losses.perceptual import (
    CONTENT_LAYERS,
    STYLE_LAYERS,
    content,
    gram,
    style,
    unit_content,
)


def features(*shapes: tuple[int, int, int, int]) -> dict[str, torch.Tensor]:
    return {f"layer{index}": torch.rand(shape) for index, shape in enumerate(shapes)}


def test_gram_is_the_mean_product_of_channels():
    x = torch.rand(2, 3, 4, 5)
    truth = np.zeros((2, 3, 3))
    for b in range(2):
        for i in range(3):
            for j in range(3):
                truth[b, i, j] = (x[b, i].double() * x[b, j].double()).sum() / (3 * 4 * 5)
    np.testing.assert_allclose(gram(x).numpy(), truth, rtol=1e-6)


def test_content_sums_mean_differences_over_layers():
    shapes = (2, 3, 8, 8), (2, 6, 4, 4)
    found, target = features(*shapes), features(*shapes)
    truth = sum(np.abs(found[k].numpy() - target[k].numpy()).mean() for k in found)
    np.testing.assert_allclose(float(content(found, target)), truth, rtol=1e-6)


def test_style_sums_mean_gram_differences_over_layers():
    shapes = (2, 3, 8, 8), (2, 6, 4, 4)
    found, target = features(*shapes), features(*shapes)
    truth = sum(np.abs(gram(found[k]).numpy() - gram(target[k]).numpy()).mean() for k in found)
    np.testing.assert_allclose(float(style(found, target)), truth, rtol=1e-6)


def test_other_layers_of_the_target_do_not_count():
    found = features((1, 2, 4, 4))
    target = features((1, 2, 4, 4), (1, 2, 2, 2))
    assert content(found, target) == (found["layer0"] - target["layer0"]).abs().mean()


def test_equal_pictures_cost_nothing():
    found = features((1, 2, 4, 4))
    assert content(found, found) == 0
    assert style(found, found) == 0


def test_layers_are_edgeconnects():
    assert CONTENT_LAYERS == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    assert STYLE_LAYERS == ("relu2_2", "relu3_4", "relu4_4", "relu5_2")


def test_unit_content_compares_directions():
    prediction, target = features((2, 5, 3, 4), (2, 3, 2, 2)), features((2, 5, 3, 4), (2, 3, 2, 2))
    expected = 0.0
    for key, ours in prediction.items():
        a, b = (x.double() for x in (ours, target[key]))
        unit = a / torch.linalg.vector_norm(a, dim=1, keepdim=True)
        wanted = b / torch.linalg.vector_norm(b, dim=1, keepdim=True)
        expected += float(((unit - wanted) ** 2).sum(dim=1).mean())
    assert float(unit_content(prediction, target)) == pytest.approx(expected, rel=1e-5)


def test_unit_content_has_the_gradient_of_its_formula():
    target = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    target[0, :, 1, 1] = 0  # no direction there
    prediction = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: unit_content({"a": x}, {"a": target}), prediction)


def test_unit_content_of_equal_maps_in_bfloat16_is_nothing():
    maps = torch.rand(2, 64, 8, 8).bfloat16().requires_grad_()
    loss = unit_content({"a": maps}, {"a": maps.detach()})
    (gradient,) = torch.autograd.grad(loss, maps)
    assert abs(float(loss.detach())) < 1e-6
    assert float(gradient.float().abs().max()) < 1e-5


def test_maps_without_a_direction_cost_what_the_other_has():
    nothing = torch.zeros(1, 4, 2, 2, requires_grad=True)
    assert float(unit_content({"a": nothing}, {"a": torch.zeros(1, 4, 2, 2)}).detach()) == 0
    loss = unit_content({"a": nothing}, {"a": torch.ones(1, 4, 2, 2)})
    (gradient,) = torch.autograd.grad(loss, nothing)
    assert float(loss.detach()) == pytest.approx(1)
    assert bool(torch.isfinite(gradient).all())
