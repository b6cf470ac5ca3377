"""Sample sheets: rows of input, mask, prediction, composite and truth as one PNG."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def write(path: Path, image: Tensor, mask: Tensor, prediction: Tensor) -> None:
    """Write one row per sample: damaged, prediction, composite, truth.

    Args:
        path: The PNG file.
        image: (b, 3, h, w) in [0, 1].
        mask: (b, 1, h, w), 1 = hole.
        prediction: (b, 3, h, w) in [0, 1].
    """
    damaged = image * (1 - mask) + mask
    composite = image * (1 - mask) + prediction * mask
    rows = torch.stack([damaged, prediction, composite, image], dim=1)  # (b, 4, 3, h, w)
    b, columns, c, h, w = rows.shape
    grid = rows.permute(0, 3, 1, 4, 2).reshape(b * h, columns * w, c)
    pixels = (grid.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
