"""Seeded mask generators: boxes, centre squares, free-form strokes, silhouettes, exact hole shares.

Every generator takes a `numpy.random.Generator` first and returns a bool array (h, w), True = hole.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator

BINS = ((0.01, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))
"""Hole-share bins of Liu et al. 2018 (irregular mask test set)."""


def boxes(rng: Generator, size: tuple[int, int], count: tuple[int, int] = (1, 4)) -> np.ndarray:
    """Axis-aligned boxes of 1/8 to 1/2 of each side, anywhere.

    Args:
        rng: Source of randomness.
        size: (h, w) [px].
        count: Fewest and most boxes.
    """
    h, w = size
    mask = np.zeros(size, bool)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        bh = int(rng.integers(max(1, h // 8), max(2, h // 2 + 1)))
        bw = int(rng.integers(max(1, w // 8), max(2, w // 2 + 1)))
        top, left = int(rng.integers(0, h - bh + 1)), int(rng.integers(0, w - bw + 1))
        mask[top : top + bh, left : left + bw] = True
    return mask


def centre(size: tuple[int, int], share: float = 0.25) -> np.ndarray:
    """Centred box with the picture's proportions.

    Args:
        size: (h, w) [px].
        share: Share of the area in [0, 1]; 0.25 is the 128 px square of a 256 px picture.
    """
    h, w = size
    bh, bw = round(h * share**0.5), round(w * share**0.5)
    mask = np.zeros(size, bool)
    top, left = (h - bh) // 2, (w - bw) // 2
    mask[top : top + bh, left : left + bw] = True
    return mask


def strokes(rng: Generator, size: tuple[int, int], count: tuple[int, int] = (1, 5)) -> np.ndarray:
    """Free-form strokes: random polylines with round joints (after Yu et al. 2019, Sec. 3.3).

    Args:
        rng: Source of randomness.
        size: (h, w) [px].
        count: Fewest and most strokes.
    """
    h, w = size
    side = min(h, w)
    canvas = np.zeros(size, np.uint8)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        width = max(1, int(rng.uniform(0.03, 0.13) * side))
        angle = rng.uniform(0, 2 * np.pi)
        point = np.array([rng.uniform(0, w), rng.uniform(0, h)])
        for _ in range(rng.integers(3, 11)):
            angle += rng.uniform(-1.2, 1.2)
            step = rng.uniform(0.05, 0.25) * side
            following = point + step * np.array([np.cos(angle), np.sin(angle)])
            following = np.clip(following, 0, [w - 1, h - 1])
            ends = [tuple(int(v) for v in p) for p in (point, following)]
            cv2.line(canvas, ends[0], ends[1], 1, width)
            cv2.circle(canvas, ends[1], width // 2, 1, -1)
            point = following
    return canvas.astype(bool)


def silhouette(rng: Generator, size: tuple[int, int], shapes: Sequence[np.ndarray]) -> np.ndarray:
    """A given shape at a random place, scale and rotation.

    Args:
        rng: Source of randomness.
        size: (h, w) [px].
        shapes: Bool arrays, True = hole.
    """
    shape = shapes[int(rng.integers(len(shapes)))]
    h, w = size
    scale = rng.uniform(0.6, 1.3) * min(h / shape.shape[0], w / shape.shape[1])
    turn = cv2.getRotationMatrix2D(
        (shape.shape[1] / 2, shape.shape[0] / 2), rng.uniform(-30, 30), scale
    )
    turn[0, 2] += w * rng.uniform(0.25, 0.75) - shape.shape[1] / 2
    turn[1, 2] += h * rng.uniform(0.25, 0.75) - shape.shape[0] / 2
    drawn = cv2.warpAffine(shape.astype(np.uint8), turn, (w, h), flags=cv2.INTER_NEAREST)
    return drawn.astype(bool)


def with_share(
    rng: Generator, size: tuple[int, int], low: float, high: float, *, tries: int = 200
) -> np.ndarray:
    """Strokes and boxes added until the hole share lies in (low, high].

    Args:
        rng: Source of randomness.
        size: (h, w) [px].
        low: Exclusive lower bound in [0, 1).
        high: Inclusive upper bound in (low, 1].
        tries: Pieces tried before giving up.

    Raises:
        ValueError: If the bounds are impossible, or so tight that no mask was found.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"a hole-share range needs 0 <= low < high <= 1, got {low}, {high}")
    mask = np.zeros(size, bool)
    for _ in range(tries):
        piece = strokes(rng, size, (1, 1)) if rng.random() < 0.7 else boxes(rng, size, (1, 1))
        grown = mask | piece
        if grown.mean() <= high:
            mask = grown
        if low < mask.mean() <= high:
            return mask
    raise ValueError(
        f"no mask with a hole share in ({low}, {high}] at {size[0]}x{size[1]} px found"
    )


