"""Recipes of a few steps on tiny data, for the tests of this folder."""

import json
from pathlib import Path
from typing import Any

from retouch import recipe
from retouch.training.config import TrainConfig


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
