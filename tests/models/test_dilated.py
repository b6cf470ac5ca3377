"""The default network's objective: what its critics see, and that sharing maps changes nothing."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from retouch.data.batch import Batch
from retouch.layers.vgg import VGG19
from retouch.models.dilated import DilatedObjective, DilatedObjectiveConfig, FeatureCritic

WEIGHTS = {"hole": 1.0, "unit_content": 1.0, "adversarial": 0.1, "adversarial_features": 0.1}


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, :, 8:24, 8:24] = 1
    mask[1, :, :, :12] = 1
    return Batch(image=torch.rand(2, 3, 32, 32), mask=mask, hole_share=mask.mean())


@pytest.fixture
def objective() -> DilatedObjective:
    torch.manual_seed(2)
    config = DilatedObjectiveConfig(weights=WEIGHTS, critic_width=4)
    return DilatedObjective(config, VGG19((4, 8, 16, 32, 32))).eval()


def test_verdicts_on_maps_pay_in_the_hole_alone(objective: DilatedObjective, batch: Batch):
    outputs = torch.rand(2, 3, 32, 32, requires_grad=True)
    terms = objective.generator_terms(outputs, batch)
    assert set(terms) == {"hole", "known", "adversarial", "unit_content", "adversarial_features"}
    terms["adversarial_features"].backward()
    assert outputs.grad is not None
    assert (outputs.grad * (1 - batch.mask)).abs().max() == 0
    assert (outputs.grad * batch.mask).abs().max() > 0


def test_maps_kept_from_the_critics_turn_change_nothing(objective: DilatedObjective, batch: Batch):
    outputs = torch.rand(2, 3, 32, 32, requires_grad=True)
    alone = objective.generator_terms(outputs, batch)
    judged = objective.critic_terms(outputs, batch)
    after = objective.generator_terms(outputs, batch)
    assert_close(after, alone, rtol=0, atol=0)
    other = objective.critic_terms(outputs.detach() * 0.5, batch)
    assert judged["critic_features"] != other["critic_features"]
    judged["critic_features"].backward()
    assert outputs.grad is None  # critics learn from fills, not the network from critics' losses


def test_with_a_teacher_the_fill_is_compared_with_its_fill(
    objective: DilatedObjective, batch: Batch
):
    fill = torch.rand(2, 3, 32, 32)
    taught = replace(batch, taught=torch.where(batch.mask > 0, fill, batch.image))
    outputs = torch.where(batch.mask > 0, fill, torch.rand(2, 3, 32, 32)).requires_grad_()
    alone, led = (
        objective.generator_terms(outputs, batch),
        objective.generator_terms(outputs, taught),
    )
    assert led["hole"] == 0
    assert led["unit_content"].abs() < 1e-6
    assert alone["hole"] > 0.1
    assert alone["unit_content"] > 0
    # What is known, and what the critics compare fills with, stays the truth.
    for name in ("known", "adversarial", "adversarial_features"):
        assert_close(led[name], alone[name], rtol=0, atol=0)
    judged = objective.critic_terms(outputs, batch)
    assert_close(objective.critic_terms(outputs, taught), judged, rtol=0, atol=0)


def test_a_critic_of_maps_learns_to_tell(objective: DilatedObjective, batch: Batch):
    """Random fills are easy: the loss falls well below that of guessing."""
    torch.manual_seed(3)
    outputs = torch.rand(2, 3, 32, 32)
    critic = objective.critics["features"].train()
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    losses: list[float] = []
    smooth = replace(batch, image=torch.full_like(batch.image, 0.5))
    for _ in range(40):
        loss = objective.critic_terms(outputs, smooth)["critic_features"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


def test_without_weight_there_is_no_critic_of_maps(batch: Batch):
    weights = {key: value for key, value in WEIGHTS.items() if key != "adversarial_features"}
    config = DilatedObjectiveConfig(weights=weights, critic_width=4)
    objective = DilatedObjective(config, VGG19((4, 8, 16, 32, 32)))
    assert list(objective.critics) == ["critic"]
    assert "adversarial_features" not in objective.generator_terms(batch.image, batch)


def test_verdicts_do_not_depend_on_how_strong_the_maps_are():
    torch.manual_seed(4)
    critic = FeatureCritic((6,), 8).eval()
    maps, mask = torch.rand(1, 6, 8, 8) + 0.1, torch.zeros(1, 1, 16, 16)
    assert_close(critic([maps * 50], mask), critic([maps], mask), rtol=1e-3, atol=1e-4)
