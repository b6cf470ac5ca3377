"""What a training recipe may say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from retouch.data.config import DataConfig


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimisers and schedules."""

    kind: Literal["adam", "sgd"] = "adam"
    """Adam, or gradient descent with momentum; `sgd` decays no biases and norms."""
    momentum: float = 0.9
    """Of `sgd`."""
    lr: float = 4e-4
    """Learning rate of the network."""
    critic_lr: float = 4e-4
    """Learning rate of the critics."""
    betas: tuple[float, float] = (0.5, 0.99)
    """Of Adam."""
    weight_decay: float = 0.0
    """With 0, AdamW is Adam."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay_from: float = 0.6
    """Share of the steps after which the learning rate falls, in [0, 1]; 1: never."""
    decay_to: float = 0.02
    """The last learning rate as a share of the first, in [0, 1]."""
    power: float = 1.0
    """The fall is that of (1 - progress) ** power: 1 is linear, 0.9 the habit of segmentation."""
    drops: tuple[int, ...] = ()
    """Steps at which the learning rate is multiplied by `drop_factor`."""
    drop_factor: float = 0.1
    """See `drops`, in (0, 1]."""
    clip: float = 1.0
    """Largest gradient norm of the network; 0: no clipping."""
    critic_from: int = 0
    """Step at which the critics and the adversarial terms begin."""
    order: Literal["critic-first", "simultaneous"] = "critic-first"
    """Whether the network is judged by the updated critic or by the one before the step."""

    def __post_init__(self) -> None:
        for name in ("lr", "critic_lr", "power"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("decay_from", "decay_to"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("weight_decay", "warmup", "clip", "critic_from"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not 0 <= self.betas[0] < 1 or not 0 <= self.betas[1] < 1:
            raise ValueError(f"betas must lie in [0, 1), got {list(self.betas)}")
        self._check_drops()

    def _check_drops(self) -> None:
        if not 0 < self.drop_factor <= 1:
            raise ValueError(f"drop_factor must lie in (0, 1], got {self.drop_factor}")
        if list(self.drops) != sorted(self.drops) or (self.drops and self.drops[0] < 1):
            raise ValueError(f"drops must be rising steps from 1, got {list(self.drops)}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    network: str
    """Name of a network: `retouch models` lists them; or of a segmentation network."""
    name: str
    """Name of the weights that come out: `<network>-<data>`."""
    data: DataConfig
    model: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the network's config that differ from its defaults."""
    objective: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the objective's config that differ from its defaults."""
    objective_of: str = ""
    """Network whose objective is used instead of the network's own, so that different networks
    are trained alike: `dilated` works for all that fill a picture in one pass."""
    teacher: str = ""
    """Weights of the default network, a name or a file: the trained network is compared with their
    one fill instead of the truth, which is one of many. For `objective_of = "dilated"`."""
    features: str | None = None
    """VGG-19 file for content and style terms: a path or a name in the weight store."""
    optim: OptimConfig = OptimConfig()
    steps: int = 1000
    """Steps of the whole run."""
    batch: int = 12
    """Pictures per step, over all processes."""
    accumulate: int = 1
    """Parts in which each process takes its share of a batch, to save memory."""
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    channels_last: bool = True
    """Memory order of pictures and convolutions; faster on most machines."""
    compile: bool = False
    """Compile the network's forward and backward pass; slow to start, then faster."""
    deterministic: bool = False
    """Refuse algorithms whose results vary from run to run (matters on GPUs)."""
    ema: float = 0.999
    """Decay of the moving average of the weights; 0: none."""
    init: Path | None = None
    """Weight file to start from; parts that it lacks as a whole start at random."""
    validate: tuple[str, ...] = ("psnr_rgb",)
    """What validation measures (names as in `retouch evaluate`); the first chooses the best
    weights."""
    validate_every: int = 250
    """Steps between validations, sample sheets and checkpoints."""
    abort: float = 6.0
    """Stop when the first measure was so much worse than its best twice in a row; 0: never."""
    sheets: int = 8
    """Sample sheets per validation."""
    log_every: int = 10
    """Steps between log lines."""
    tensorboard: bool = True
    """Write TensorBoard events beside `log.jsonl`."""
    license: str = "research-only"
    """Licence of the weights that come out."""
    packs: tuple[str, ...] = ()
    """Names of the data the weights were trained on, for their header."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "validate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema}")
        if not self.validate:
            raise ValueError("validate must name a measure, such as psnr_rgb, got none")
        if self.abort < 0 or self.sheets < 0:
            raise ValueError("abort and sheets must not be negative")
        if self.batch % self.accumulate:
            raise ValueError(
                f"batch must be a multiple of accumulate, got {self.batch} and {self.accumulate}"
            )
