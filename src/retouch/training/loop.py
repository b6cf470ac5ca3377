"""The one training loop: every network, every objective, one process or many."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from safetensors import SafetensorError

from retouch import recipe
from retouch.training import checkpoint, feed, material
from retouch.training.building import card
from retouch.training.config import TrainConfig
from retouch.training.errors import TrainingError, deliberate
from retouch.training.journal import Journal, Watch
from retouch.training.learner import Learner
from retouch.training.stopping import Stop
from retouch.training.validation import Validation, takes_labels
from retouch.weights import files

__all__ = ["Run", "TrainingError"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Run:
    """One training run in its folder.

    Args:
        config: The recipe.
        folder: Where log, sheets, checkpoints and weights go; an existing run goes on there.
        device: `auto`, `cpu` or `cuda`.
        watch: Called with every row of the log.
        resume: Go on from the folder's last checkpoint, if it has one.

    Raises:
        TrainingError: If the recipe cannot be run.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        device: str = "auto",
        watch: Watch | None = None,
        *,
        resume: bool = True,
    ) -> None:
        self.config = config
        self.folder = folder
        self.watch = watch
        self.fabric = _fabric(config, device)
        self.fabric.seed_everything(config.seed, verbose=False)
        if config.deterministic:
            torch.use_deterministic_algorithms(True)
        fixed = getattr(card(config), "fixed_size", None)
        self.material = material.read(
            config, multiple=0 if fixed else 64, labels=takes_labels(config)
        )
        with deliberate():
            self.learner = Learner(config, self.fabric)
        self.validation = Validation(config, self.material.validation, self.fabric)
        self.step = 0
        self.best: float | None = None
        self.worse = 0
        if resume:
            self._resume()

    def fit(self) -> None:
        """Train to the last step, with validation, sheets and checkpoints on the way.

        Raises:
            TrainingError: If a loss is not finite, the run diverges or nothing can be written; the
                last checkpoint stays usable.
            KeyboardInterrupt: After Ctrl-C (SystemExit after SIGTERM), with a checkpoint of the
                step that was running.
        """
        with deliberate(), self._one_line_errors():
            self._begin()
            try:
                self._train()
            finally:
                if self.journal is not None:
                    self.journal.close()

    def _begin(self) -> None:
        self.journal: Journal | None = None
        if not self.fabric.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.clean(self.folder)
        (self.folder / "recipe.toml").write_text(tomli_w.dumps(recipe.plain(self.config)))
        self.journal = Journal(
            self.folder, self.step, tensorboard=self.config.tensorboard, watch=self.watch
        )

    def _train(self) -> None:
        config, learner = self.config, self.learner
        started, seen = time.perf_counter(), 0
        sampler = self.material.sampler
        with Stop(self.fabric.world_size == 1) as stop:
            for batches in feed.batches(sampler, config, self.fabric, learner.objective, self.step):
                terms = self._train_step(batches)
                self.step += 1
                seen += config.batch
                last = self.step == config.steps
                due = last or self.step % config.validate_every == 0
                if due or stop.asked or self.step % config.log_every == 0:
                    values = learner.everywhere(terms)
                    self._check_finite(values)
                    rate = seen / (time.perf_counter() - started)
                    self._log({"step": self.step, "pictures/s": round(rate, 2)} | values)
                    started, seen = time.perf_counter(), 0
                if due:
                    self._validate()
                    self._checkpoint()
                    started, seen = time.perf_counter(), 0
                if stop.asked:
                    if not due:
                        self._checkpoint()
                    stop.leave()

    def _train_step(self, batches: list[Any]) -> dict[str, torch.Tensor]:
        return self.learner.step(self.step, batches)

    def _validate(self) -> None:
        sheets = self.folder / "sheets"
        found = self.validation.run(
            self.learner.averaged, self.learner.objective, sheets, self.step
        )
        if not found:
            return
        self._log({"step": self.step} | {f"validation {k}": round(v, 5) for k, v in found.items()})
        if self.journal is not None:
            self.journal.picture("sheet", sheets / f"{self.step:06d}-0.png", self.step)
        value = next(iter(found.values()))
        if self.validation.better(value, self.best):
            self.best = value
            self._save_weights("best", found)
        self._check_course(value)

    def _checkpoint(self) -> None:
        if not self.fabric.is_global_zero:
            return
        self._save_weights("last")
        state = self.learner.state() | {
            "step": self.step,
            "best": self.best,
            "worse": self.worse,
        }
        checkpoint.save(self.folder / "checkpoints", self.step, state)

    def _save_weights(self, name: str, metrics: dict[str, float] | None = None) -> None:
        if not self.fabric.is_global_zero:
            return
        network: Any = self.learner.averaged
        header = files.Header(
            network=self.config.network,
            config=recipe.plain(network.config),
            name=self.config.name,
            license=self.config.license,
            data=self.config.packs,
            metrics=None if metrics is None else dict(metrics),
            source={"steps": self.step, "batch": self.config.batch},
        )
        files.save(self.folder / f"{name}.safetensors", header, network.state_dict())

    def _resume(self) -> None:
        state = checkpoint.latest(self.folder / "checkpoints")
        if state is None:
            return
        try:
            self.learner.load(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise TrainingError(
                f"the run in {self.folder} is of another recipe (see its recipe.toml): "
                + str(error).splitlines()[0]
            ) from None
        self.step, self.best, self.worse = state["step"], state["best"], state["worse"]

    def _check_finite(self, values: dict[str, float]) -> None:
        if bad := [k for k, v in values.items() if not np.isfinite(v)]:
            raise TrainingError(
                f"step {self.step}: {', '.join(bad)} not finite; the last checkpoint in"
                f" {self.folder / 'checkpoints'} is usable (try a lower optim.lr)"
            )

    def _check_course(self, value: float) -> None:
        """Stop a run that has become much worse than it was.

        Raises:
            TrainingError: If so, twice in a row.
        """
        config, best = self.config, self.best
        far = best is not None and not abs(value - best) <= config.abort
        self.worse = self.worse + 1 if config.abort and far else 0
        if self.worse >= 2:
            raise TrainingError(
                f"step {self.step}: {self.validation.names[0]} {value:.4g} is worse than the best,"
                f" {best:.4g}, by more than abort = {config.abort} twice in a row; the weights of"
                f" the best step are {self.folder / 'best.safetensors'}"
            )

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in _FULL
            why = "the disk is full" if full else str(error)
            raise TrainingError(self._cannot_write(why)) from error
        except SafetensorError as error:
            if "I/O error" not in str(error):
                raise
            full = any(f"os error {n})" in str(error) for n in _FULL)
            raise TrainingError(
                self._cannot_write("the disk is full" if full else str(error))
            ) from error
        except RuntimeError as error:
            # PyTorch's archive writer hides the reason that the file system gave.
            if "PytorchStreamWriter" not in str(error) and "file write failed" not in str(error):
                raise
            raise TrainingError(self._cannot_write("the disk is full or broken")) from error

    def _cannot_write(self, why: str) -> str:
        return (
            f"step {self.step}: cannot write to {self.folder}: {why}; the last checkpoint in"
            f" {self.folder / 'checkpoints'} is usable"
        )

    def _log(self, row: dict[str, Any]) -> None:
        if self.journal is not None:
            self.journal.write(row)


def _fabric(config: TrainConfig, device: str) -> Fabric:
    """One process, or those that torchrun started."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Fabric(accelerator=device, devices=1, precision=config.precision)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(),
        precision=config.precision,
    )
    fabric.launch()
    return fabric
