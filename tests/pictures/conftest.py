"""Pictures to test with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def smooth() -> Callable[..., np.ndarray]:
    """Make samples (h, w[, c]) that compress like a photograph's."""

    def make(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
        rng = np.random.default_rng(height * 1000 + width)
        planes = [
            Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            for _ in range(channels)
        ]
        samples = np.stack([np.asarray(plane) for plane in planes], axis=2).astype(dtype)
        if dtype is np.uint16:
            samples = samples * 256 + rng.integers(0, 256, samples.shape, dtype=np.uint16)
        return samples[..., 0] if channels == 1 else samples

    return make


@pytest.fixture
def names(tmp_path: Path) -> Callable[[], list[str]]:
    """List what lies in the test's folder, hidden files too."""
    return lambda: sorted(path.name for path in tmp_path.iterdir())
