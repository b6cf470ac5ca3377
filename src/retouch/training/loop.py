"""The one training loop: every network, every objective, one process or many."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tomli_w
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from retouch import models, recipe
from retouch.data import sources
from retouch.data.batch import Batch
from retouch.data.batches import Sampler
from retouch.layers.vgg import VGG19
from retouch.training import checkpoint, sheet
from retouch.training.config import TrainConfig
from retouch.training.ema import EMA
from retouch.weights import files, official, store

log = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """A run cannot start or go on; the message says why."""


class Run:
    """One training run in its folder.

    Args:
        config: The recipe.
        folder: Where log, sheets, checkpoints and weights go; an existing run goes on there.
        device: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, config: TrainConfig, folder: Path, device: str = "auto") -> None:
        self.config = config
        self.folder = folder
        self.fabric = Fabric(accelerator=device, devices=1, precision=config.precision)
        self.fabric.seed_everything(config.seed, verbose=False)
        self.sampler, self.validation = _read_data(config)
        self._build()
        self.step = 0
        self.best = float("inf")
        self._resume()

    def _build(self) -> None:
        config, card = self.config, models.card(self.config.network)
        where = "recipe"
        network = card.model(recipe.structure(dict(config.model), card.config, where=where))
        if config.init:
            _, state = files.read(config.init)
            network.load_state_dict(state)
        features = _features(config.features) if config.features else None
        settings = _objective_config(card, config)
        objective = card.objective(settings, features)
        self.weights: dict[str, float] = dict(settings.weights)
        layout = torch.channels_last
        network, objective = (m.to(memory_format=layout) for m in (network, objective))
        self.ema = EMA(network, config.ema)
        self.ema.network.to(self.fabric.device)
        objective.to(self.fabric.device)
        self.objective = objective
        trainable = getattr(objective, "trainable", lambda n: list(n.parameters()))(network)
        self.network, self.optimizer = self.fabric.setup(
            network, _adam(trainable, config.optim.lr, config)
        )
        self.critic_optimizer = None
        critics: nn.ModuleDict = objective.critics
        if len(critics):
            made = _adam(list(critics.parameters()), config.optim.critic_lr, config)
            for name in critics:
                critics[name] = self.fabric.setup_module(critics[name])
            self.critic_optimizer = self.fabric.setup_optimizers(made)

    def fit(self) -> None:
        """Train to the last step, with validation, sheets and checkpoints on the way.

        Raises:
            TrainingError: If a loss is not finite; the last checkpoint stays usable.
        """
        config = self.config
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "recipe.toml").write_text(tomli_w.dumps(recipe.plain(config)))
        started, seen = time.perf_counter(), 0
        for batch in self._batches(self.step):
            terms = self._train_step(batch)
            self.step += 1
            seen += config.batch
            if self.step % config.log_every == 0 or self.step == config.steps:
                values = {k: float(v) for k, v in terms.items()}
                self._check_finite(values)
                rate = seen / (time.perf_counter() - started)
                self._log({"step": self.step, "pictures/s": round(rate, 2)} | values)
                started, seen = time.perf_counter(), 0
            if self.step % config.validate_every == 0 or self.step == config.steps:
                self._validate()
                self._checkpoint()
                started, seen = time.perf_counter(), 0

    def _train_step(self, batch: Batch) -> dict[str, Tensor]:
        optim = self.config.optim
        rate = _rate(self.step, self.config)
        for optimizer, lr in ((self.optimizer, optim.lr), (self.critic_optimizer, optim.critic_lr)):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = lr * rate
        adversarial = self.critic_optimizer is not None and self.step >= optim.critic_from
        self.network.train()
        with self.fabric.autocast():
            outputs = self.objective.predict(self.network, batch)
        logged: dict[str, Tensor] = {}
        if adversarial and optim.order == "critic-first":
            logged |= self._critic_backward(outputs, batch)
            self._critic_update()
        self.objective.critics.requires_grad_(False)
        with self.fabric.autocast():
            terms = self.objective.generator_terms(outputs, batch)
        weights = self.weights if adversarial else {**self.weights, "adversarial": 0.0}
        total = torch.stack([terms[k].float() * weights[k] for k in terms if weights[k]]).sum()
        self.fabric.backward(total)
        self.objective.critics.requires_grad_(True)
        if adversarial and optim.order == "simultaneous":
            logged |= self._critic_backward(outputs, batch)
            self._critic_update()
        if optim.clip:
            logged["gradient norm"] = self.fabric.clip_gradients(
                self.network, self.optimizer, max_norm=optim.clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.network.module, self.step)
        return {k: v.detach() for k, v in (terms | logged).items()}

    def _critic_backward(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        with self.fabric.autocast():
            terms = self.objective.critic_terms(outputs, batch)
        self.fabric.backward(torch.stack([v.float() for v in terms.values()]).sum())
        return terms

    def _critic_update(self) -> None:
        self.critic_optimizer.step()
        self.critic_optimizer.zero_grad()

    def _batches(self, start: int) -> Iterator[Batch]:
        config = self.config
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.sampler.batch, start, config.batch)
            for step in range(start, config.steps):
                pictures, holes = ahead.result()
                if step + 1 < config.steps:
                    ahead = pool.submit(self.sampler.batch, step + 1, config.batch)
                yield self._to_batch(pictures, holes)

    def _to_batch(self, pictures: np.ndarray, holes: np.ndarray) -> Batch:
        device = self.fabric.device
        image = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
        mask = torch.from_numpy(holes).to(device).unsqueeze(1).float()
        return Batch(image=image, mask=mask, hole_share=mask.mean())

    @torch.no_grad()
    def _validate(self) -> None:
        scores: list[Tensor] = []
        for index, (picture, hole) in enumerate(self.validation):
            batch = self._to_batch(picture[None], hole[None])
            with self.fabric.autocast():
                prediction = self.ema.network(batch.image, batch.mask).float()
            error = ((prediction - batch.image) * batch.mask).square().mean()
            scores.append(-10 * error.clamp(min=1e-10).log10())
            if index < 8:
                name = f"{self.step:06d}-{index}.png"
                sheet.write(self.folder / "sheets" / name, batch.image, batch.mask, prediction)
        if scores:
            psnr = float(torch.stack(scores).mean())
            self._log({"step": self.step, "validation psnr": round(psnr, 4)})

    def _checkpoint(self) -> None:
        header = files.Header(
            network=self.config.network,
            config=recipe.plain(self.network.module.config),
            name=self.config.name,
            license=self.config.license,
            data=self.config.packs,
            source={"steps": self.step, "batch": self.config.batch},
        )
        files.save(self.folder / "last.safetensors", header, self.ema.network.state_dict())
        critic_optimizer = self.critic_optimizer.state_dict() if self.critic_optimizer else {}
        checkpoint.save(
            self.folder / "checkpoints",
            self.step,
            {
                "step": self.step,
                "network": self.network.state_dict(),
                "ema": self.ema.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "critics": {k: c.state_dict() for k, c in self.objective.critics.items()},
                "critic_optimizer": critic_optimizer,
                "random": torch.get_rng_state(),
            },
        )

    def _resume(self) -> None:
        state = checkpoint.latest(self.folder / "checkpoints")
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.ema.network.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, critic in self.objective.critics.items():
            critic.load_state_dict(state["critics"][name])
        if self.critic_optimizer:
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        torch.set_rng_state(state["random"])
        self.step = state["step"]

    def _check_finite(self, values: dict[str, float]) -> None:
        if bad := [k for k, v in values.items() if not np.isfinite(v)]:
            raise TrainingError(
                f"step {self.step}: {', '.join(bad)} not finite; the last checkpoint in"
                f" {self.folder / 'checkpoints'} is usable (try a lower optim.lr)"
            )

    def _log(self, row: dict[str, Any]) -> None:
        log.info(
            " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        )
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def _read_data(config: TrainConfig) -> tuple[Sampler, list[tuple[np.ndarray, np.ndarray]]]:
    found = sources.entries(config.data.pictures)
    training, held = sources.split(found, part=0)
    if not held and len(found) > 1:  # a small set of one's own
        training, held = found[:-1], found[-1:]
    shapes = [sources.decode_mask(entry) for entry in sources.entries(config.data.masks)]
    sampler = Sampler(sources.decode_all(training), shapes, config.data, config.seed)
    stride = max(1, len(held) // max(1, config.data.validation))
    pictures = sources.decode_all(held[::stride][: config.data.validation])
    rng = np.random.default_rng([config.seed, 2])
    pairs = []
    for picture in pictures:
        side = min(picture.shape[0], picture.shape[1]) // 64 * 64 or picture.shape[0]
        shape = shapes[rng.integers(len(shapes))] if shapes else sampler.mask(rng)
        hole = cv2.resize(shape.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        pairs.append((picture[:side, :side].copy(), hole.astype(bool)))
    return sampler, pairs


def _features(name: str) -> VGG19:
    path = Path(name) if Path(name).is_file() else store.path(name)
    return VGG19.from_state(official.read(path))


def _objective_config(card: models.Card, config: TrainConfig) -> Any:
    published = dict(card.objective_config().weights)
    given = dict(config.objective)
    if unknown := set(given.get("weights", {})) - set(published):
        known = ", ".join(published)
        raise recipe.RecipeError(f"objective.weights has no {sorted(unknown)}; there are {known}")
    given["weights"] = published | given.get("weights", {})
    return recipe.structure(given, card.objective_config, where="recipe: objective")


def _adam(parameters: Sequence[nn.Parameter], lr: float, config: TrainConfig) -> torch.optim.AdamW:
    optim = config.optim
    return torch.optim.AdamW(
        parameters, lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
    )


def _rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step as a share of the full one: linear warm-up, constant, linear fall."""
    optim = config.optim
    warm = min(1.0, (step + 1) / max(1, optim.warmup))
    begin = optim.decay_from * config.steps
    if step <= begin:
        return warm
    progress = (step - begin) / max(1.0, config.steps - begin)
    return warm * (1 - (1 - optim.decay_to) * min(1.0, progress))
