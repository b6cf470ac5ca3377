"""Losses of the structure network: priority-weighted gradients, squared VGG terms, matching.

Yang, Qi, Shi, "Learning to Incorporate Structure Knowledge for Image Inpainting", AAAI 2020,
arXiv:2002.04170; formulas of the authors' training code (YoungGod/sturcture-inpainting @ c3a067e).
Every function is a mean over pictures (or divides by a share given from outside), so that the
average over micro-batches is the value of the whole batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.losses.perceptual import gram, perceptual_terms
from retouch.losses.reconstruction import l1, masked_l1

__all__ = [
    "STEPS",
    "VGG_LAYERS",
    "Truth",
    "edge_l1",
    "gradient_penalty",
    "matching",
    "priority",
    "published_weights",
    "scale_terms",
    "squared_content",
    "squared_style",
    "total_variation",
    "vgg_terms",
]

STEPS = {"quarter": 4, "half": 2, "full": 1}
"""The scales of the pyramid, and how many pixels of the picture lie between two of theirs."""
VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""Maps of the content and the style term, 0.2 each."""


def published_weights() -> dict[str, float]:
    """Weights of the authors' configuration, with the factor of their batch of 4 in the L1 terms.

    Content and style weights belong to MatConvNet's VGG-19 fed with RGB in [-1, 1].
    """
    weights = {"hole_full": 4.0, "known_full": 4.0, "adversarial": 0.4}
    weights |= {"content": 0.1, "style": 250.0, "unit_content": 0.0}
    weights |= {"variation": 0.0, "matching_image": 0.0}
    for scale in STEPS:
        weights |= {f"edge_{scale}": 1.0, f"gradient_{scale}": 0.1, f"matching_{scale}": 0.0}
    for scale in ("quarter", "half"):
        weights |= {f"hole_{scale}": 0.0, f"known_{scale}": 0.0}
    return weights


@dataclass(frozen=True)
class Truth:
    """What the two heads of one scale should predict."""

    image: Tensor
    """(b, 3, h, w) RGB in [0, 1]."""
    mask: Tensor
    """(b, 1, h, w), 1 = hole."""
    gradient: Tensor
    """(b, 6, h, w) Sobel gradients of the picture in [-1, 1]."""
    priority: Tensor
    """(b, 1, h, w), see `priority`."""


def scale_terms(
    image: Tensor, gradient: Tensor, truth: Truth, hole_share: Tensor, edge_share: Tensor
) -> dict[str, Tensor]:
    """Reconstruction and structure terms of one scale of the pyramid.

    Args:
        image: (b, 3, h, w) predicted picture, RGB in [0, 1].
        gradient: (b, 6, h, w) predicted gradients.
        truth: What they should be.
        hole_share: Scalar, the mean of the mask over the global batch (of its full size).
        edge_share: Scalar, the mean of the priority over the global batch.

    Returns:
        `hole` and `known`: mean over pixels of the difference of pictures in [-1, 1], summed over
        colors; `edge`: see `edge_l1`; `gradient`: mean absolute difference over everything.
    """
    unit = 2 * image.shape[1]
    known = masked_l1(image, truth.image, 1 - truth.mask, 1 - hole_share)
    return {
        "hole": unit * masked_l1(image, truth.image, truth.mask, hole_share),
        "known": unit * known,
        "edge": edge_l1(gradient, truth.gradient, truth.priority, edge_share),
        "gradient": l1(gradient, truth.gradient),
    }


def priority(edges: Tensor, blurs: int = 2) -> Tensor:
    """Spread edges to a map of how much a gradient there matters.

    Args:
        edges: (b, 1, h, w), 1 on edges, else 0.
        blurs: How often a 5x5 Gaussian of sigma 1 is applied; beyond the border lie zeros.

    Returns:
        (b, 1, h, w) in [0, 1].
    """
    offsets = torch.arange(-2, 3, dtype=edges.dtype, device=edges.device)
    line = torch.softmax(-offsets.square() / 2, dim=0)
    h, w = edges.shape[-2:]
    for _ in range(blurs):  # sums of slices: exact under autocast, too
        tall = functional.pad(edges, (0, 0, 2, 2))
        edges = torch.stack([line[n] * tall[..., n : n + h, :] for n in range(5)]).sum(dim=0)
        wide = functional.pad(edges, (2, 2))
        edges = torch.stack([line[n] * wide[..., n : n + w] for n in range(5)]).sum(dim=0)
    return edges


def edge_l1(prediction: Tensor, target: Tensor, priority: Tensor, share: Tensor) -> Tensor:
    """Mean absolute difference of gradients, weighted by priority.

    A constant factor of the priority (the authors' EDGE_ALPHA) cancels.

    Args:
        prediction: (b, c, h, w) gradients.
        target: (b, c, h, w) gradients of the truth.
        priority: (b, 1, h, w), see `priority`.
        share: Scalar, the mean of `priority` over the global batch. A batch without any edge gives
            0 (the authors' 0 / 0 gives NaN).
    """
    weighted = (priority * (prediction - target).abs()).mean()
    return torch.where(share > 0, weighted / share.clamp(min=1e-8), 0 * weighted)


