"""CMYK samples and their RGB rendition, through the file's own profile where it has one."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from retouch.pictures.picture import notice

if TYPE_CHECKING:
    from retouch.pictures.picture import Picture

_BAND = 1 << 20


def to_rgb(native: NDArray[np.uint8], icc: bytes | None) -> NDArray[np.uint8]:
    """Render (h, w, 4) CMYK as (h, w, 3) sRGB."""
    return _convert(native, icc, "CMYK", "RGB")


def native_of(picture: Picture) -> NDArray[np.uint8]:
    """Carry changes back to CMYK: samples whose rendition did not change stay as they are.

    Returns:
        (h, w, 4).
    """
    native, icc = picture.native, picture.metadata.icc
    if native is None:
        raise TypeError("the picture has no CMYK samples")
    result = native.copy()
    rows = max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):
        band = slice(top, top + rows)
        rgb = np.ascontiguousarray(picture.pixels[band])
        changed = (to_rgb(native[band], icc) != rgb).any(axis=2)
        if changed.any():
            result[band][changed] = _convert(rgb[changed][None], icc, "RGB", "CMYK")[0]
    return result


def _convert(
    samples: NDArray[np.uint8], icc: bytes | None, source: str, target: str
) -> NDArray[np.uint8]:
    height, width = samples.shape[:2]
    transform = _transform(icc, source, target)
    result = np.empty((height, width, len(target)), dtype=np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = np.ascontiguousarray(samples[top : top + rows])
        image = Image.frombuffer(source, (width, len(band)), band, "raw", source, 0, 1)
        if transform is None:
            image = image.convert(target)
        else:
            image = ImageCms.applyTransform(image, transform)
        result[top : top + rows] = np.asarray(image)
    return result


def _transform(icc: bytes | None, source: str, target: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform, or None where the file has no usable profile."""
    if not icc:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        srgb = ImageCms.createProfile("sRGB")
        ends = (profile, srgb) if source == "CMYK" else (srgb, profile)
        return ImageCms.buildTransform(*ends, source, target, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    except (ImageCms.PyCMSError, OSError):
        notice("the CMYK profile of the picture is unusable; colours are converted without it")
        return None
