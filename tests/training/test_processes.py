"""Micro-batches and processes give the losses of one large batch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tiny_runs import losses, tiny

from retouch import recipe
from retouch.training.config import TrainConfig
from retouch.training.errors import TrainingError
from retouch.training.loop import Run

SMALL = {
    "dilated": ({"channels": [4, 8, 8]}, {"critic_width": 4}),
    "structure": ({"channels": 16, "blocks": 1}, {"critic_channels": 4}),
    "isnet": ({"width": 4, "blocks": 1, "init_std": 0.02}, {"critic_width": 4}),
}


def same(first: Path, second: Path, tolerance: float = 1e-5) -> None:
    rows, others = losses(first), losses(second)
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            # Absolute differences have kinks: a rounding error can flip a gradient's sign.
            bound = 100 * tolerance if key == "gradient norm" else tolerance
            assert value == pytest.approx(other[key], rel=bound, abs=bound), (key, row)


# Structure's norms and absolute differences amplify rounding errors: its published rate is small.
RATES = {"dilated": 1e-4, "structure": 1e-5}


def four(pictures: Path, network: str = "dilated", **more: Any) -> TrainConfig:
    model, objective = SMALL[network]
    raw = {"network": network, "model": model, "objective": objective, "batch": 4, "steps": 5}
    return tiny(pictures, **{**raw, **more})


@pytest.mark.parametrize("order", ["critic-first", "simultaneous"])
@pytest.mark.parametrize("network", ["dilated", "structure"])
def test_micro_batches_add_up(pictures: Path, tmp_path: Path, network: str, order: str):
    optim = {"warmup": 2, "critic_from": 2, "order": order}
    optim |= {"lr": RATES[network], "critic_lr": RATES[network]}
    for accumulate in (1, 2):
        config = four(pictures, network, optim=optim, accumulate=accumulate)
        Run(config, tmp_path / str(accumulate), "cpu").fit()
    same(tmp_path / "1", tmp_path / "2")


def test_a_spectral_norm_iterates_once_per_step(pictures: Path, tmp_path: Path):
    # Its critic iterates between real and fake pictures, hence the looser bound.
    optim = {"warmup": 2, "critic_from": 2, "order": "simultaneous", "lr": 1e-4, "critic_lr": 1e-5}
    for accumulate in (1, 2):
        config = four(pictures, "isnet", optim=optim, accumulate=accumulate)
        Run(config, tmp_path / str(accumulate), "cpu").fit()
    same(tmp_path / "1", tmp_path / "2", tolerance=2e-2)


def torchrun(config: TrainConfig, folder: Path) -> None:
    """Train with two processes, as a person would start them."""
    folder.mkdir()
    path = folder / "two.toml"
    path.write_text(tomli_w.dumps(recipe.plain(config)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = folder / "train.py"
    script.write_text("from retouch.cli import main\n\nif __name__ == '__main__':\n    main()\n")
    done = subprocess.run(
        [*command, str(script), "train", str(path), "-o", str(folder), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("network", ["dilated", "structure"])
def test_two_processes_train_as_one(pictures: Path, tmp_path: Path, network: str):
    optim = {"warmup": 2, "critic_from": 2, "order": "critic-first"}
    optim |= {"lr": RATES[network], "critic_lr": RATES[network]}
    Run(four(pictures, network, optim=optim), tmp_path / "one", "cpu").fit()
    torchrun(four(pictures, network, optim=optim), tmp_path / "two")
    same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_processes_with_micro_batches_train_as_one(pictures: Path, tmp_path: Path):
    optim = {"warmup": 2, "critic_from": 2, "order": "simultaneous"}
    optim |= {"lr": 1e-4, "critic_lr": 1e-4}
    Run(four(pictures, optim=optim), tmp_path / "one", "cpu").fit()
    torchrun(four(pictures, optim=optim, accumulate=2), tmp_path / "two")
    same(tmp_path / "one", tmp_path / "two")


def test_a_batch_that_cannot_be_divided_says_so(pictures: Path, tmp_path: Path):
    with pytest.raises(recipe.RecipeError, match="batch must be a multiple of accumulate"):
        four(pictures, batch=3, accumulate=2)
    run = Run(four(pictures), tmp_path, "cpu")
    object.__setattr__(run.config, "accumulate", 3)
    with pytest.raises(TrainingError, match="processes x accumulate"):
        run.fit()


def test_bf16_and_other_memory_orders_train(pictures: Path, tmp_path: Path):
    changes: list[dict[str, Any]] = [{"precision": "bf16-mixed"}, {"channels_last": False}]
    for index, more in enumerate(changes):
        Run(four(pictures, **more), tmp_path / str(index), "cpu").fit()
        assert len(losses(tmp_path / str(index))) > 5


@pytest.mark.slow
@pytest.mark.parametrize("network", ["dilated", "structure"])
def test_compiled_networks_train_alike(pictures: Path, tmp_path: Path, network: str):
    optim = {"warmup": 2, "critic_from": 2, "lr": 1e-4, "critic_lr": 1e-4}
    for compiled in (False, True):
        config = four(pictures, network, optim=optim, compile=compiled, deterministic=True)
        Run(config, tmp_path / str(compiled), "cpu").fit()
    same(tmp_path / "False", tmp_path / "True", tolerance=1e-3)
