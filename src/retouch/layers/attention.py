"""Attention over a whole feature map, without ever storing its queries x keys weights."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["attend", "attend_patches"]


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0) -> Tensor:
    """Softmax attention: for each query the mean of the values, weighted by exp(scale * q . k).

    Args:
        query: (b, c, n).
        key: (b, c, m).
        value: (b, c, m).
        scale: Sharpness.

    Returns:
        (b, c, n).
    """
    # Contiguous channels: otherwise the fused kernels step aside for one that stores the weights.
    query, key, value = (t.transpose(1, 2)[:, None].contiguous() for t in (query, key, value))
    found = functional.scaled_dot_product_attention(query, key, value, scale=scale)
    return found[:, 0].transpose(1, 2)


def attend_patches(features: Tensor, side: int) -> Tensor:
    """Attention over k x k patches by cosine similarity (Yang et al. 2020, README, k > 1).

    As in the authors' `attention_with_neighbors`, which nothing calls: patches lie on every second
    pixel, only they are normalised, not the windows they are compared with, the softmax is
    sharpened by 10, and the attended patches are laid over each other point-mirrored and divided by
    4, whatever the overlap. Zeros lie beyond the border.

    Args:
        features: (b, c, h, w), h and w even.
        side: k, odd.

    Returns:
        (b, c, h, w).
    """
    windows = functional.unfold(features, side, padding=side // 2)  # (b, c*k*k, h*w)
    before = (side - 2) // 2  # TensorFlow's SAME at stride 2 puts the odd pixel behind
    padded = functional.pad(features, (before, side - 2 - before) * 2)
    patches = functional.unfold(padded, side, stride=2)  # (b, c*k*k, h/2 * w/2)
    norms = torch.linalg.vector_norm(patches, dim=1, keepdim=True)
    found = attend(windows, patches / norms.clamp(min=1e-4), patches, scale=10.0)
    mirrored = found.unflatten(1, (-1, side * side)).flip(2).flatten(1, 2)
    size = (features.shape[2], features.shape[3])
    return functional.fold(mirrored, size, side, padding=side // 2) / 4
