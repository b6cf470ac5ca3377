"""One training batch, the same for every network."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step sees."""

    image: Tensor
    """(b, 3, h, w) RGB in [0, 1]: the truth."""
    mask: Tensor
    """(b, 1, h, w), 1 = hole."""
    hole_share: Tensor
    """Scalar: mean of the mask over the global batch (all processes and accumulation steps)."""
    labels: Tensor | None = None
    """(b, h, w) int64 label map, where the network takes one."""
    source: Tensor | None = None
    """(b, 3, h, w) degraded input for tasks other than inpainting (blurred pictures)."""
    taught: Tensor | None = None
    """(b, 3, h, w) the picture with a teacher's fill in its hole, where the recipe names one."""
    shares: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """More scalars that terms divide by, averaged over the global batch like `hole_share`: what the
    objective's `shares(batch)` returns, if it has one. Empty: the terms use this batch's own."""

    @property
    def aim(self) -> Tensor:
        """What the fill is compared with: the teacher's picture, or the truth."""
        return self.image if self.taught is None else self.taught
