"""Differences of network features: content (perceptual) and style losses on VGG-19 maps."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CONTENT_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""EdgeConnect's content layers, also of ISNet and SEM-Net."""
STYLE_LAYERS = ("relu2_2", "relu3_4", "relu4_4", "relu5_2")
"""EdgeConnect's style layers, also of ISNet and SEM-Net."""


def content(prediction: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    """Sum over the layers of `prediction` of the mean absolute difference of feature maps.

    Args:
        prediction: Feature maps (b, c, h, w) by layer name.
        target: The same layers of the truth.
    """
    differences = [(prediction[key] - target[key]).abs().mean() for key in prediction]
    return torch.stack(differences).sum()


def unit_content(prediction: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    """Sum over the layers of the mean squared distance of feature vectors of length 1.

    That is LPIPS without its learned weights (Zhang et al. 2018, arXiv:1801.03924, Eq. 1 with all
    w = 1): strong maps do not outweigh weak ones, and the scaling of the VGG file does not matter.
    """
    distances = []
    for key, found in prediction.items():
        unit, wanted = (functional.normalize(maps, dim=1) for maps in (found, target[key]))
        distances.append((unit - wanted).square().sum(dim=1).mean(dtype=torch.float32))
    return torch.stack(distances).sum()


def gram(features: Tensor) -> Tensor:
    """Gram matrix of each sample, divided by c*h*w; under autocast the product is in its dtype.

    Args:
        features: (b, c, h, w).

    Returns:
        (b, c, c).
    """
    _, c, h, w = features.shape
    flat = features.flatten(2)  # (b, c, h*w)
    return (flat @ flat.transpose(1, 2)).float() / (c * h * w)


def style(prediction: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    """Sum over the layers of `prediction` of the mean absolute difference of Gram matrices."""
    differences = [(gram(prediction[key]) - gram(target[key])).abs().mean() for key in prediction]
    return torch.stack(differences).sum()


def perceptual_terms(
    features: nn.Module | None,
    prediction: Tensor,
    target: Tensor,
    contents: Collection[str],
    styles: Collection[str],
    weights: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Compute the terms of a picture with one pass of the features.

    Args:
        features: A `retouch.layers.vgg.VGG19`; None gives no terms.
        prediction: (b, 3, h, w) RGB in [0, 1].
        target: The truth, likewise; no gradient flows into it.
        contents: Layers of `content` and `unit_content`.
        styles: Layers of `style`.
        weights: Of the terms by name: those of weight 0 are left out; None computes all.

    Returns:
        `content`, `unit_content` and `style`, each a scalar.
    """
    wanted = [key for key in ("content", "unit_content", "style") if not weights or weights[key]]
    if features is None or not wanted:
        return {}
    layers = {*contents, *styles}
    with torch.no_grad():
        truth = features(target, layers)
    found = features(prediction, layers)
    maps = {key: found[key] for key in contents}
    compute = {
        "content": lambda: content(maps, truth),
        "unit_content": lambda: unit_content(maps, truth),
        "style": lambda: style({key: found[key] for key in styles}, truth),
    }
    return {key: compute[key]() for key in wanted}
