"""The sibling of `Inpainter` for motion deblurring: no mask, the whole picture changes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from retouch import models
from retouch.pictures import Picture
from retouch.pipeline import devices, door
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.devices import OptionError, Precision
from retouch.pipeline.door import AnyPicture
from retouch.weights import files, named

_TILE = 512
"""Side of the pieces a large picture is cut into [px]."""
_OVERLAP = 64
"""How far neighbouring pieces overlap; they are blended linearly there [px]."""


class Deblurrer:
    """Takes motion blur out of pictures with one network.

    Args:
        network: `forward(image)`; a copy of it is prepared and kept.
        header: What its weight file says; its config's `task` is `deblur`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: `bf16` is faster where the processor computes in it; `auto` uses it there.

    Raises:
        OptionError: If the network does not deblur, or there is no such device.
    """

    def __init__(
        self,
        network: nn.Module,
        header: files.Header,
        *,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        if header.config.get("task") != "deblur":
            raise OptionError(f"{header.name or header.network} fills holes: retouch fill")
        self.header = header
        self.card = models.card(header.network)
        self.device = devices.choose(device)
        self.bf16 = devices.computes_in_bf16(self.device, precision)
        self.network = devices.prepare(network, self.device, bf16=self.bf16)

    @classmethod
    def load(
        cls, name: str | Path, *, device: str = "auto", precision: Precision = "auto"
    ) -> "Deblurrer":
        """Load weights by file (a `Path`) or by their name.

        Raises:
            WeightsError: If there are none, or they do not fit their network.
            OptionError: If they are not for deblurring, or there is no such device.
        """
        path = name if isinstance(name, Path) else named.find(name, "deblur")
        header, network = files.load(path)
        return cls(network, header, device=device, precision=precision)

    def sharpen(self, picture: AnyPicture) -> Any:
        """Deblur a picture in any form; the result has the form of what was given.

        Args:
            picture: A file, `Picture`, PIL picture, array (h, w[, c]) or tensor ([1,] 3, h, w).

        Raises:
            PictureError: If the picture cannot be read.
        """
        opened, back = door.open_picture(picture)
        return back(self.sharpen_picture(opened))

    def sharpen_picture(self, picture: Picture) -> Picture:
        """Deblur a picture; transparency and metadata stay."""
        h, w = picture.size
        total = np.zeros((h, w, 3), np.float32)
        weight = np.zeros((h, w, 1), np.float32)
        step = _TILE - _OVERLAP
        for top in range(0, max(1, h - _OVERLAP), step):
            for left in range(0, max(1, w - _OVERLAP), step):
                tall, wide = min(_TILE, h - top), min(_TILE, w - left)
                piece = picture.crop(top, left, tall, wide).astype(np.float32)
                piece /= np.float32(picture.white)
                ramp = _ramp(tall)[:, None, None] * _ramp(wide)[None, :, None]
                total[top : top + tall, left : left + wide] += ramp * self._run(piece)
                weight[top : top + tall, left : left + wide] += ramp
        return picture.replace(np.clip(total / weight, 0, 1))

    @torch.inference_mode()
    def _run(self, image: Pixels) -> Pixels:
        h, w = image.shape[:2]
        multiple, least = self.card.multiple_of, self.card.min_size
        rows, columns = (-(-max(side, least) // multiple) * multiple - side for side in (h, w))
        x = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
        x = functional.pad(x, (0, columns, 0, rows), mode="replicate")
        with devices.autocast(self.device, self.bf16):
            sharp = self.network(x)[..., :h, :w].float()
        return sharp[0].permute(1, 2, 0).cpu().numpy()


def _ramp(length: int) -> np.ndarray:
    """Weights along one side of a piece: rising over the overlap, falling at the other end."""
    rise = np.arange(1, length + 1, dtype=np.float32) / _OVERLAP
    return np.minimum(1, np.minimum(rise, rise[::-1]))
