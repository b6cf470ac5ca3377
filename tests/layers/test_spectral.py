"""Convolutions of unit spectral norm against PyTorch's own and against linear algebra."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from retouch.critics import WideCritic
from retouch.layers.spectral import (
    SpectralConv2d,
    fold_spectral,
    from_official_keys,
    settle_spectral,
    start_isometric,
    to_official_keys,
)


def test_spectral_convolution_repeats_torchs_first_spectral_norm():
    """Its values, vectors and gradients: all official files were made with it."""
    ours = SpectralConv2d(3, 5, 3, padding=1, bias=True)
    plain = nn.Conv2d(3, 5, 3, padding=1)
    plain.load_state_dict({"weight": ours.weight, "bias": ours.bias})
    with warnings.catch_warnings(action="ignore"):  # deprecated, but the oracle
        theirs: Any = torch.nn.utils.spectral_norm(plain)
    theirs.weight_u.copy_(ours.u)
    theirs.weight_v.copy_(ours.v)
    x = torch.rand(2, 3, 8, 8)
    found = truth = x
    for _ in range(3):
        found, truth = ours(x), theirs(x)
        torch.testing.assert_close(found, truth)
    found.square().sum().backward()
    truth.square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight_orig.grad)
    torch.testing.assert_close(ours.u, theirs.weight_u)
    torch.testing.assert_close(ours.v, theirs.weight_v)
    before = ours.u.clone()
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert torch.equal(ours.u, before)


def test_settled_kernel_has_unit_norm():
    layer = SpectralConv2d(4, 8, 3).eval()
    settle_spectral(layer, 200)
    norm = torch.linalg.matrix_norm(layer.unit_weight().flatten(1), ord=2)
    torch.testing.assert_close(norm, torch.tensor(1.0), rtol=1e-4, atol=0)


def test_isometric_start_keeps_lengths_and_passes_on_what_is_named_so():
    layers = nn.ModuleDict({"merge": SpectralConv2d(8, 4, 3, padding=1)})
    layers["first"] = SpectralConv2d(4, 8, 3, padding=1)
    start_isometric(layers, identity=("merge",))
    values = torch.linalg.svdvals(layers["first"].weight.flatten(1))
    torch.testing.assert_close(values, torch.ones(8))
    settle_spectral(layers, 100)
    x = torch.rand(1, 8, 16, 16)
    found = layers["merge"].eval()(x)
    assert torch.corrcoef(torch.stack([found[0, 2].flatten(), x[0, 2].flatten()]))[0, 1] > 0.9


def test_folding_changes_no_bit_and_leaves_the_original_alone():
    critic = WideCritic(width=2)
    before = copy.deepcopy(critic.state_dict())
    folded = fold_spectral(critic)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(folded(x), critic.eval()(x))
    assert not any(isinstance(module, SpectralConv2d) for module in folded.modules())
    assert all(torch.equal(before[key], value) for key, value in critic.state_dict().items())


@pytest.mark.parametrize("training", [False, True])
def test_sigma_is_float32_under_autocast_and_in_half_precision(training: bool):
    layer = SpectralConv2d(64, 64, 3).train(training)
    exact = copy.deepcopy(layer).unit_weight()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(copy.deepcopy(layer).unit_weight(), exact)
    half = copy.deepcopy(layer).bfloat16().unit_weight()
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=2e-2, atol=1e-4)


def test_official_keys_round_trip_and_others_stay():
    network = nn.Sequential(SpectralConv2d(2, 4, 3, bias=True), nn.Conv2d(4, 2, 1))
    state = network.state_dict()
    official = to_official_keys(state)
    assert list(official) == [
        "0.weight_orig",
        "0.bias",
        "0.weight_u",
        "0.weight_v",
        "1.weight",
        "1.bias",
    ]
    assert from_official_keys(official).keys() == state.keys()
