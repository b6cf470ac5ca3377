"""Pictures from arrays and Pillow pictures, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch.pictures import bands, cmyk
from retouch.pictures.picture import Metadata, Picture, PictureError

_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")


def from_array(array: NDArray[Any]) -> Picture:
    """Take an array as a picture, without a copy.

    Args:
        array: (h, w), (h, w, 1) grey, (h, w, 2) grey and alpha, (h, w, 3) RGB or (h, w, 4) RGBA;
            uint8 or uint16.

    Raises:
        PictureError: If type or shape are others.
    """
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16):
        raise PictureError(
            f"a picture's array must be uint8 or uint16, got {array.dtype}; "
            "scale it to [0, 255] and convert it"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise PictureError(
            f"a picture's array must have shape (h, w) or (h, w, 1 to 4), got {array.shape}"
        )
    pixels, alpha = bands.split(array.astype(array.dtype.newbyteorder("="), copy=False))
    return Picture(pixels=pixels, alpha=alpha, metadata=_plain(pixels))


def _plain(pixels: NDArray[Any], **more: Any) -> Metadata:
    mode = "grey" if pixels.ndim == 2 else "rgb"
    return Metadata(mode=mode, bits=8 * pixels.dtype.itemsize, **more)


def from_pil(image: Image.Image) -> Picture:
    """Take a Pillow picture as it lies: its EXIF orientation is not applied, and stays in its EXIF.

    Raises:
        PictureError: If its mode is none of 1, L, LA, P, RGB, RGBA, CMYK, YCbCr and I;16.
    """
    info = image.info
    if image.mode in _DEEP:
        pixels = np.array(image).astype(np.uint16)
        return Picture(pixels=pixels, metadata=_plain(pixels, icc=info.get("icc_profile")))
    mode = image.mode
    if mode == "CMYK":
        native = bands.to_array(image)
        icc = info.get("icc_profile")
        metadata = Metadata(mode="cmyk", icc=icc)
        return Picture(pixels=cmyk.to_rgb(native, icc), metadata=metadata, native=native)
    if mode == "1":
        image = image.convert("L")
    elif mode in ("P", "PA", "YCbCr", "RGBX", "La", "RGBa") or "transparency" in info:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise PictureError(f"a Pillow picture of mode {mode} cannot be repaired; convert it to RGB")
    pixels, alpha = bands.split(bands.to_array(image))
    block = info.get("exif")
    metadata = _plain(
        pixels,
        exif=block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else None,
        icc=info.get("icc_profile"),
        dpi=info.get("dpi"),
    )
    return Picture(pixels=pixels, alpha=alpha, metadata=metadata)


def to_pil(picture: Picture) -> Image.Image:
    """Make a Pillow picture, with EXIF, profile and resolution in its `info`.

    Raises:
        PictureError: If the picture has 16 bits and colour or alpha: Pillow has no such mode.
    """
    if picture.pixels.dtype == np.uint16:
        if not picture.is_grey or picture.alpha is not None:
            raise PictureError("Pillow has no 16-bit colour; take `pixels` and `alpha` as arrays")
        image = Image.fromarray(np.ascontiguousarray(picture.pixels))
    else:
        planes = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha]
        image = bands.to_image(*planes).copy()
    metadata = picture.metadata
    found = {"exif": metadata.exif, "icc_profile": metadata.icc, "dpi": metadata.dpi}
    image.info = {key: value for key, value in found.items() if value}
    return image
