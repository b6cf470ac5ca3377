"""Takes pictures and masks in every form, and gives results back in the same form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from retouch import pictures
from retouch.pictures import Picture, PictureError
from retouch.pipeline.holes import Mask

AnyPicture: TypeAlias = "str | Path | Picture | Image.Image | NDArray[Any] | Tensor"
"""A file, a `Picture`, a PIL picture, an array (h, w[, 1|3|4]) uint8/uint16 or float in [0, 1], or
a tensor ([1,] 3, h, w) in [0, 1]."""
AnyMask: TypeAlias = "str | Path | Image.Image | NDArray[Any] | Tensor"
"""A file, a PIL picture, an array (h, w) bool / 0..255 / float, or a tensor ([1, 1,] h, w); white
or 1 = hole."""


def open_picture(given: AnyPicture) -> tuple[Picture, Callable[[Picture], Any]]:
    """Turn any picture into a `Picture`, and tell how to turn the result back.

    Returns:
        The picture, and a function that gives a `Picture` in the form of `given` (a file becomes a
        `Picture`, which `retouch.pictures.write` saves with the file's own format and metadata).

    Raises:
        PictureError: If it cannot be read or has a form nobody can guess.
    """
    if isinstance(given, Picture):
        return given, lambda picture: picture
    if isinstance(given, (str, Path)):
        return pictures.read(Path(given)), lambda picture: picture
    if isinstance(given, Image.Image):
        return pictures.from_pil(given), pictures.to_pil
    if isinstance(given, Tensor):
        return _from_tensor(given)
    array = np.asarray(given)
    return _from_array(array), lambda picture: _like(array, picture)


def open_mask(given: AnyMask, *, invert: bool = False) -> Mask:
    """Turn any mask into a bool array (h, w), True = hole.

    Args:
        given: See `AnyMask`; the rules of `retouch.pictures.as_mask` hold.
        invert: Black is the hole.

    Raises:
        PictureError: If it cannot be read, or is an integer mask of 0 and 1.
    """
    if isinstance(given, (str, Path)):
        return pictures.read_mask(Path(given), invert=invert)
    if isinstance(given, Tensor):
        array = given.detach().cpu().numpy()
        while array.ndim > 2 and array.shape[0] == 1:
            array = array[0]
        return pictures.as_mask(array, invert=invert)
    return pictures.as_mask(given, invert=invert)


def _from_tensor(given: Tensor) -> tuple[Picture, Callable[[Picture], Tensor]]:
    batched = given.ndim == 4
    if given.ndim not in (3, 4) or given.shape[-3] != 3 or (batched and given.shape[0] != 1):
        raise PictureError(
            f"a tensor must be (3, h, w) or (1, 3, h, w), got {tuple(given.shape)};"
            " fill the pictures of a batch one by one"
        )
    if not given.is_floating_point():
        raise PictureError(f"a tensor must hold floats in [0, 1], got {given.dtype}")
    plane = given.detach().float().cpu().reshape(given.shape[-3:])
    array = plane.permute(1, 2, 0).numpy()

    def back(picture: Picture) -> Tensor:
        filled = torch.from_numpy(_like(array, picture)).permute(2, 0, 1).to(given)
        return filled.reshape(given.shape)

    return _from_array(array), back


def _like(array: NDArray[Any], picture: Picture) -> NDArray[Any]:
    """The result in the array's own type and form; known floats come back exactly."""
    filled: NDArray[Any] = picture.pixels
    if picture.is_grey and array.ndim == 3:
        filled = filled[..., None]
    if picture.alpha is not None:
        filled = np.dstack([filled, picture.alpha])
    if np.issubdtype(array.dtype, np.floating):
        before = _from_array(array)
        samples = (
            before.pixels if before.alpha is None else np.dstack([before.pixels, before.alpha])
        )
        samples = samples.reshape(filled.shape)
        white = array.dtype.type(picture.white)
        return np.where(samples == filled, array, filled.astype(array.dtype) / white)
    return filled


def _from_array(array: NDArray[Any]) -> Picture:
    """Floats become 16 bit."""
    if not np.issubdtype(array.dtype, np.floating):
        return pictures.from_array(array)
    if not (array.size and array.min() >= 0 and array.max() <= 1):  # NaN fails as well
        raise PictureError("a float picture must hold numbers in [0, 1]; divide it by its white")
    return pictures.from_array(np.rint(array.astype(np.float64) * 65535).astype(np.uint16))
