"""Cross-entropy on hard pixels against a plain restatement."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from retouch import segmentation
from retouch.data.batch import Batch
from retouch.segmentation.objective import (
    SegmentationObjective,
    SegmentationObjectiveConfig,
    cross_entropy,
    hard_cross_entropy,
)


def oracle(logits: Tensor, labels: Tensor, confidence: float, share: float) -> float:
    """The published rule, pixel by pixel."""
    losses = []
    probability = logits.double().softmax(1)
    for b, y, x in torch.cartesian_prod(*(torch.arange(n) for n in labels.shape)).tolist():
        label = int(labels[b, y, x])
        known = 0 <= label < logits.shape[1]
        losses.append(-math.log(probability[b, label, y, x]) if known else 0.0)
    losses.sort(reverse=True)
    least = int(len(losses) * share)
    if losses[least] > -math.log(confidence):
        chosen = [loss for loss in losses if loss > -math.log(confidence)]
    else:
        chosen = losses[:least]
    return sum(chosen) / len(chosen)


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("share", [1 / 16, 0.9])
def test_hard_pixels_match_the_published_rule(scale: float, share: float):
    labels = torch.randint(0, 6, (2, 6, 7))  # 5 is outside the classes
    logits = torch.randn(2, 5, 6, 7)
    right = torch.zeros_like(logits).scatter_(1, labels.clamp(max=4)[:, None], 1.0)
    logits = logits + scale * right
    found = hard_cross_entropy(logits, labels, confidence=0.7, share=share)
    assert found.item() == pytest.approx(oracle(logits, labels, 0.7, share), rel=1e-5, abs=1e-6)


def test_plain_form_leaves_unlabelled_pixels_out():
    logits, labels = torch.randn(1, 4, 3, 3), torch.full((1, 3, 3), 255)
    assert cross_entropy(logits, labels) == 0
    labels[0, 1, 1] = 2
    expected = -logits[0, :, 1, 1].log_softmax(0)[2]
    torch.testing.assert_close(cross_entropy(logits, labels), expected)


@pytest.mark.parametrize("name", segmentation.names())
@pytest.mark.parametrize("labels", ["facades", "street"])
def test_every_parameter_learns(name: str, labels: str):
    facts = segmentation.card(name)
    network = segmentation.build(name, **{**facts.small, "labels": labels}).train()
    objective: Any = facts.objective(facts.objective_config())
    image = torch.rand(2, 3, 64, 64)
    truth = torch.randint(0, 12, (2, 64, 64))
    batch = Batch(image=image, mask=torch.zeros(2, 1, 64, 64), hole_share=torch.tensor(0.0))
    outputs = objective.predict(network, batch)
    with pytest.raises(ValueError, match="label maps"):
        objective.generator_terms(outputs, batch)
    batch = Batch(image=image, mask=batch.mask, hole_share=batch.hole_share, labels=truth)
    terms = objective.generator_terms(outputs, batch)
    assert set(terms) <= set(objective.config.weights)
    assert objective.critic_terms(outputs, batch) == {}
    torch.stack(list(terms.values())).sum().backward()
    assert not [key for key, p in network.named_parameters() if p.grad is None]


def test_small_bisenet_learns_a_map():
    network = segmentation.build("bisenet", labels="street", channels=4).train()
    objective = SegmentationObjective()
    image = torch.rand(2, 3, 64, 64) * 0.1
    truth = torch.zeros(2, 64, 64, dtype=torch.long)
    image[:, 0, :, 32:] += 0.8
    truth[:, :, 32:] = 4
    batch = Batch(image=image, mask=image[:, :1] * 0, hole_share=torch.tensor(0.0), labels=truth)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(25):
        terms = objective.generator_terms(objective.predict(network, batch), batch)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    with torch.inference_mode():
        accuracy = (network(image).argmax(1) == truth).float().mean()
    assert accuracy > 0.95


@pytest.mark.parametrize("fields", [{"confidence": 0.0}, {"confidence": 1.5}, {"hard_share": 1.0}])
def test_nonsense_is_refused(fields: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(fields))):
        SegmentationObjectiveConfig(**fields)
