"""Numbers that are the same on every machine and NumPy: raw PCG64 bits, exact arithmetic."""

import numpy as np
import torch
from torch import Tensor


def stream(seed: int, *shape: int) -> np.ndarray:
    """Uniform in [0, 1), float64."""
    bits = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return (bits >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53


def kernel(seed: int, shape: tuple[int, ...]) -> Tensor:
    """A convolution's weights with He's variance."""
    fan = int(np.prod(shape[1:]))
    return torch.from_numpy(((stream(seed, *shape) * 2 - 1) * np.sqrt(6 / fan)).astype(np.float32))


def blocks(seed: int, height: int, width: int) -> np.ndarray:
    """A uint8 picture of random 8-pixel squares."""
    cells = stream(seed, -(-height // 8), -(-width // 8), 3)
    whole = np.repeat(np.repeat(cells, 8, axis=0), 8, axis=1)[:height, :width]
    return np.floor(whole * 256).astype(np.uint8)


def pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and a noisy, faded version of it."""
    truth = blocks(1, height, width)
    noise = 60 * stream(2, height, width, 3) - 30
    return truth, np.clip(np.floor(0.8 * truth + 20 + noise), 0, 255).astype(np.uint8)
