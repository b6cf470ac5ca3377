"""`retouch train`: train a network from a recipe."""

from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retouch.training.rehearsal import Rehearsal


def train(
    recipe: Path,
    *,
    overrides: Annotated[tuple[str, ...], Parameter(name=["--set", "-s"], negative="")] = (),
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    init: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    plain: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train a network; a run that was stopped goes on where it was.

    Several processes or machines: `torchrun --nproc-per-node=4 --no-python retouch train RECIPE`.

    Args:
        recipe: A TOML recipe, see `recipes/`.
        overrides: A line of TOML that overrides the recipe: `-s optim.lr=3e-4`. Repeatable.
        output: Run folder; default `runs/<name of the weights>`.
        device: Where to train; `auto` takes a GPU where there is one.
        init: Weight file to start from, instead of the recipe's.
        dry_run: Read and check the data, train five steps, say what they cost, write nothing.
        plain: Log lines instead of the live view, as where the output is no terminal.
    """
    import logging
    import os
    import sys
    from dataclasses import replace

    from retouch.layers.host_memory import keep_freed_memory
    from retouch.recipe import load
    from retouch.training.config import TrainConfig

    try:
        from retouch.training.loop import Run
    except ModuleNotFoundError as error:
        print(f"retouch: {error.name} is missing: pip install 'retouch[train]'", file=sys.stderr)
        sys.exit(2)
    keep_freed_memory()  # a tenth of a step's CPU time: the same sizes come again and again
    first = os.environ.get("RANK", "0") == "0"
    live = first and sys.stdout.isatty() and not (plain or dry_run)
    logging.basicConfig(
        level=logging.INFO if first and not live else logging.WARNING, format="%(message)s"
    )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    config = load(recipe, TrainConfig, overrides)
    if init is not None:
        config = replace(config, init=init)
    folder = output or Path("runs") / config.name
    view = None
    if live:
        from retouch.training.view import View

        view = View(config)
    with _named(recipe):
        run = Run(config, folder, device, view, resume=not dry_run)
    if dry_run:
        from retouch.training.rehearsal import rehearse

        found = rehearse(run)
        if first:
            _report(found, config.batch, config.steps)
    else:
        _warn(run.material.overlaps)
        with view or nullcontext():
            run.fit()
    del run
    _leave()


@contextmanager
def _named(path: Path) -> "Iterator[None]":
    """Put the recipe's name in front of what is wrong with it."""
    from retouch.recipe import RecipeError

    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("retouch."):
            raise
        text = error.args[0] if isinstance(error, KeyError) else str(error)
        raise RecipeError(f"{path}: {str(text).removeprefix('recipe: ')}") from error


def _leave() -> None:
    """End the group of processes, after the run that used it is gone.

    A run that outlives its group ends it while it holds Python's lock, which a thread of the group
    may be waiting for: the process would never end.
    """
    import gc

    import torch.distributed

    gc.collect()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _warn(overlaps: dict[str, list[tuple[str, str]]]) -> None:
    import logging

    for name, pairs in overlaps.items():
        examples = ", ".join(f"{a} = {b}" for a, b in pairs[:3])
        logging.warning("%d training pictures are also in %s: %s", len(pairs), name, examples)


def _report(found: "Rehearsal", batch: int, steps: int) -> None:
    counts = ", ".join(f"{count:,} {name}" for name, count in found.counts.items())
    print(f"data        {counts}")
    for name, pairs in found.overlaps.items():
        examples = ", ".join(f"{a} = {b}" for a, b in pairs[:3])
        print(f"overlap     {len(pairs)} training pictures are also in {name}: {examples}")
    if not found.overlaps:
        print("overlap     no training picture is in another set (by content)")
    parameters = ", ".join(f"{count:,} {name}" for name, count in found.parameters.items())
    print(f"parameters  {parameters}")
    memory = ", ".join(f"{size / 1e6:,.0f} {name}" for name, size in found.memory.items())
    total = sum(found.memory.values()) / 1e6
    print(f"memory      about {total:,.0f} MB per process: {memory}")
    hours = found.step * steps / 3600
    print(
        f"time        {found.step:.3f} s per step on {found.device}"
        f" ({batch / found.step:.1f} pictures/s, {found.reading:.0%} waiting for data);"
        f" {steps:,} steps take about {hours:,.1f} hours"
    )
    print("terms       " + ", ".join(f"{key} {value:.4g}" for key, value in found.terms.items()))
