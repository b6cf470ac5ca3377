"""Masks from files, arrays and transparency: True is hole."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch.pictures.conversion import from_pil
from retouch.pictures.picture import Picture, PictureError, luma, notice
from retouch.pictures.reading import read
from retouch.pictures.source import MAX_PIXELS

Mask = NDArray[np.bool_]

_COLOURED = 0.25  # difference between channels, of the full range, that makes a pixel coloured
_COLOURED_SHARE = 0.01  # of the pixels: more is a picture and no mask


def read_mask(
    path: str | os.PathLike[str], *, invert: bool = False, max_pixels: int = MAX_PIXELS
) -> Mask:
    """Read a mask: white, at least half of the range, is hole.

    Greys are cut at half, with a notice in the log. Transparent parts of a mask count as black.

    Args:
        path: A picture file of any kind that `read` takes.
        invert: Black is hole.
        max_pixels: Larger masks are refused.

    Returns:
        (h, w), True = hole.

    Raises:
        PictureError: If the file cannot be read, is a colour picture, or holds only 0 and 1.
    """
    picture = read(path, max_pixels=max_pixels)
    try:
        return _of_picture(picture, invert, str(path))
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from None


def as_mask(mask: NDArray[Any] | Image.Image | Picture, *, invert: bool = False) -> Mask:
    """Take an array or Pillow picture as a mask, by the rules of `read_mask`.

    Args:
        mask: (h, w), (h, w, 1), RGB or RGBA: bool; unsigned or signed integers up to 255 or 65535;
            or floats in [0, 1].
        invert: Black, or False, is hole.

    Returns:
        (h, w), True = hole.

    Raises:
        PictureError: If shape, type or range are others, or an integer mask holds only 0 and 1.
    """
    if isinstance(mask, Image.Image):
        if mask.mode in ("F", "I"):
            return as_mask(np.asarray(mask), invert=invert)
        mask = from_pil(mask)
    if isinstance(mask, Picture):
        return _of_picture(mask, invert, "the mask")
    array = np.asarray(mask)
    if array.dtype == np.bool_:
        array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        if array.ndim != 2 or 0 in array.shape:
            raise PictureError(f"a mask of bool must have shape (h, w), got {array.shape}")
        return ~array if invert else array
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise PictureError(f"a mask must have shape (h, w) or (h, w, 1 to 4), got {array.shape}")
    if 0 in array.shape:
        raise PictureError(f"a mask must not be empty, got shape {array.shape}")
    values, white = _samples(array)
    return _threshold(_grey(values, white), white, invert, "the mask")


def mask_from_alpha(picture: Picture) -> Mask:
    """Take what is more than half transparent as the hole.

    Returns:
        (h, w), True = hole.

    Raises:
        PictureError: If the picture has no transparency.
    """
    if picture.alpha is None:
        raise PictureError("the picture has no transparency; give a mask file")
    return _threshold(picture.alpha, picture.white, True, "the transparency")


def _of_picture(picture: Picture, invert: bool, name: str) -> Mask:
    samples = picture.pixels
    if picture.alpha is not None:
        alpha = picture.alpha if picture.is_grey else picture.alpha[..., None]
        product = samples.astype(np.uint32) * alpha // picture.white
        samples = product.astype(samples.dtype)
    # A file of few bits is scaled already, so its 1 is white and no mistake.
    if picture.metadata.palette is None and picture.metadata.bits >= 8:
        _refuse_labels(samples)
    return _threshold(_grey(samples, picture.white), picture.white, invert, name)


def _samples(array: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Check the range of an array; return it with alpha applied, and its white."""
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also refuses NaN
            raise PictureError(
                f"a mask of floats must lie in [0, 1], got {low:g} to {high:g}; "
                "divide it by its white"
            )
        white: float = 1.0
    elif np.issubdtype(array.dtype, np.integer):
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 65535:
            raise PictureError(f"an integer mask must lie in [0, 65535], got {low} to {high}")
        if array.dtype.itemsize > 2 or array.dtype == np.int16:
            array = array.astype(np.uint8 if high < 256 else np.uint16)
        _refuse_labels(array)
        white = float(np.iinfo(array.dtype).max)
    else:
        raise PictureError(f"a mask must be bool, integer or float, got {array.dtype}")
    if array.ndim == 3 and array.shape[2] in (2, 4):
        opacity = array[..., -1:].astype(np.float32) / white
        array = (array[..., :-1] * opacity).astype(array.dtype)
    return array, white


def _refuse_labels(samples: NDArray[Any]) -> None:
    """Refuse integers of 0 and 1, or of 8 bits in 16: cut at half they would silently be empty."""
    high = int(samples.max())
    if high == 1:
        raise PictureError(
            "the mask holds only 0 and 1, which would be an empty mask; multiply it by 255 "
            "(arrays may also be bool)"
        )
    if samples.dtype == np.uint16 and 0 < high < 256:
        raise PictureError(
            f"the mask has 16 bits but no value over {high}, which would be an empty mask; "
            "store it with 8 bits"
        )


def _grey(samples: NDArray[Any], white: float) -> NDArray[Any]:
    """Reduce (h, w), (h, w, 1) or (h, w, 3) to grey; refuse what is a colour picture."""
    if samples.ndim == 2:
        return samples
    if samples.shape[2] == 1:
        return samples[..., 0]
    red, green, blue = samples[..., 0], samples[..., 1], samples[..., 2]
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    share = float(np.mean(high - low > _COLOURED * white))
    if share > _COLOURED_SHARE:
        raise PictureError(
            f"{100 * share:.0f} % of the mask are coloured; masks are black with white holes "
            "(are picture and mask exchanged?)"
        )
    if np.issubdtype(samples.dtype, np.integer):
        return luma(samples)
    return samples.mean(axis=2)


def _threshold(grey: NDArray[Any], white: float, invert: bool, name: str) -> Mask:
    """Cut at half of the range, and tell if there were greys."""
    mask = grey < white / 2 if invert else grey >= white / 2
    share = float(np.mean((grey > 0) & (grey < white)))
    if share > 0:
        notice(
            f"{name}: {100 * share:.2g} % of the pixels are grey; from half of the range on they "
            f"count as {'known' if invert else 'hole'}"
        )
    return mask
