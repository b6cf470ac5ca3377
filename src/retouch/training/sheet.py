"""Sample sheets: one row of pictures per sample, the network's own side outputs behind."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from retouch.data.batch import Batch
from retouch.segmentation.labels import LABEL_SETS


def write(path: Path, batch: Batch, prediction: Tensor, outputs: Any = None) -> None:
    """Write one row per sample: damaged, mask, prediction, composite, truth, side outputs.

    Args:
        path: The PNG file.
        batch: What went in.
        prediction: (b, 3, h, w) in [0, 1]; of a segmentation network logits (b, classes, h, w).
        outputs: What the objective's `predict` returned: pyramids, gradients, coarse pictures.
    """
    image, mask = batch.image, batch.mask
    if prediction.shape[1] != 3:
        columns = [image, _labels(prediction.argmax(1))]
    elif batch.source is not None:
        columns = [batch.source, prediction, image]
    else:
        damaged = image * (1 - mask) + mask
        composite = image * (1 - mask) + prediction * mask
        columns = [damaged, mask.expand_as(image), prediction, composite, image]
    if batch.labels is not None:
        columns.append(_labels(batch.labels))
    columns += list(_side_pictures(outputs))
    size = image.shape[-2:]
    columns = [functional.interpolate(c.float(), size) for c in columns]
    rows = torch.stack(columns, dim=1)  # (b, columns, 3, h, w)
    b, n, c, h, w = rows.shape
    grid = rows.permute(0, 3, 1, 4, 2).reshape(b * h, n * w, c)
    pixels = (grid.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def _side_pictures(outputs: Any) -> Iterator[Tensor]:
    """Every picture among named outputs; maps of other depths as the strength of their channels."""
    if not is_dataclass(outputs):
        return
    for field in fields(outputs):
        value = getattr(outputs, field.name)
        for item in value if isinstance(value, tuple | list) else (value,):
            if not isinstance(item, Tensor) or item.ndim != 4:
                continue
            if item.shape[1] == 3:
                yield item
            elif item.shape[1] <= 16:
                strength = item.float().square().sum(1, keepdim=True).sqrt()
                peak = strength.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)
                yield (strength / peak).expand(-1, 3, -1, -1)


def _labels(labels: Tensor) -> Tensor:
    """Paint labels in the colours of the largest label set; unknown ones are white."""
    colors = max((s.colors for s in LABEL_SETS.values()), key=len)
    table = torch.full((256, 3), 255.0)
    table[: len(colors)] = torch.tensor(colors, dtype=torch.float32)
    painted = table.to(labels.device)[labels.clamp(0, 255)] / 255  # (b, h, w, 3)
    return painted.permute(0, 3, 1, 2)
