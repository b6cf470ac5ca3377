"""Label maps to and from clients: indexed PNG in class colours; 255 = nothing is said here."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch.pictures import PictureError
from retouch.segmentation import LabelSet, palette

UNKNOWN = 255
"""Label of pixels of which nothing is said."""


def read(path: Path, label_set: LabelSet, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a label map.

    Args:
        path: An indexed, grey or colour PNG; see `retouch.segmentation.palette`.
        label_set: What it speaks of.
        size: (h, w) that it must have [px].

    Returns:
        (h, w) classes or `UNKNOWN`.

    Raises:
        PictureError: If it is none, or has another size.
    """
    try:
        with Image.open(path, formats=("PNG", "TIFF", "BMP", "WEBP")) as image:
            if image.size != (size[1], size[0]):
                raise PictureError(
                    f"the label map is {image.width}x{image.height} px, it must be"
                    f" {size[1]}x{size[0]} px"
                )
            return _read(image, label_set)
    except PictureError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        text = str(error).replace(repr(str(path)), "the file")
        raise PictureError(f"the label map cannot be used: {text}") from None


def _read(image: Image.Image, label_set: LabelSet) -> NDArray[np.uint8]:
    if image.mode not in ("L", "P"):
        return palette.read(image, label_set).copy()
    numbers = np.asarray(image)
    known = numbers != UNKNOWN
    if not known.any():
        return numbers.copy()
    stand_in = image.copy()
    stand_in.paste(int(numbers[known][0]), mask=Image.fromarray(~known))
    labels = palette.read(stand_in, label_set).copy()
    labels[~known] = UNKNOWN
    return labels


def write(labels: NDArray[np.uint8], label_set: LabelSet) -> bytes:
    """Write a label map as indexed PNG."""
    colors = np.zeros((256, 3), np.uint8)
    for index, color in label_set.table().items():
        colors[index] = color
    if UNKNOWN not in label_set.table():
        colors[UNKNOWN] = 255
    image = Image.fromarray(labels)
    image.putpalette(colors.tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
