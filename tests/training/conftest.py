"""Tiny made pictures with label maps, and mask files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # for `tiny_runs`


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of 64x64 px with label maps."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(24):
        small = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(small).resize((64, 64)).save(folder / f"{index}.png")
        labels = Image.fromarray(rng.integers(0, 8, (6, 6)).astype(np.uint8))
        labels.resize((64, 64), 0).save(folder / f"{index}.label.png")
    return folder


@pytest.fixture(scope="session")
def mask_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three mask files."""
    folder = tmp_path_factory.mktemp("masks")
    for index in range(3):
        mask = np.zeros((64, 64), bool)
        mask[10 : 30 + 5 * index, 20:50] = True
        Image.fromarray(mask).save(folder / f"m{index}.png")
    return folder
