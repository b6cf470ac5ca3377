"""Adversarial losses against their formulae, written out in numpy at float64."""

import math

import numpy as np
import pytest
import torch

from retouch.losses.adversarial import critic_loss, generator_loss

REAL = torch.tensor([2.0, -0.5, 0.3])
FAKE = torch.tensor([-3.0, 1.5, -0.2, 0.1])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def generator(kind: str, fake) -> float:
    if kind == "hinge":
        return -fake.mean()
    if kind == "nsgan":
        return -np.log(sigmoid(fake)).mean()
    return ((sigmoid(fake) - 1) ** 2).mean()


def critic(kind: str, real, fake) -> float:
    if kind == "hinge":
        return (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()) / 2
    if kind == "nsgan":
        return (-np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean()) / 2
    return (((sigmoid(real) - 1) ** 2).mean() + (sigmoid(fake) ** 2).mean()) / 2


@pytest.mark.parametrize("kind", ["hinge", "nsgan", "lsgan"])
def test_losses_follow_their_formulae(kind):
    real, fake = REAL.double().numpy(), FAKE.double().numpy()
    assert math.isclose(float(generator_loss(FAKE, kind)), generator(kind, fake), rel_tol=1e-6)
    assert math.isclose(
        float(critic_loss(REAL, FAKE, kind)), critic(kind, real, fake), rel_tol=1e-6
    )


@pytest.mark.parametrize("kind", ["nsgan", "lsgan"])
def test_sure_critics_give_finite_losses_and_gradients(kind):
    sure = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = generator_loss(sure, kind) + critic_loss(sure, sure, kind)
    loss.backward()
    assert loss.isfinite()
    assert sure.grad is not None
    assert sure.grad.isfinite().all()


def test_unsure_critic_pays_what_theory_says():
    zero = torch.zeros(4)
    assert critic_loss(zero, zero, "hinge") == 1.0
    assert math.isclose(float(critic_loss(zero, zero, "nsgan")), math.log(2), rel_tol=1e-6)
    assert critic_loss(zero, zero, "lsgan") == 0.25
