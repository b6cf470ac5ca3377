"""`retouch train`: train a network from a recipe."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def train(
    recipe: Path,
    *,
    overrides: Annotated[tuple[str, ...], Parameter(name=["--set", "-s"], negative="")] = (),
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Train a network; a run that was stopped goes on where it was.

    Args:
        recipe: A TOML recipe, see `recipes/`.
        overrides: A line of TOML that overrides the recipe: `-s optim.lr=3e-4`. Repeatable.
        output: Run folder; default `runs/<name of the weights>`.
        device: Where to train; `auto` takes a GPU where there is one.
    """
    import logging

    from retouch.recipe import load
    from retouch.training.config import TrainConfig
    from retouch.training.loop import Run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    config = load(recipe, TrainConfig, overrides)
    Run(config, output or Path("runs") / config.name, device).fit()