def augmented(rng: Generator, size: tuple[int, int], mask: np.ndarray) -> np.ndarray:
    """A random crop of a given mask, flipped and turned by quarter turns.

    Args:
        rng: Source of randomness.
        size: (h, w) [px]; the mask is enlarged first if it is smaller.
        mask: Bool (h', w').
    """
    h, w = size
    if mask.shape[0] < h or mask.shape[1] < w:
        scale = max(h / mask.shape[0], w / mask.shape[1])
        wide, tall = (int(np.ceil(s * scale)) for s in (mask.shape[1], mask.shape[0]))
        mask = cv2.resize(mask.astype(np.uint8), (wide, tall), interpolation=0).astype(bool)
    mask = np.rot90(mask, int(rng.integers(4))) if mask.shape[0] == mask.shape[1] else mask
    top = int(rng.integers(mask.shape[0] - h + 1))
    left = int(rng.integers(mask.shape[1] - w + 1))
    crop = mask[top : top + h, left : left + w]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return np.ascontiguousarray(crop)


def block(rng: Generator, size: tuple[int, int]) -> np.ndarray:
    """One box of half of each side, anywhere: the square mask of PEN-Net, ISNet and SEM-Net."""
    h, w = size
    mask = np.zeros(size, bool)
    top, left = int(rng.integers(h - h // 2 + 1)), int(rng.integers(w - w // 2 + 1))
    mask[top : top + h // 2, left : left + w // 2] = True
    return mask


def half(rng: Generator, size: tuple[int, int]) -> np.ndarray:
    """The left or the right half: ISNet's second mask mode."""
    mask = np.zeros(size, bool)
    middle = size[1] // 2
    mask[:, slice(0, middle) if rng.random() < 0.5 else slice(middle, None)] = True
    return mask


def freeform(rng: Generator, size: tuple[int, int]) -> np.ndarray:
    """Eight random walks of up to 16 corners: the structure paper's free-form masks.

    Lengths (0 to 80 px) and brushes (10 to 20 px) are those of 256 px and scale with the picture.
    Joints are filled discs; the authors' are outlines of two pixels.
    """
    h, w = size
    unit = min(h, w) / 256
    canvas = np.zeros(size, np.uint8)
    for _ in range(8):
        point = np.array([rng.uniform(0, w), rng.uniform(0, h)])
        for corner in range(int(rng.integers(17))):
            angle = rng.uniform(0, 2 * np.pi) * (-1 if corner % 2 == 0 else 1)
            length, brush = rng.uniform(0, 80) * unit, max(1, round(rng.uniform(10, 20) * unit))
            following = point + length * np.array([np.sin(angle), np.cos(angle)])
            following = np.clip(following, 0, [w - 1, h - 1])
            ends = [tuple(int(v) for v in p) for p in (point, following)]
            cv2.line(canvas, ends[0], ends[1], 1, brush)
            cv2.circle(canvas, ends[1], brush // 2, 1, -1)
            point = following
    return canvas.astype(bool)


def fitted(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask's centre of the asked proportions, resized; a pixel at least half covered is hole.

    Args:
        mask: Bool (h', w').
        size: (h, w) [px].
    """
    h, w = size
    if mask.shape == size:
        return mask
    scale = min(mask.shape[0] / h, mask.shape[1] / w)
    tall, wide = max(1, round(h * scale)), max(1, round(w * scale))
    top, left = (mask.shape[0] - tall) // 2, (mask.shape[1] - wide) // 2
    crop = mask[top : top + tall, left : left + wide].astype(np.float32)
    return cv2.resize(crop, (w, h), interpolation=cv2.INTER_AREA) >= 0.5


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask and every pixel up to `pixels` steps (up, down, left, right) away."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.astype(np.uint8), cross, iterations=pixels).astype(bool)


def turned(rng: Generator, mask: np.ndarray) -> np.ndarray:
    """The mask turned by 0 to 45 degrees on a larger canvas, grown by a pixel, at its old size.

    PEN-Net's augmentation of every training mask.
    """
    h, w = mask.shape
    angle = int(rng.integers(46))
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    wide, tall = round(w * cos + h * sin), round(h * cos + w * sin)
    matrix[:, 2] += [(wide - w) / 2, (tall - h) / 2]
    drawn = cv2.warpAffine(mask.astype(np.uint8), matrix, (wide, tall), flags=cv2.INTER_NEAREST)
    drawn = cv2.dilate(drawn, np.ones((3, 3), np.uint8))
    return cv2.resize(drawn, (w, h), interpolation=cv2.INTER_NEAREST).astype(bool)
