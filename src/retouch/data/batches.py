"""Training batches: which picture, crop, flip and mask a step sees depends on (seed, step) alone.

So a resumed run sees what the uninterrupted one would have seen, without any stored sampler state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from retouch.data import masks


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Pictures, crops and masks of a run."""

    pictures: tuple[str, ...]
    """Folders, file lists, tar shards or patterns of the training pictures."""
    masks: tuple[str, ...] = ()
    """The same of mask files (white = hole); empty: all masks are generated."""
    size: int = 128
    """Side of the square crops [px]."""
    generated: float = 0.4
    """Share of the masks that are generated (strokes, boxes), in [0, 1]; the others are files."""
    shares: tuple[float, float] = (0.03, 0.6)
    """Least and greatest hole share of a mask."""
    shrink: float = 0.0
    """Share of the pictures that are made smaller before cropping, in [0, 1]: larger context."""
    validation: int = 64
    """Pictures held out for validation: of those whose key's sha256 modulo 20 is 0, at most so
    many."""

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size must be at least 16, got {self.size}")
        for name in ("generated", "shrink"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.shares[0] < self.shares[1] <= 1:
            raise ValueError(f"shares must be 0 <= low < high <= 1, got {list(self.shares)}")


class Sampler:
    """Makes the batch of any step.

    Args:
        pictures: uint8 RGB (h, w, 3), each side at least the crop's.
        shapes: Mask files as bool (h, w), may be empty.
        config: Crops and masks.
        seed: Of the run.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        shapes: Sequence[np.ndarray],
        config: DataConfig,
        seed: int,
    ) -> None:
        self.pictures = pictures
        self.shapes = shapes
        self.config = config
        self.seed = seed
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))

    def batch(self, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Make the batch of a step.

        Returns:
            uint8 RGB (b, h, w, 3) and bool (b, h, w), True = hole.
        """
        samples = [self.sample(step * size + index) for index in range(size)]
        return np.stack([s[0] for s in samples]), np.stack([s[1] for s in samples])

    def sample(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Make the sample at a position of the endless stream."""
        rng = np.random.default_rng([self.seed, 1, position])
        picture = self.pictures[self._index(position)]
        return self._crop(rng, picture), self.mask(rng)

    def mask(self, rng: Generator) -> np.ndarray:
        """Draw a mask whose hole share lies in the configured range."""
        low, high = self.config.shares
        size = (self.config.size, self.config.size)
        for _ in range(50):
            drawn = self._draw(rng, size)
            if low <= drawn.mean() <= high:
                return drawn
        return masks.with_share(rng, size, low, high)

    def _draw(self, rng: Generator, size: tuple[int, int]) -> np.ndarray:
        if not self.shapes or rng.random() < self.config.generated:
            return masks.strokes(rng, size) if rng.random() < 0.6 else masks.boxes(rng, size)
        if rng.random() < 0.5:
            return masks.silhouette(rng, size, self.shapes)
        return masks.augmented(rng, size, self.shapes[rng.integers(len(self.shapes))])

    def _index(self, position: int) -> int:
        epoch, rest = divmod(position, len(self.pictures))
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, 0, epoch])
            self._order = (epoch, rng.permutation(len(self.pictures)))
        return int(self._order[1][rest])

    def _crop(self, rng: Generator, picture: np.ndarray) -> np.ndarray:
        side = self.config.size
        h, w = picture.shape[:2]
        smallest = side / min(h, w)
        if smallest > 1 or rng.random() < self.config.shrink:
            scale = smallest if smallest > 1 else rng.uniform(smallest, 1)
            target = (max(side, round(w * scale)), max(side, round(h * scale)))
            picture = cv2.resize(picture, target, interpolation=cv2.INTER_AREA)
            h, w = picture.shape[:2]
        top, left = int(rng.integers(h - side + 1)), int(rng.integers(w - side + 1))
        crop = picture[top : top + side, left : left + side]
        return crop[:, ::-1] if rng.random() < 0.5 else crop
