"""Validation: fixed pictures with fixed masks, measures under their full names, sample sheets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from retouch import models
from retouch.data.batch import Batch
from retouch.data.batches import Sample, stack
from retouch.evaluation.metrics import METRICS, Column, Scorer
from retouch.training import building, material, sheet
from retouch.training.config import TrainConfig
from retouch.training.errors import TrainingError

SEGMENTATION = ("accuracy", "mean_iou")
"""Measures of segmentation networks: share of right pixels; mean over the classes that occur."""


class Validation:
    """Measures a network on the fixed set.

    Args:
        config: The recipe.
        samples: The fixed set.
        fabric: Device, precision and processes.

    Raises:
        TrainingError: If a measure does not go with the network.
        ScoreError: If there is no such measure.
    """

    def __init__(self, config: TrainConfig, samples: Sequence[Sample], fabric: Fabric) -> None:
        self.config = config
        self.samples = samples
        self.fabric = fabric
        self.segments = building.segments(config)
        names = config.validate
        if self.segments:
            names = tuple(n for n in names if n != "psnr_rgb") or ("mean_iou", "accuracy")
            if unknown := set(names) - set(SEGMENTATION):
                known = ", ".join(SEGMENTATION)
                raise TrainingError(f"validate has no {sorted(unknown)}; there are {known}")
            self.higher = dict.fromkeys(names, True)
            self.names = names
            return
        columns = [Column.parse(name) for name in names]
        if sets := [str(c) for c in columns if c.metric not in METRICS]:
            raise TrainingError(f"validate takes measures of single pictures, got {sets}")
        self.scorer = Scorer(columns, str(fabric.device))
        self.names = tuple(str(column) for column in columns)
        self.higher = {str(c): c.facts.better == "higher" for c in columns}

    def better(self, value: float, best: float | None) -> bool:
        """Whether a value of the first measure is the best so far."""
        if best is None or not np.isfinite(best):
            return bool(np.isfinite(value))
        return value > best if self.higher[self.names[0]] else value < best

    @torch.no_grad()
    def run(
        self, network: nn.Module, objective: Any, folder: Path | None, step: int
    ) -> dict[str, float]:
        """Measure; the pictures are shared among the processes.

        Args:
            network: In any mode; it is left in evaluation mode.
            objective: For the network's side outputs.
            folder: Where sheets go; None: nowhere.
            step: For the sheets' names.

        Returns:
            Mean of each measure over the pictures; nothing if there are none.
        """
        if not self.samples:
            return {}
        network.eval()
        rows = torch.zeros(len(self.samples), len(self.names), dtype=torch.float64)
        for index in range(self.fabric.global_rank, len(self.samples), self.fabric.world_size):
            sample = self.samples[index]
            batch = material.to_batch(stack([sample]), self.fabric.device)
            with self.fabric.autocast():
                prediction = predict(network, batch, self.segments)
            if prediction is None:
                return {}
            values = self._score(sample, prediction.float())
            rows[index] = torch.tensor([values[name] for name in self.names])
            if folder is not None and index < self.config.sheets:
                path = folder / f"{step:06d}-{index}.png"
                sheet.write(path, batch, prediction.float(), self._side(network, objective, batch))
        if self.fabric.world_size > 1:
            rows = self.fabric.all_reduce(rows.to(self.fabric.device), reduce_op="sum").cpu()  # pyright: ignore
        return dict(zip(self.names, rows.mean(0).tolist(), strict=True))

    def _score(self, sample: Sample, prediction: Tensor) -> dict[str, float]:
        if self.segments:
            return _segmentation_scores(sample, prediction)
        picture = prediction[0].permute(1, 2, 0).cpu().numpy()
        # Deblurring has no known pixels: everything counts.
        hole = sample.hole if sample.source is None else np.ones_like(sample.hole)
        return self.scorer.score(sample.image, picture, hole)

    def _side(self, network: nn.Module, objective: Any, batch: Batch) -> Any:
        with self.fabric.autocast():
            return objective.predict(network, batch)


def predict(network: Any, batch: Batch, segments: bool = False) -> Tensor | None:
    """The network's final picture (logits of a segmentation network) for a batch."""
    if segments:
        return network(batch.image)
    if batch.source is not None:
        return network(batch.source)
    if batch.labels is not None:
        return network(batch.image, batch.mask, batch.labels)
    return network(batch.image, batch.mask)


def _segmentation_scores(sample: Sample, logits: Tensor) -> dict[str, float]:
    if sample.labels is None:
        raise TrainingError("a segmentation network needs label maps: data.labels = true")
    found = logits[0].argmax(0).cpu().numpy()
    classes, truth = logits.shape[1], sample.labels
    known = truth < classes
    right = (found == truth) & known
    shares = [
        (right & (truth == label)).sum() / (((found == label) & known) | (truth == label)).sum()
        for label in np.unique(truth[known])
    ]
    return {
        "accuracy": float(right.sum() / max(1, known.sum())),
        "mean_iou": float(np.mean(shares)) if shares else 0.0,
    }


def takes_labels(config: TrainConfig) -> str | None:
    """The label set of the network, if it takes or makes label maps."""
    if config.network in models.names() and not models.card(config.network).labels:
        return None
    facts = building.card(config)
    return str(config.model.get("labels", facts.config().labels))
