"""Adversarial losses on logits: hinge, non-saturating (nsgan) and least squares (lsgan)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["hinge", "nsgan", "lsgan"]


def generator_loss(logits: Tensor, kind: Kind) -> Tensor:
    """What the generator pays for a critic's verdict on its pictures.

    Args:
        logits: Any shape, the critic's raw output.
        kind: `hinge`: -mean(logits); `nsgan`: cross-entropy to real; `lsgan`: squared distance of
            the sigmoid to 1 (EdgeConnect puts a sigmoid before least squares).
    """
    if kind == "hinge":
        return -logits.mean()
    return _towards(logits, 1.0, kind)


def critic_loss(real: Tensor, fake: Tensor, kind: Kind) -> Tensor:
    """What the critic pays: half for real pictures, half for fakes.

    Args:
        real: Logits of real pictures.
        fake: Logits of generated pictures (detached from the generator).
        kind: See `generator_loss`; `hinge` uses margins of 1.
    """
    if kind == "hinge":
        return (functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()) / 2
    return (_towards(real, 1.0, kind) + _towards(fake, 0.0, kind)) / 2


def _towards(logits: Tensor, label: float, kind: Kind) -> Tensor:
    target = torch.full_like(logits, label)
    if kind == "nsgan":
        return functional.binary_cross_entropy_with_logits(logits, target)
    return functional.mse_loss(logits.sigmoid(), target)
