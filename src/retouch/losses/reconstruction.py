"""Pixel differences: the one place where `L1` and its denominators are spelled out."""

from torch import Tensor


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over everything."""
    return (prediction - target).abs().mean()


def l1_per_share(prediction: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Mean absolute difference over the whole picture, divided by a share of pixels.

    Args:
        prediction: (b, c, h, w).
        target: (b, c, h, w).
        share: Scalar in (0, 1], usually the hole share of the global batch.
    """
    return l1(prediction, target) / share


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor, share: Tensor) -> Tensor:
    """Mean absolute difference where the mask is 1.

    Args:
        prediction: (b, c, h, w).
        target: (b, c, h, w).
        mask: (b, 1, h, w), 1 where pixels count.
        share: Scalar, the mean of `mask` over the global batch; zero gives zero, not NaN.
    """
    return ((prediction - target).abs() * mask).mean() / share.clamp(min=1e-8)
