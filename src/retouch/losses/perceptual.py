"""Differences of network features: content (perceptual) and style losses on VGG-19 maps."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

CONTENT_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""EdgeConnect's content layers, also of ISNet and SEM-Net."""
PERCEPTUAL = ("content", "unit_content", "style")
"""Terms that compare maps."""
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
    distances = [_UnitDistance.apply(found, target[key]) for key, found in prediction.items()]
    return torch.stack(distances).sum()


class _UnitDistance(torch.autograd.Function):
    """Mean squared distance of vectors along axis 1, both scaled to length 1 (zero stays zero).

    |a/|a| - b/|b||^2 is 2 - 2 cos, whose gradient needs three numbers per pixel and two passes over
    the maps. Left to autograd it takes about 15: 169 ms instead of 58 for the three
    maps of 16 pictures of 128 px (bf16, one core).
    """

    @staticmethod
    def forward(ctx: Any, found: Tensor, target: Tensor) -> Tensor:
        wide = torch.promote_types(found.dtype, torch.float32)
        products = (found * found, target * target, found * target)
        one, two, both = (x.sum(1, keepdim=True).to(wide) for x in products)  # (b, 1, h, w)
        one, two = (torch.where(square > 1e-24, square.rsqrt(), 0) for square in (one, two))
        cosine = both * one * two
        ctx.save_for_backward(found, target, one, two, cosine)
        return ((one > 0).to(wide) + (two > 0).to(wide) - 2 * cosine).mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        found, target, one, two, cosine = ctx.saved_tensors
        scale = 2 * grads[0] / cosine.numel()
        own = (scale * cosine * one.square()).to(found.dtype)
        other = (-scale * one * two).to(found.dtype)
        return torch.addcmul(found * own, target, other), None


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


def compared(
    measure: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor],
    features: nn.Module,
    prediction: Tensor,
    target: Tensor,
    layers: Collection[str],
) -> Tensor:
    """Measure features of two pictures: `compared(content, vgg, made, truth, CONTENT_LAYERS)`.

    Args:
        measure: `content`, `unit_content` or `style`.
        features: A `retouch.layers.vgg.VGG19`.
        prediction: (b, 3, h, w) RGB in [0, 1].
        target: The truth, likewise; no gradient flows into it.
        layers: Which maps.
    """
    with torch.no_grad():
        truth = features(target, layers)
    return measure(features(prediction, layers), truth)


def perceptual_terms(
    features: nn.Module | None,
    prediction: Tensor,
    target: Tensor,
    contents: Collection[str],
    styles: Collection[str],
    weights: Mapping[str, float],
) -> dict[str, Tensor]:
    """Compute content and style of the same picture with one pass of the features.

    Args:
        features: A `retouch.layers.vgg.VGG19`; None gives no terms.
        prediction: (b, 3, h, w) RGB in [0, 1].
        target: The truth, likewise; no gradient flows into it.
        contents: Layers of `content` and `unit_content`.
        styles: Layers of `style`.
        weights: Of the objective's terms by name: what weighs nothing is not computed.

    Returns:
        Those of `content`, `unit_content` and `style` that weigh something, each a scalar.
    """
    if features is None or not any(weights.get(key) for key in PERCEPTUAL):
        return {}
    layers = {*contents, *styles}
    with torch.no_grad():
        truth = features(target, layers)
    return terms_of_maps(features(prediction, layers), truth, contents, styles, weights)


def terms_of_maps(
    found: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    contents: Collection[str],
    styles: Collection[str],
    weights: Mapping[str, float],
) -> dict[str, Tensor]:
    """Like `perceptual_terms`, from the maps of prediction and target by layer name."""
    maps = {key: found[key] for key in contents}
    compute = {
        "content": lambda: content(maps, truth),
        "unit_content": lambda: unit_content(maps, truth),
        "style": lambda: style({key: found[key] for key in styles}, truth),
    }
    return {key: compute[key]() for key in PERCEPTUAL if weights.get(key)}
