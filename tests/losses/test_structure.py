"""Every term of the structure network's loss against plain loops or closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.layers.attention import attend, attend_patches
from retouch.losses import structure


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def test_priority_spreads_one_edge_as_two_gaussians_do():
    line = np.exp(-(np.arange(-2, 3) ** 2) / 2)
    line /= line.sum()
    twice = np.convolve(line, line)  # nine taps
    edge = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    edge[..., 7, 7] = 1
    found = structure.priority(edge)[0, 0].numpy()
    expected = np.zeros((15, 15))
    expected[3:12, 3:12] = np.outer(twice, twice)
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_priority_loses_what_leaves_the_picture():
    edge = torch.ones(1, 1, 9, 9, dtype=torch.float64)
    found = structure.priority(edge)
    assert found[0, 0, 4, 4] == pytest.approx(1)
    assert found[0, 0, 0, 0] < 0.6


def test_edge_term_is_a_weighted_mean():
    prediction, target, priority = random(2, 6, 5, 7), random(2, 6, 5, 7), random(2, 1, 5, 7)
    weighted = sum(
        float(priority[b, 0, i, j] * (prediction[b, c, i, j] - target[b, c, i, j]).abs())
        for b in range(2)
        for c in range(6)
        for i in range(5)
        for j in range(7)
    )
    expected = weighted / float(priority.sum()) / 6
    found = structure.edge_l1(prediction, target, priority, priority.mean())
    assert float(found) == pytest.approx(expected, rel=1e-12)
    scaled = structure.edge_l1(prediction, target, 20 * priority, (20 * priority).mean())
    assert float(scaled) == pytest.approx(expected, rel=1e-12)  # EDGE_ALPHA cancels


def test_no_edge_gives_zero_and_no_gradient():
    prediction = random(1, 6, 4, 4).requires_grad_()
    empty = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    found = structure.edge_l1(prediction, random(1, 6, 4, 4), empty, empty.mean())
    found.backward()
    assert float(found.detach()) == 0
    assert prediction.grad is not None
    assert not prediction.grad.any()


def truth(mask: Tensor) -> structure.Truth:
    return structure.Truth(random(4, 3, 8, 8), mask, random(4, 6, 8, 8), random(4, 1, 8, 8))


def test_scale_terms_are_the_published_sums():
    """The reference divides sums over batch and colors by the pixels of one mask."""
    mask = (random(1, 1, 8, 8) > 0.6).double()
    whole = truth(mask.expand(4, -1, -1, -1))
    image, gradient = random(4, 3, 8, 8), random(4, 6, 8, 8)
    terms = structure.scale_terms(image, gradient, whole, mask.mean(), whole.priority.mean())
    difference = (2 * image - 2 * whole.image).abs()
    published = structure.published_weights()
    hole = (mask * difference).sum() / mask.sum()
    known = ((1 - mask) * difference).sum() / (1 - mask).sum()
    assert float(published["hole_full"] * terms["hole"]) == pytest.approx(float(hole), rel=1e-12)
    assert float(published["known_full"] * terms["known"]) == pytest.approx(float(known), rel=1e-12)
    expected = (gradient - whole.gradient).abs().mean()
    assert float(terms["gradient"]) == pytest.approx(float(expected), rel=1e-12)


def test_micro_batches_average_to_the_whole():
    whole = truth((random(4, 1, 8, 8) > 0.6).double())
    image, gradient = random(4, 3, 8, 8), random(4, 6, 8, 8)
    shares = whole.mask.mean(), whole.priority.mean()
    together = structure.scale_terms(image, gradient, whole, *shares)
    parts = []
    for n in range(0, 4, 2):
        fields = (whole.image, whole.mask, whole.gradient, whole.priority)
        part = structure.Truth(*(t[n : n + 2] for t in fields))
        parts.append(structure.scale_terms(image[n : n + 2], gradient[n : n + 2], part, *shares))
    for name, value in together.items():
        average = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(average, value, rtol=1e-12, atol=0)


def test_content_and_style_by_the_formulas():
    prediction = {"a": random(2, 3, 4, 5), "b": random(2, 2, 3, 3)}
    target = {"a": random(2, 3, 4, 5), "b": random(2, 2, 3, 3)}
    content, style = 0.0, 0.0
    for key, ours in prediction.items():
        a, b = ours.numpy(), target[key].numpy()
        content += ((a - b) ** 2).sum() / a.size / 2
        count, channels, h, w = a.shape
        for n in range(count):
            first, second = a[n].reshape(channels, -1), b[n].reshape(channels, -1)
            grams = (first @ first.T - second @ second.T) / (h * w * channels)
            style += (grams**2).sum() / a.size / 2
    assert float(structure.squared_content(prediction, target)) == pytest.approx(content, rel=1e-12)
    assert float(structure.squared_style(prediction, target)) == pytest.approx(style, rel=1e-5)


class Doubled(nn.Module):
    """Stands for VGG-19."""

    def forward(self, image: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        return dict.fromkeys(names, image * 2)


def test_vgg_terms_add_up_over_predictions():
    target, first, second = random(2, 3, 4, 4), random(2, 3, 4, 4), random(2, 3, 4, 4)
    found = structure.vgg_terms(Doubled(), (first, second), target, {"content": 1, "style": 1})
    expected = 4 * ((first - target).square().mean() + (second - target).square().mean())
    assert found.keys() == {"content", "style"}
    assert float(found["content"]) == pytest.approx(float(expected), rel=1e-12)


def test_vgg_terms_of_no_weight_are_not_computed():
    target, made = random(2, 3, 4, 4), random(2, 3, 4, 4)
    assert structure.vgg_terms(Doubled(), (made, made), target, {"content": 0.0}) == {}
    assert structure.vgg_terms(None, (made, made), target, {"content": 1.0}) == {}
    found = structure.vgg_terms(Doubled(), (made, made), target, {"unit_content": 1.0})
    unit, wanted = (functional.normalize(picture, dim=1) for picture in (made, target))
    expected = 5 * (unit - wanted).square().sum(dim=1).mean()
    assert found.keys() == {"unit_content"}
    assert float(found["unit_content"]) == pytest.approx(float(expected), rel=1e-6)


def test_total_variation_of_a_ramp():
    ramp = torch.arange(5.0).expand(2, 3, 4, 5)
    assert float(structure.total_variation(ramp)) == 1
    assert float(structure.total_variation(2 * ramp.transpose(2, 3))) == 4
    assert float(structure.total_variation(torch.ones(1, 3, 4, 4))) == 0


def test_matching_follows_the_reference_step_by_step():
    prediction, target = random(1, 3, 3, 4), random(1, 3, 3, 4)
    t = prediction[0].flatten(1).numpy().T  # pixels x channels; the reference's T is the prediction
    i = target[0].flatten(1).numpy().T
    mean = t.mean(0)
    t = (t - mean) / np.linalg.norm(t - mean, axis=1, keepdims=True)
    i = (i - mean) / np.linalg.norm(i - mean, axis=1, keepdims=True)
    distance = -(i @ t.T - 1) / 2  # row: true pixel, column: predicted pixel
    relative = distance / (distance.min(axis=1, keepdims=True) + 1e-5)
    weight = np.exp((1 - relative) / 0.5)
    weight /= weight.sum(axis=1, keepdims=True)
    expected = -math.log(weight.max(axis=0).mean())
    assert float(structure.matching(prediction, target)) == pytest.approx(expected, rel=1e-9)


def test_matching_prefers_the_truth():
    target = random(2, 6, 6, 6)
    near = structure.matching(target + 0.01 * random(2, 6, 6, 6), target)
    far = structure.matching(random(2, 6, 6, 6), target)
    assert float(near) < float(far)


def test_matching_samples_large_maps():
    target = random(1, 3, 9, 9)
    assert structure.matching(target * 0.5, target, limit=4).isfinite()


def test_gradient_penalty_of_a_linear_critic():
    """Its slope is the same everywhere: only the hole's part counts."""

    class Linear(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return 2 * image.sum(dim=(1, 2, 3))

    mask = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    mask[:, :, :2, :2] = 1
    found = structure.gradient_penalty(Linear(), random(2, 3, 4, 4), random(2, 3, 4, 4), mask)
    assert float(found) == pytest.approx((math.sqrt(4 * 12) - 1) ** 2, rel=1e-12)


def test_published_weights_name_every_term():
    names = set(structure.published_weights())
    for part in ("hole", "known", "edge", "gradient", "matching"):
        assert {f"{part}_{scale}" for scale in structure.STEPS} <= names
    assert {"adversarial", "content", "style", "variation", "matching_image"} <= names


# -- attention, which the network takes from `layers` -------------------------------------------


def test_attend_is_softmax_attention():
    query, key, value = random(2, 4, 30), random(2, 4, 12), random(2, 4, 12)
    weights = torch.softmax(3 * query.transpose(1, 2) @ key, dim=2)
    expected = (weights @ value.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(attend(query, key, value, scale=3.0), expected)


@pytest.mark.parametrize("side", [3, 5])
def test_patch_attention_follows_the_reference_step_by_step(side: int):
    """TensorFlow's SAME: at stride 1 equal margins, at stride 2 the odd pixel behind."""
    features = random(1, 2, 6, 8)
    c, h, w = features.shape[1:]
    x = features[0].numpy()
    half, before = side // 2, (side - 2) // 2
    wide = np.pad(x, ((0, 0), (half, half), (half, half)))
    shifted = np.pad(x, ((0, 0), (before, side), (before, side)))
    places = [(i, j) for i in range(0, h, 2) for j in range(0, w, 2)]
    patches = np.stack([shifted[:, i : i + side, j : j + side] for i, j in places])
    norms = np.sqrt((patches**2).sum(axis=(1, 2, 3), keepdims=True))
    normal = patches / np.maximum(norms, 1e-4)
    score = np.zeros((len(places), h, w))
    for i in range(h):
        for j in range(w):
            score[:, i, j] = (normal * wide[:, i : i + side, j : j + side]).sum(axis=(1, 2, 3))
    score = np.exp(10 * (score - score.max(axis=0)))
    score = np.pad(score / score.sum(axis=0), ((0, 0), (half, half), (half, half)))
    expected = np.zeros((c, h, w))
    for i in range(h):
        for j in range(w):
            window = score[:, i : i + side, j : j + side]
            expected[:, i, j] = np.einsum("nyx,ncyx->c", window, patches) / 4
    found = attend_patches(features, side)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
