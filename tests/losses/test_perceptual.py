"""Content and style losses against sums written out in numpy, and on VGG's official layout."""

import numpy as np
import torch

from retouch.losses.perceptual import CONTENT_LAYERS, STYLE_LAYERS, content, gram, style


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
