"""Training samples: picture, crop, flip and mask depend on (seed, position in the stream) alone.

So a resumed run sees what the uninterrupted one would have seen, without any stored sampler state,
and processes that share a step see together what one process would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from retouch.data import blur, crops
from retouch.data.config import DataConfig
from retouch.data.mask_modes import MaskSource

__all__ = ["DataConfig", "Sample", "Sampler", "stack"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample, or several stacked along a first axis."""

    image: np.ndarray
    """uint8 RGB (h, w, 3): the truth."""
    hole: np.ndarray
    """bool (h, w), True = hole."""
    labels: np.ndarray | None = None
    """uint8 (h, w) label map."""
    source: np.ndarray | None = None
    """uint8 RGB (h, w, 3): the blurred picture."""


def stack(samples: Sequence[Sample]) -> Sample:
    """Stack samples along a new first axis."""

    def together(name: str) -> Any:
        values = [getattr(sample, name) for sample in samples]
        return None if values[0] is None else np.stack(values)

    return Sample(**{field.name: together(field.name) for field in fields(Sample)})


class Sampler:
    """Makes the sample of any position in an endless stream.

    Args:
        pictures: uint8 RGB (h, w, 3); those smaller than the crop are enlarged.
        shapes: Mask files as bool (h, w), may be empty.
        config: Crops and masks.
        seed: Of the run.
        labels: Label maps uint8 (h, w) of the pictures, if the run needs them.
        mirror: Label -> label of the mirrored picture, uint8 (256,); None: the same.
        blurred: Blurred twins of the pictures, if the run needs them and makes none.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        shapes: Sequence[np.ndarray],
        config: DataConfig,
        seed: int,
        *,
        labels: Sequence[np.ndarray] | None = None,
        mirror: np.ndarray | None = None,
        blurred: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.pictures = pictures
        self.masks = MaskSource(shapes, config)
        self.config = config
        self.seed = seed
        self.labels = labels
        self.mirror = mirror
        self.blurred = blurred
        margin = 0 if config.blur is None else blur.reach(config.blur)
        self._inner = (slice(margin, margin + config.size),) * 2
        self._framed = replace(config, size=config.size + 2 * margin)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))

    def batch(self, step: int, size: int) -> Sample:
        """Make the samples of a step of `size` pictures, stacked."""
        return stack([self.sample(step * size + index, size) for index in range(size)])

    def sample(self, position: int, batch: int = 1) -> Sample:
        """Make the sample at a position of the stream.

        Args:
            position: From 0.
            batch: Pictures per step, for masks that a step's pictures share.
        """
        rng = np.random.default_rng([self.seed, 1, position])
        index = self._index(position)
        picture = self.pictures[index]
        crop = crops.plan(rng, picture.shape[:2], self._framed)
        image = crop.cut(picture, self.config.resample)
        if self.config.jitter:
            image = crops.jittered(rng, image, self.config.jitter)
        if self.config.grey and rng.random() < self.config.grey:
            image = crops.grey(image)
        if self.config.one_mask_per_batch:
            shared = np.random.default_rng([self.seed, 3, position // batch])
            hole = self.mask(shared, position)
        else:
            hole = self.mask(rng, position, empty=position % batch > 0)
        labels, source = self._labels(index, crop), self._source(rng, index, crop, image)
        return Sample(
            image=image[self._inner],
            hole=hole,
            labels=None if labels is None else labels[self._inner],
            source=None if source is None else source[self._inner],
        )

    def mask(self, rng: Generator, position: int = 0, *, empty: bool = False) -> np.ndarray:
        """Draw a mask of the crop's size; without a hole only if `empty` and the modes say so."""
        size = (self.config.size, self.config.size)
        return self.masks.draw(rng, size, position, empty=empty)

    def _labels(self, index: int, crop: crops.Crop) -> np.ndarray | None:
        if self.labels is None:
            return None
        labels = crop.cut(self.labels[index], self.config.resample)
        return self.mirror[labels] if crop.flip and self.mirror is not None else labels

    def _source(
        self, rng: Generator, index: int, crop: crops.Crop, image: np.ndarray
    ) -> np.ndarray | None:
        if self.blurred is not None:
            return crop.cut(self.blurred[index], self.config.resample)
        if self.config.blur is not None:
            return blur.shaken(rng, np.ascontiguousarray(image), self.config.blur)
        return None

    def _index(self, position: int) -> int:
        epoch, rest = divmod(position, len(self.pictures))
        order = self._order  # read once: threads share the sampler
        if order[0] != epoch:
            rng = np.random.default_rng([self.seed, 0, epoch])
            order = self._order = (epoch, rng.permutation(len(self.pictures)))
        return int(order[1][rest])
