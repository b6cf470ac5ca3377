"""One call for one picture."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from retouch.pipeline.door import AnyMask, AnyPicture
from retouch.pipeline.inpainter import Inpainter
from retouch.weights import named


def fill(
    picture: AnyPicture,
    mask: AnyMask,
    *,
    network: str | Path = named.DEFAULT,
    device: str = "auto",
    dilate: int = 0,
    feather: int = 0,
    seed: int = 0,
    refine: bool = True,
) -> Any:
    """Fill the holes of a picture; the network stays loaded for the next call.

    Args:
        picture: A file, PIL picture, array (h, w[, c]) or tensor ([1,] 3, h, w).
        mask: The same forms, one channel; white or 1 = hole.
        network: Weights by file or name, or a network's name.
        device: `auto`, `cpu`, `cuda`, `mps`.
        dilate: Widen the holes first [px]; 3 to 5 helps when an object is removed.
        feather: Fade the fill in over the outermost pixels of the widened hole [px].
        seed: For networks that draw random numbers.
        refine: Copy from like places of the picture: the finest grain, and what is smeared.

    Returns:
        The filled picture in the form that was given; for a file a `Picture`: `.save(path)` writes
        it with the file's own format and metadata.

    Raises:
        PictureError: If picture or mask cannot be read, or they differ in size.
        WeightsError: If there are no such weights.
    """
    inpainter = _loaded(network, device)
    return inpainter.fill(picture, mask, dilate=dilate, feather=feather, seed=seed, refine=refine)


@lru_cache(maxsize=2)
def _loaded(network: str | Path, device: str) -> Inpainter:
    return Inpainter.load(network, device=device)
