"""Crops: the same square of a picture, its label map and its blurred twin."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from retouch.data.config import DataConfig, Resample

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Crop:
    """Where a square lies and how the picture is resized before."""

    size: tuple[int, int]
    """(h, w) of the resized picture [px]."""
    top: int
    left: int
    side: int
    """Side of the square [px]."""
    flip: bool

    def cut(self, picture: np.ndarray, resample: Resample) -> np.ndarray:
        """Cut it out of a picture (h, w, 3) or, by nearest neighbour, of a label map (h, w)."""
        if picture.shape[:2] != self.size:
            picture = resized(picture, self.size, resample)
        crop = picture[self.top : self.top + self.side, self.left : self.left + self.side]
        return crop[:, ::-1] if self.flip else crop


def plan(rng: Generator, shape: tuple[int, int], config: DataConfig) -> Crop:
    """Choose the square of a training sample.

    Args:
        rng: Source of randomness.
        shape: (h, w) of the picture [px].
        config: Crop, size, shrink and flip.
    """
    h, w = shape
    side = config.size
    if config.crop == "squash":
        return Crop((side, side), 0, 0, side, bool(config.flip and rng.random() < 0.5))
    smallest = side / min(h, w)
    if config.crop == "centre":
        size = (max(side, round(h * smallest)), max(side, round(w * smallest)))
        flip = bool(config.flip and rng.random() < 0.5)
        return Crop(size, (size[0] - side) // 2, (size[1] - side) // 2, side, flip)
    size = (h, w)
    if smallest > 1 or rng.random() < config.shrink:
        scale = smallest if smallest > 1 else rng.uniform(smallest, 1)
        size = (max(side, round(h * scale)), max(side, round(w * scale)))
    top, left = int(rng.integers(size[0] - side + 1)), int(rng.integers(size[1] - side + 1))
    return Crop(size, top, left, side, bool(config.flip and rng.random() < 0.5))


def fixed(shape: tuple[int, int], config: DataConfig, multiple: int = 64) -> Crop:
    """Choose the square of a validation sample: always the same.

    Random crops are judged on the largest top left square whose side is a multiple of `multiple`;
    pictures smaller than that, and all if `multiple` is 0, on the middle one of the crop's size.
    """
    h, w = shape
    if config.crop == "squash":
        return Crop((config.size, config.size), 0, 0, config.size, flip=False)
    if config.crop == "random" and 0 < multiple <= min(h, w):
        return Crop((h, w), 0, 0, min(h, w) // multiple * multiple, flip=False)
    side = config.size
    scale = side / min(h, w)
    size = (max(side, round(h * scale)), max(side, round(w * scale)))
    return Crop(size, (size[0] - side) // 2, (size[1] - side) // 2, side, flip=False)


def resized(picture: np.ndarray, size: tuple[int, int], resample: Resample) -> np.ndarray:
    """Resize a picture (h, w, 3), or a label map (h, w) by nearest neighbour.

    Args:
        picture: uint8.
        size: (h, w) [px].
        resample: Ignored for label maps.
    """
    wide = (size[1], size[0])
    if picture.ndim == 2:
        return cv2.resize(picture, wide, interpolation=cv2.INTER_NEAREST)
    if resample == "area":
        return cv2.resize(picture, wide, interpolation=cv2.INTER_AREA)
    return np.asarray(Image.fromarray(picture).resize(wide, _FILTERS[resample]))


def grey(picture: np.ndarray) -> np.ndarray:
    """Take the colour from a picture, uint8 RGB (h, w, 3); its luma (BT.601) thrice."""
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def jittered(rng: Generator, picture: np.ndarray, amount: float) -> np.ndarray:
    """Change brightness, contrast, saturation and hue by up to `amount` each.

    The order is fixed (torchvision's ColorJitter, which PEN-Net uses, shuffles it).

    Args:
        rng: Source of randomness.
        picture: uint8 RGB (h, w, 3).
        amount: In [0, 0.5]; hue: share of the colour circle.
    """
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3).astype(np.float32)
    x = picture.astype(np.float32) * brightness
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    x = (x - grey.mean()) * contrast + grey.mean()
    x = (x - grey[..., None]) * saturation + grey[..., None]
    hsv = cv2.cvtColor((np.clip(x, 0, 255) / 255).astype(np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * rng.uniform(-amount, amount)) % 360
    return np.round(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).clip(0, 255).astype(np.uint8)
