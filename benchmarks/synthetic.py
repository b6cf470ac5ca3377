"""Pictures of any size for the benchmarks, without files."""

import numpy as np
from PIL import Image


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Make a picture with a photograph's spectrum: octaves of noise, mirrored to any size."""
    rng = np.random.default_rng(seed)
    side = 2048
    total = np.zeros((side, side, 3), dtype=np.float32)
    for octave in range(2, 12):
        noise = rng.integers(0, 256, (2**octave, 2**octave, 3), dtype=np.uint8)
        wide = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
        total += (np.asarray(wide, dtype=np.float32) - 127.5) * 2.0 ** (-octave / 2)
    tile = np.clip(total / total.std() * 50 + 127.5, 0, 255).astype(np.uint8)
    tile = np.concatenate([tile, tile[::-1]])
    tile = np.concatenate([tile, tile[:, ::-1]], axis=1)
    rows, columns = -(-height // len(tile)), -(-width // len(tile))
    return np.tile(tile, (rows, columns, 1))[:height, :width]
