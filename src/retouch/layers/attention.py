"""Attention over a whole feature map, without ever storing its queries x keys weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["attend", "attend_in_blocks", "attend_patches"]

_BLOCK = 2**20
"""Scores of a training pass that are held at once: 4 MiB of float32."""


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


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with a gradient, where values are rounded and scores must not be.

    Neither pass stores the scores: they are made again, block by block, in the caches.

    Args:
        query: (b, n, c) float32.
        key: (b, c, m) float32.
        value: (b, m, d), of any type; the weights are rounded to it.

    Returns:
        (b, n, d), of the values' type.
    """
    with torch.autocast(query.device.type, enabled=False):
        return _InBlocks.apply(query, key, value)


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found = value.new_empty((*query.shape[:2], value.shape[2]))
        total = query.new_empty((*query.shape[:2], 1))
        for n, rows in _blocks(query, key):
            scores = query[n, rows] @ key[n]
            total[n, rows] = torch.logsumexp(scores, dim=1, keepdim=True)
            weights = scores.sub_(total[n, rows]).exp_().to(value.dtype)
            torch.mm(weights, value[n], out=found[n, rows])
        ctx.save_for_backward(query, key, value, total)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, total = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_query, to_key = torch.empty_like(query), torch.zeros_like(key)
        to_value = torch.zeros_like(value, dtype=query.dtype)
        for n, rows in _blocks(query, key):
            weights = (query[n, rows] @ key[n]).sub_(total[n, rows]).exp_()
            to_value[n] += weights.to(value.dtype).T @ grad[n, rows]
            to_weights = (grad[n, rows] @ value[n].T).to(query.dtype)
            shared = (weights * to_weights).sum(dim=1, keepdim=True)
            to_scores = to_weights.sub_(shared).mul_(weights)
            torch.mm(to_scores, key[n].T, out=to_query[n, rows])
            to_key[n].addmm_(query[n, rows].T, to_scores)
        return to_query, to_key, to_value.to(value.dtype)


def _blocks(query: Tensor, key: Tensor) -> Iterator[tuple[int, slice]]:
    """Number of a sample and some of its rows, so that their scores fit a block."""
    step = max(1, _BLOCK // key.shape[2])
    for n in range(len(query)):
        for top in range(0, query.shape[1], step):
            yield n, slice(top, top + step)


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
