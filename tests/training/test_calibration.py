"""Published content and style weights are fitted to the VGG-19 file at hand, aloud."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from retouch import models
from retouch.data.config import DataConfig
from retouch.layers.vgg import VGG19
from retouch.training import building, calibration
from retouch.training.config import TrainConfig

WIDTHS = (2, 2, 2, 2, 2)


def vgg_file(tmp_path: Path, scaling: Any) -> str:
    """A tiny VGG-19 in the form of one of the two public files."""
    network = VGG19(WIDTHS, scaling)
    state: dict[str, torch.Tensor] = {}
    prefix = "features." if scaling == "torchvision" else ""
    if scaling == "unit-mean":
        state["0.weight"], state["0.bias"] = network.entry.weight, network.entry.bias
    for index, conv in enumerate(network.convs, start=1):
        state[f"{prefix}{index}.weight"], state[f"{prefix}{index}.bias"] = conv.weight, conv.bias
    path = tmp_path / f"{scaling}.pth"
    torch.save(state, path)
    return str(path)


def config(features: str, **given: Any) -> TrainConfig:
    return TrainConfig(
        network=given.pop("network", "isnet"),
        name="isnet-test",
        data=DataConfig(pictures=("x",)),
        features=features,
        model=dict(models.card("isnet").small),
        **given,
    )


def test_factors_fit_terms_that_exist():
    for name, factors in calibration.FACTORS.items():
        published = models.card(name).objective_config().weights
        assert set(factors) <= set(published)
        assert all(0.01 < factor < 10 for factor in factors.values())


def test_only_the_unit_mean_file_changes_published_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    theirs: Any = building.objective(config(vgg_file(tmp_path, "torchvision")))
    assert theirs.config.weights["style"] == 250
    assert not caplog.records
    ours: Any = building.objective(config(vgg_file(tmp_path, "unit-mean")))
    assert ours.config.weights["style"] == 250 * calibration.FACTORS["isnet"]["style"]
    assert ours.config.weights["l1"] == theirs.config.weights["l1"]
    assert "style 250 -> 37.5" in caplog.text


def test_given_weights_are_taken_as_they_are(tmp_path: Path):
    file = vgg_file(tmp_path, "unit-mean")
    built: Any = building.objective(config(file, objective={"weights": {"style": 99.0}}))
    assert built.config.weights["style"] == 99


def test_networks_are_trained_alike_with_another_objective(tmp_path: Path):
    file = vgg_file(tmp_path, "unit-mean")
    built = building.objective(config(file, objective_of="dilated"))
    assert isinstance(built, models.card("dilated").objective)
    with pytest.raises(building.TrainingError, match="objective_of must be one of"):
        building.objective(config(file, objective_of="nothing"))
