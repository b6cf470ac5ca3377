"""How segmentation networks learn: cross-entropy, by default on the hard pixels only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional

from retouch.data.batch import Batch
from retouch.segmentation._card import Heads

_IGNORED = -100  # what PyTorch's cross-entropy leaves out


@dataclass(frozen=True, kw_only=True)
class SegmentationObjectiveConfig:
    """What a segmentation network pays for; the defaults are those of the face parser."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: {"head": 1.0, "head16": 1.0, "head32": 1.0}
    )
    """Weight of each head's term."""
    hard_pixels: bool = True
    """Average over hard pixels only (see `hard_cross_entropy`)."""
    confidence: float = 0.7
    """Probability of the true class below which a pixel is hard."""
    hard_share: float = 1 / 16
    """Share of the batch's pixels that count at least."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence <= 1:
            raise ValueError(f"confidence must lie in (0, 1], got {self.confidence}")
        if not 0 < self.hard_share < 1:
            raise ValueError(f"hard_share must lie in (0, 1), got {self.hard_share}")


class SegmentationObjective(nn.Module):
    """Cross-entropy of every head against the label map; no critic.

    Args:
        config: Weights and choices.
        features: Unused; segmentation has no perceptual term.
    """

    def __init__(
        self,
        config: SegmentationObjectiveConfig = SegmentationObjectiveConfig(),
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.critics = nn.ModuleDict()

    def predict(self, network: nn.Module, batch: Batch) -> Heads:
        """One pass over the whole pictures; the batch's mask plays no part."""
        return network.heads(batch.image)  # pyright: ignore[reportCallIssue]

    def generator_terms(self, outputs: Heads, batch: Batch) -> dict[str, Tensor]:
        """One scalar per head that the network has.

        Raises:
            ValueError: If the batch has no label maps.
        """
        if batch.labels is None:
            raise ValueError("segmentation is learned from label maps; this batch has none")
        heads = {
            "head": outputs.logits,
            "head16": outputs.logits16,
            "head32": outputs.logits32,
        }
        return {
            name: self._cross_entropy(logits, batch.labels)
            for name, logits in heads.items()
            if logits is not None
        }

    def critic_terms(self, outputs: Heads, batch: Batch) -> dict[str, Tensor]:
        """Nothing: there is no critic."""
        return {}

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.hard_pixels:
            return hard_cross_entropy(
                logits, labels, confidence=self.config.confidence, share=self.config.hard_share
            )
        return cross_entropy(logits, labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels.

    Args:
        logits: (b, classes, h, w).
        labels: (b, h, w) int64; values outside the classes are left out.

    Returns:
        Scalar; 0 if no pixel is labelled.
    """
    target = _known(labels, logits.shape[1])
    total = functional.cross_entropy(logits, target, ignore_index=_IGNORED, reduction="sum")
    return total / (target != _IGNORED).sum().clamp(min=1)


def hard_cross_entropy(
    logits: Tensor, labels: Tensor, *, confidence: float = 0.7, share: float = 1 / 16
) -> Tensor:
    """Mean cross-entropy over hard pixels: online hard example mining of the face parser.

    Hard is a pixel whose true class has a probability below `confidence`. Where fewer than `share`
    of all pixels are hard, the worst `share` counts instead. Unlabelled pixels cost 0 and
    count as easy, as in the source (zllrunning/face-parsing.PyTorch, loss.py). The threshold is per
    batch, so micro-batches do not add up to exactly the large batch.

    Args:
        logits: (b, classes, h, w).
        labels: (b, h, w) int64; values outside the classes are unlabelled.
        confidence: In (0, 1].
        share: In (0, 1).

    Returns:
        Scalar.
    """
    target = _known(labels, logits.shape[1])
    loss = functional.cross_entropy(logits, target, ignore_index=_IGNORED, reduction="none")
    loss = loss.flatten()
    threshold = -math.log(confidence)
    least = max(1, int(loss.numel() * share))
    worst = loss.topk(min(least + 1, loss.numel())).values
    if worst[-1] > threshold:
        return loss[loss > threshold].mean()
    return worst[:least].mean()


def _known(labels: Tensor, classes: int) -> Tensor:
    return labels.where((labels >= 0) & (labels < classes), labels.new_tensor(_IGNORED))
