"""Critics against those of ISNet @ 49b9b0b, SEM-Net @ 1a5dcd0 and PEN-Net @ 8721a55."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from retouch import critics
from retouch.critics import PatchCritic, WideCritic


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("case", ["isnet_dis", "semnet_dis"])
def test_patch_critic_matches_the_official_ones(parity, case: str):
    official = parity.official(case, **{"features.0": "conv1.0"})
    truth = load_file(parity.folder / f"{case}_logits.safetensors")
    assert critics.is_official_patch_critic(official)
    critic = PatchCritic().eval()
    critic.load_state_dict(critics.patch_critic_from_official(official))
    with torch.inference_mode():
        features = critic.features(parity.picture("image", height=64, width=64))
    assert parity.error(features[-1], truth["out.f64"]) < 2e-5
    if "feature3.f64" in truth:
        assert parity.error(features[3][:, :64], truth["feature3.f64"]) < 2e-5
    chances = load_file(parity.folder / f"{case}_sigmoid.safetensors")["out.f64"]
    assert parity.error(features[-1].sigmoid(), chances) < 2e-5
    assert count(critic) == 2_763_776


def test_wide_critic_matches_the_official_one(parity):
    official = parity.official("pennet_dis")
    truth = load_file(parity.folder / "pennet_dis_logits.safetensors")["out.f64"]
    assert critics.is_official_wide_critic(official)
    critic = WideCritic().eval()
    critic.load_state_dict(critics.wide_critic_from_official(official))
    with torch.inference_mode():
        logits = critic(parity.picture("image", height=64, width=64) * 2 - 1)
    assert parity.error(logits, truth) < 2e-5
    assert count(critic) == 4_318_401


def test_official_names_come_back_with_their_duplicates():
    patch = PatchCritic(width=2)
    official = critics.patch_critic_to_official(patch.state_dict())
    assert len(official) == 18
    assert official["features.0.weight_orig"] is official["conv1.0.weight_orig"]
    again = critics.patch_critic_from_official(official)
    assert all(torch.equal(again[key], value) for key, value in patch.state_dict().items())
    alone = {key: value for key, value in official.items() if not key.startswith("features")}
    assert critics.patch_critic_from_official(alone).keys() == again.keys()

    wide = WideCritic(width=2)
    official = critics.wide_critic_to_official(wide.state_dict())
    assert len(official) == 14
    assert {"encoder.6.weight_v", "classifier.bias"} <= official.keys()
    again = critics.wide_critic_from_official(official)
    assert all(torch.equal(again[key], value) for key, value in wide.state_dict().items())


def test_duplicates_that_differ_are_refused():
    official = critics.patch_critic_to_official(PatchCritic(width=2).state_dict())
    official["features.0.weight_u"] = -official["features.0.weight_u"]
    with pytest.raises(ValueError, match=r"conv1.0.weight_u and features.0.weight_u must be equal"):
        critics.patch_critic_from_official(official)


@pytest.mark.parametrize(
    ("strides", "sides"), [((2, 2, 2, 1, 1), (3, 11, 27)), ((2, 2, 2, 2, 2), (1, 3, 7))]
)
def test_wide_critic_has_as_many_cells_as_published(strides: tuple[int, ...], sides: tuple[int]):
    critic = WideCritic(width=2, strides=strides)
    with torch.inference_mode():
        found = tuple(critic(torch.rand(1, 3, n, n)).shape[-1] for n in (64, 128, 256))
    assert found == sides


def test_wide_critic_needs_five_strides():
    with pytest.raises(ValueError, match=r"strides must be five, got \(2, 2\)"):
        WideCritic(strides=(2, 2))


def test_frozen_critic_passes_gradients_but_takes_none():
    critic = PatchCritic(width=2)
    picture = torch.rand(1, 3, 32, 32, requires_grad=True)
    with critics.frozen(critic):
        logits = critic(picture)
    logits.sum().backward()
    assert picture.grad is not None
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())


def test_two_passes_before_one_backward():
    critic = PatchCritic(width=2)
    a, b = critic(torch.rand(1, 3, 32, 32)), critic(torch.rand(1, 3, 32, 32))
    (a.mean() - b.mean()).backward()
    assert all(parameter.grad is not None for parameter in critic.parameters())