def vgg_terms(
    features: nn.Module | None,
    predictions: Sequence[Tensor],
    target: Tensor,
    weights: Mapping[str, float],
) -> dict[str, Tensor]:
    """Content and style of several predictions of one picture, added up.

    Args:
        features: A `VGG19`: (b, 3, h, w) RGB in [0, 1] and names -> maps by name. None: no terms.
        predictions: Pictures (b, 3, h, w); the completed one first.
        target: The truth (b, 3, h, w).
        weights: Of the terms by name: what weighs nothing is not computed.

    Returns:
        `content` and `style`, scalars, and ours, `unit_content` of the completed picture.
    """
    unit = {"unit_content": weights.get("unit_content", 0.0)}
    terms = perceptual_terms(features, predictions[0], target, VGG_LAYERS, (), unit)
    if features is None or not (weights.get("content") or weights.get("style")):
        return terms
    with torch.no_grad():
        truth: dict[str, Tensor] = features(target, VGG_LAYERS)
    contents: list[Tensor] = []
    styles: list[Tensor] = []
    for prediction in predictions:
        found: dict[str, Tensor] = features(prediction, VGG_LAYERS)
        contents.append(squared_content(found, truth))
        styles.append(squared_style(found, truth))
    return terms | {"content": torch.stack(contents).sum(), "style": torch.stack(styles).sum()}


def squared_content(prediction: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    """Mean over the layers of `prediction` of the mean squared difference of feature maps."""
    terms = [functional.mse_loss(prediction[key], target[key]) for key in prediction]
    return torch.stack(terms).mean()


def squared_style(prediction: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    """Mean over layers of the squared Gram difference, divided by the size of the feature map.

    The size counts twice, since the Gram matrix is divided by it already: hence the weight of 250.
    """
    terms: list[Tensor] = []
    for key, features in prediction.items():
        difference = gram(features) - gram(target[key])  # (b, c, c)
        terms.append(difference.square().sum() / features.numel())
    return torch.stack(terms).mean()


def total_variation(image: Tensor) -> Tensor:
    """Mean squared difference of neighbours below plus that of neighbours to the right."""
    down = image[:, :, 1:] - image[:, :, :-1]
    right = image[:, :, :, 1:] - image[:, :, :, :-1]
    return down.square().mean() + right.square().mean()


def matching(prediction: Tensor, target: Tensor, sigma: float = 0.5, limit: int = 65) -> Tensor:
    """Implicit nearest-neighbor matching of pixels by the angle between their channels.

    The ID-MRF idea (Wang et al. 2018, arXiv:1810.08771) on gradients or colors instead of VGG
    features: every predicted pixel should be the closest match of some true pixel. As in the
    authors' code the patches are single pixels: their PATCH_SIZE 5 never reaches the function.

    Args:
        prediction: (b, c, h, w).
        target: (b, c, h, w).
        sigma: Width of the exponential.
        limit: Larger maps than limit x limit are sampled at as many random places.
    """
    pixels = prediction.flatten(2)  # (b, c, h*w)
    truth = target.flatten(2)
    if pixels.shape[2] > limit**2:
        chosen = torch.randperm(pixels.shape[2], device=pixels.device)[: limit**2]
        pixels, truth = pixels[:, :, chosen], truth[:, :, chosen]
    center = pixels.mean(dim=2, keepdim=True)
    pixels = functional.normalize(pixels - center, dim=1)
    truth = functional.normalize(truth - center, dim=1)
    distance = (1 - truth.transpose(1, 2) @ pixels) / 2  # (b, truth, pixels)
    distance = distance.clamp(min=0)  # rounding
    relative = distance / (distance.amin(dim=2, keepdim=True) + 1e-5)
    similarity = torch.softmax((1 - relative) / sigma, dim=2)
    return -similarity.amax(dim=1).mean(dim=1).log().mean()


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """How far the critic's slope inside the hole is from 1, between real and fake pictures.

    Gulrajani et al. 2017, arXiv:1704.00028.

    Args:
        critic: Maps pictures to logits.
        real: (b, 3, h, w).
        fake: (b, 3, h, w), detached from the generator.
        mask: (b, 1, h, w), 1 = hole.
    """
    blend = torch.rand(len(real), 1, 1, 1, dtype=real.dtype, device=real.device)
    between = (real + blend * (fake - real)).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norm = (slope.square() * mask).sum(dim=(1, 2, 3)).clamp(min=1e-12).sqrt()
    return (norm - 1).square().mean()
