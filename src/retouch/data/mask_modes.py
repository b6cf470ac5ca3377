"""Mask modes: the mask policies of the papers' code and our own, under names that say what they do.

| name | what | where it comes from |
|---|---|---|
| `mixed` | generated strokes and boxes, silhouettes and crops of mask files | ours |
| `strokes`, `boxes`, `silhouettes` | one of these alone | ours |
| `block` | a box of half of each side, anywhere | MASK 1 of ISNet and SEM-Net, PEN-Net `square` |
| `centre` | the box of a quarter of the area in the middle | SEM-Net MASK 2; every paper's test |
| `half` | left or right half | ISNet MASK 2 |
| `freeform` | eight random walks | structure |
| `files` | a mask file at random | MASK 3 ("external"), PEN-Net `pconv` |
| `files-in-order` | the n-th mask file for the n-th picture | MASK 6, for fixed tests |
| `none` | no hole; never for the first picture of a step | MASK 0 |

Mixtures are weights: `modes = {block = 1, files = 1}` is MASK 4 and `{none = 2, block = 1,
files = 1}` is SEM-Net's MASK 5, without its batches that have no hole at all: there the terms that
divide by the hole share have no value. Grey values of mask files are cut
at one half; the papers' code takes every value above 0, which lets JPEG noise in.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from retouch.data import masks
from retouch.data.config import DataConfig

_TRIES = 50


class MaskSource:
    """Draws masks as a recipe says.

    Args:
        shapes: Mask files as bool (h, w), may be empty.
        config: Modes, hole shares and augmentation.
    """

    def __init__(self, shapes: Sequence[np.ndarray], config: DataConfig) -> None:
        self.shapes = shapes
        self.config = config
        self.names = [name for name, weight in config.modes.items() if weight > 0]
        weights = np.array([config.modes[name] for name in self.names], float)
        self.weights = weights / weights.sum()

    def draw(
        self, rng: Generator, size: tuple[int, int], position: int = 0, *, empty: bool = False
    ) -> np.ndarray:
        """Draw a mask whose hole share lies in the configured range.

        Args:
            rng: Source of randomness.
            size: (h, w) [px].
            position: Number of the picture, for `files-in-order`.
            empty: Whether `none` counts; if not, another mode is drawn instead.

        Raises:
            ValueError: If the modes give no mask of such a share.
        """
        low, high = self.config.shares
        for _ in range(_TRIES):
            name = self.names[0]
            if len(self.names) > 1:
                name = self.names[rng.choice(len(self.names), p=self.weights)]
            if name == "none":
                if empty:
                    return np.zeros(size, bool)
                continue
            drawn = self._augment(rng, name, self._draw(rng, name, size, position))
            if low <= drawn.mean() <= high:
                return drawn
        if "mixed" in self.names or "strokes" in self.names:
            return masks.with_share(rng, size, low, high)
        raise ValueError(
            f"mask modes {', '.join(self.names)} gave no hole share in [{low}, {high}]"
            f" in {_TRIES} tries: widen data.shares"
        )

    def _draw(self, rng: Generator, name: str, size: tuple[int, int], position: int) -> np.ndarray:
        if name == "mixed":
            return self._mixed(rng, size)
        if name == "silhouettes":
            return masks.silhouette(rng, size, self.shapes)
        if name == "centre":
            return masks.centre(size)
        if name == "files-in-order":
            return masks.fitted(self.shapes[position % len(self.shapes)], size)
        if name == "files":
            return masks.fitted(self.shapes[int(rng.integers(len(self.shapes)))], size)
        generators = {
            "strokes": masks.strokes,
            "boxes": masks.boxes,
            "block": masks.block,
            "half": masks.half,
            "freeform": masks.freeform,
        }
        return generators[name](rng, size)

    def _mixed(self, rng: Generator, size: tuple[int, int]) -> np.ndarray:
        if not self.shapes or rng.random() < self.config.generated:
            return masks.strokes(rng, size) if rng.random() < 0.6 else masks.boxes(rng, size)
        if rng.random() < 0.5:
            return masks.silhouette(rng, size, self.shapes)
        return masks.augmented(rng, size, self.shapes[int(rng.integers(len(self.shapes)))])

    def _augment(self, rng: Generator, name: str, mask: np.ndarray) -> np.ndarray:
        for kind in self.config.mask_augment:
            if kind == "flip" and rng.random() < 0.5:
                mask = mask[:, ::-1]
            elif kind == "quarter-turns":
                mask = np.rot90(mask, int(rng.integers(4)))
            elif kind == "turn":
                mask = masks.turned(rng, np.ascontiguousarray(mask))
            elif kind == "grow" and name.startswith("files") and rng.random() < 0.25:
                mask = masks.grown(mask, int(rng.integers(1, 6)))
        return np.ascontiguousarray(mask)
