"""Tiny made pictures with label maps, mask files, and recipes that train in seconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retouch import recipe
from retouch.training.config import TrainConfig


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of 64x64 px with label maps."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(24):
        small = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(small).resize((64, 64)).save(folder / f"{index}.png")
        labels = Image.fromarray(rng.integers(0, 8, (6, 6)).astype(np.uint8))
        labels.resize((64, 64), 0).save(folder / f"{index}.label.png")
    return folder


@pytest.fixture(scope="session")
def mask_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three mask files."""
    folder = tmp_path_factory.mktemp("masks")
    for index in range(3):
        mask = np.zeros((64, 64), bool)
        mask[10 : 30 + 5 * index, 20:50] = True
        Image.fromarray(mask).save(folder / f"m{index}.png")
    return folder


def tiny(pictures: Path, **more: Any) -> TrainConfig:
    """A recipe of eight steps; `more` replaces whole entries."""
    raw = {
        "network": "dilated",
        "name": "dilated-test",
        "data": {"pictures": [str(pictures)], "size": 32, "validation": 2},
        "model": {"channels": [4, 8, 8]},
        "objective": {"critic_width": 4},
        "optim": {"warmup": 2, "critic_from": 3},
        "steps": 8,
        "batch": 2,
        "validate_every": 4,
        "log_every": 1,
        "tensorboard": False,
    }
    return recipe.structure(raw | more, TrainConfig, where="test")


def losses(folder: Path) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "pictures/s"} for row in rows]
