"""What a training recipe may say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from retouch.data.batches import DataConfig


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimisers and schedules."""

    lr: float = 4e-4
    """Learning rate of the network."""
    critic_lr: float = 4e-4
    """Learning rate of the critics."""
    betas: tuple[float, float] = (0.5, 0.99)
    """Of Adam."""
    weight_decay: float = 0.0
    """Of AdamW."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay_from: float = 0.6
    """Share of the steps after which the learning rate falls linearly, in [0, 1]."""
    decay_to: float = 0.02
    """The last learning rate as a share of the first, in [0, 1]."""
    clip: float = 1.0
    """Largest gradient norm of the network; 0: no clipping."""
    critic_from: int = 0
    """Step at which the critics and the adversarial terms begin."""
    order: Literal["critic-first", "simultaneous"] = "critic-first"
    """Whether the network is judged by the updated critic or by the one before the step."""

    def __post_init__(self) -> None:
        for name in ("lr", "critic_lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("decay_from", "decay_to"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    network: str
    """Name of a network: `retouch models` lists them."""
    name: str
    """Name of the weights that come out: `<network>-<data>`."""
    data: DataConfig
    model: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the network's config that differ from its defaults."""
    objective: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the objective's config that differ from its defaults."""
    features: str | None = None
    """VGG-19 file for content and style terms: a path or a name in the weight store."""
    optim: OptimConfig = OptimConfig()
    steps: int = 1000
    """Steps of the whole run."""
    batch: int = 12
    """Pictures per step, over all processes."""
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    ema: float = 0.999
    """Decay of the moving average of the weights; 0: none."""
    init: Path | None = None
    """Weight file to start from."""
    validate_every: int = 250
    """Steps between validations, sample sheets and checkpoints."""
    log_every: int = 10
    """Steps between log lines."""
    license: str = "research-only"
    """Licence of the weights that come out."""
    packs: tuple[str, ...] = ()
    """Names of the data the weights were trained on, for their header."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema}")
