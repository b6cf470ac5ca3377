"""Micro-batches and processes give the losses of one large batch."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tiny_runs import losses, tiny
from torch import Tensor

from retouch import recipe
from retouch.data.batch import Batch
from retouch.training import feed
from retouch.training.config import TrainConfig
from retouch.training.errors import TrainingError
from retouch.training.loop import Run

SMALL = {
    "dilated": ({"channels": [4, 8, 8]}, {"critic_width": 4}),
    "structure": ({"channels": 16, "blocks": 1}, {"critic_channels": 4}),
    "isnet": ({"width": 4, "blocks": 1, "init_std": 0.02}, {"critic_width": 4}),
}


def same(first: Path, second: Path, network: str, tolerance: float = 1e-5) -> None:
    rows, others = losses(first), losses(second)
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            bound = 100 * tolerance if (key, network) == AMPLIFIED else tolerance
            assert value == pytest.approx(other[key], rel=bound, abs=bound), (key, row)


AMPLIFIED = ("gradient norm", "structure")
"""Structure's instance norms amplify rounding errors: in double precision its gradients agree, too
(`test_gradients_agree_in_double_precision`). Its published rate is small as well."""
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
    same(tmp_path / "1", tmp_path / "2", network)


@pytest.mark.parametrize("order", ["critic-first", "simultaneous"])
def test_spectral_norms_iterate_as_in_one_large_batch(pictures: Path, tmp_path: Path, order: str):
    optim = {"warmup": 2, "critic_from": 2, "order": order, "lr": 1e-5, "critic_lr": 1e-5}
    for accumulate in (1, 2):
        config = four(pictures, "isnet", optim=optim, accumulate=accumulate)
        Run(config, tmp_path / str(accumulate), "cpu").fit()
    same(tmp_path / "1", tmp_path / "2", "isnet")


@pytest.mark.parametrize("order", ["critic-first", "simultaneous"])
@pytest.mark.parametrize("network", ["structure", "isnet"])
def test_gradients_agree_in_double_precision(
    pictures: Path, tmp_path: Path, network: str, order: str
):
    optim = {"warmup": 0, "critic_from": 0, "order": order, "lr": 1e-5, "critic_lr": 1e-5}
    found: list[dict[str, Tensor]] = []
    terms: dict[str, Tensor] = {}
    for accumulate in (1, 2):
        config = four(pictures, network, optim=optim, accumulate=accumulate, ema=0.0)
        run = Run(config, tmp_path, "cpu", resume=False)
        learner = run.learner
        learner.network.double()
        learner.objective.double()
        stream = feed.batches(run.material.sampler, config, run.fabric, learner.objective, 0)
        for number, batches in enumerate(islice(stream, 3)):
            terms = learner.step(number, [doubled(batch) for batch in batches])
        found.append(terms)
    for key, value in found[0].items():
        # Shares are averaged in float32.
        assert float(value) == pytest.approx(float(found[1][key]), rel=1e-6), key


def doubled(batch: Batch) -> Batch:
    wide = {"image": batch.image.double(), "mask": batch.mask.double()}
    shares = {key: value.double() for key, value in batch.shares.items()}
    return replace(batch, **wide, hole_share=batch.hole_share.double(), shares=shares)


def torchrun(config: TrainConfig, folder: Path, *more: str) -> str:
    """Train with two processes, as a person would start them; return what they print."""
    folder.mkdir()
    path = folder / "two.toml"
    path.write_text(tomli_w.dumps(recipe.plain(config)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = folder / "train.py"
    script.write_text("from retouch.cli import main\n\nif __name__ == '__main__':\n    main()\n")
    command += [str(script), "train", str(path), "-o", str(folder), "--device", "cpu", *more]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as started:
        try:
            out, errors = started.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)  # its two processes are of its group
            raise
    assert started.returncode == 0, errors[-3000:]
    return out


@pytest.mark.parametrize("network", ["dilated", "structure"])
def test_two_processes_train_as_one(pictures: Path, tmp_path: Path, network: str):
    optim = {"warmup": 2, "critic_from": 2, "order": "critic-first"}
    optim |= {"lr": RATES[network], "critic_lr": RATES[network]}
    Run(four(pictures, network, optim=optim), tmp_path / "one", "cpu").fit()
    torchrun(four(pictures, network, optim=optim), tmp_path / "two")
    same(tmp_path / "one", tmp_path / "two", network)


def test_two_processes_rehearse(pictures: Path, tmp_path: Path):
    found = torchrun(four(pictures), tmp_path / "two", "--dry-run")
    assert found.count("s per step on cpu") == 1
    assert not (tmp_path / "two" / "checkpoints").exists()


@pytest.mark.slow
def test_two_processes_with_micro_batches_train_as_one(pictures: Path, tmp_path: Path):
    optim = {"warmup": 2, "critic_from": 2, "order": "simultaneous"}
    optim |= {"lr": 1e-4, "critic_lr": 1e-4}
    Run(four(pictures, optim=optim), tmp_path / "one", "cpu").fit()
    torchrun(four(pictures, optim=optim, accumulate=2), tmp_path / "two")
    same(tmp_path / "one", tmp_path / "two", "dilated")


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
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # PyTorch's own
@pytest.mark.parametrize("network", ["dilated", "structure"])
def test_compiled_networks_train_alike(pictures: Path, tmp_path: Path, network: str):
    optim = {"warmup": 2, "critic_from": 2, "lr": 1e-4, "critic_lr": 1e-4}
    for compiled in (False, True):
        config = four(pictures, network, optim=optim, compile=compiled, deterministic=True)
        Run(config, tmp_path / str(compiled), "cpu").fit()
    same(tmp_path / "False", tmp_path / "True", network, tolerance=1e-3)
