"""What the rest of the package may ask about a segmentation network without knowing which."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Heads:
    """All that a segmentation network says in training."""

    logits: Tensor
    """(b, classes, h, w)."""
    logits16: Tensor | None = None
    """(b, classes, h, w) of an auxiliary head at 1/16, brought to the picture's size."""
    logits32: Tensor | None = None
    """(b, classes, h, w) of an auxiliary head at 1/32."""


@dataclass(frozen=True, kw_only=True)
class Official:
    """One kind of official checkpoint and how it becomes ours (as in `retouch.models`)."""

    what: str
    """What the file is, in words."""
    recognise: Callable[[Mapping[str, Tensor]], bool]
    """Whether a bare state dict is of this kind."""
    convert: Callable[[Mapping[str, Tensor]], tuple[dict[str, Any], dict[str, Tensor]]]
    """Maps such a state dict to (config fields, our state dict)."""


@dataclass(frozen=True, kw_only=True)
class SegmenterCard:
    """Facts about one segmentation network.

    Its module maps `forward(image) -> logits`: image (b, 3, h, w) RGB in [0, 1], logits
    (b, classes, h, w) in the order of `config.labels`; `heads(image)` gives the auxiliary outputs
    too. Its objective is trained by the same loop as an inpainting network.
    """

    model: type[nn.Module]
    """The class; `model(config)` builds it with random weights."""
    config: type[Any]
    """Its frozen dataclass; the field `labels` names a label set."""
    source: str
    """Where it is described, reference code and licence of that code."""
    license: str
    """Terms of the official weights."""
    objective: Callable[..., nn.Module]
    """`objective(objective_config)`."""
    objective_config: type[Any]
    """Its frozen dataclass."""
    official: Mapping[str, Official] = field(default_factory=dict[str, Official])
    """Importers of official checkpoints, by name."""
    small: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Config fields of a reduced network, for tests and CPU training."""
