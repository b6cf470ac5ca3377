"""Every recipe parses and trains; every ablation of recipes/README.md fits its network."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retouch import models, recipe
from retouch.training import building
from retouch.training.config import TrainConfig
from retouch.training.loop import Run
from retouch.training.rehearsal import rehearse

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))
SLOW = ("semnet-celebahq", "semnet-places2")  # the other SEM-Nets train the same way
MARKED = [pytest.param(p, marks=[pytest.mark.slow] if p.stem in SLOW else []) for p in RECIPES]
ABLATIONS = re.findall(r"^retouch train (recipes/.*)$", (FOLDER / "README.md").read_text(), re.M)


def reduced(config: TrainConfig, pictures: Path, masks: Path) -> TrainConfig:
    """The recipe at reduced width on tiny data: everything else stays."""
    card = building.card(config)
    objective: dict[str, Any] = {**config.objective}
    fields = card.objective_config.__dataclass_fields__
    objective |= {k: 8 for k in ("critic_width", "critic_channels") if k in fields}
    model = {**config.model, **card.small}
    if config.network == "semnet":
        model |= {"channels": 4}
    # ESPA fits 256 px only: one recipe keeps it.
    if config.network == "semantic" and config.name != "semantic-faces":
        model["espa"] = False
    if config.network == "semantic" and not config.model.get("guided", True):
        model["segmenter"] = ""
    size = 256 if model.get("espa", config.network == "semantic") else 32
    size = max(size, min(64, getattr(card, "min_size", 32)) if not model.get("espa") else size)
    data = replace(
        config.data,
        pictures=(str(pictures),),
        validation_pictures=(),
        masks=(str(masks),),
        leave_out=(),
        test_pictures=(str(pictures),) if config.data.test_pictures else (),
        size=size,
        shrink=0.0,
        validation=1,
        threads=1,
    )
    return replace(
        config,
        model=model,
        objective=objective,
        data=data,
        features=None,
        init=None,
        steps=20 if size < 256 else 3,
        batch=min(config.batch, 2),
        optim=replace(config.optim, critic_from=min(config.optim.critic_from, 2)),
        validate_every=20,
        sheets=0 if size < 256 else 1,
        tensorboard=False,
        precision="32-true",
    )


@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.stem)
def test_every_recipe_dry_runs_and_trains(
    path: Path, pictures: Path, mask_files: Path, tmp_path: Path
):
    config = reduced(recipe.load(path, TrainConfig), pictures, mask_files)
    found = rehearse(Run(config, tmp_path, "cpu", resume=False))
    assert found.step > 0
    assert found.counts["training"] == 23
    assert not list(tmp_path.iterdir())
    run = Run(config, tmp_path, "cpu")
    run.fit()
    assert run.step == config.steps
    assert (tmp_path / "best.safetensors").is_file() or run.best is None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_what_its_classes_know(path: Path):
    config = recipe.load(path, TrainConfig)
    card = building.card(config)
    recipe.structure(dict(config.model), card.config, where=str(path))
    with torch.device("meta"):
        objective = building.objective(replace(config, features=None))
    teacher = models.card(config.objective_of) if config.objective_of else card
    assert set(objective.config.weights) <= set(teacher.objective_config().weights)  # pyright: ignore
    assert config.name.startswith(config.network)


@pytest.mark.parametrize("command", ABLATIONS, ids=lambda text: text.split('"')[-2])
def test_every_ablation_fits_its_network(command: str):
    path, *options = shlex.split(command)
    lines = [text for flag, text in zip(options[::2], options[1::2], strict=True) if flag == "-s"]
    config = recipe.load(FOLDER.parent / path, TrainConfig, lines)
    card = building.card(config)
    recipe.structure(dict(config.model), card.config, where=path)
    recipe.structure(dict(config.objective), card.objective_config, where=path)
