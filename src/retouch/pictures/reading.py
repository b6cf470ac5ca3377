"""From a file to a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from retouch.pictures import bmp, heif, jpeg, png, tiff, webp
from retouch.pictures.formats import EXTENSIONS, recognise, stranger
from retouch.pictures.picture import Picture, notice
from retouch.pictures.source import MAX_PIXELS, Source, fenced, opened

_READERS: Mapping[str, Callable[[Source], Picture]] = MappingProxyType(
    {
        "JPEG": jpeg.read,
        "PNG": png.read,
        "TIFF": tiff.read,
        "WEBP": webp.read,
        "BMP": bmp.read,
        "HEIF": heif.read_heic,
        "AVIF": heif.read_avif,
    }
)


def read(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture the right way up, with all that is needed to write it back.

    The content decides the format, not the extension. What cannot be carried is told in the log.

    Args:
        path: A JPEG, PNG, TIFF, WebP, BMP, AVIF, or (with the extra `heic`) HEIC file.
        max_pixels: Larger pictures are refused.

    Raises:
        PictureError: If the file is missing, damaged, too large, or of a kind that Retouch does not
            repair; one line that says what is wrong, where, and what to do.
    """
    with opened(Path(path), max_pixels) as source, fenced(source):
        head = source.data[:64]
        name = recognise(head)
        if name is None:
            raise source.refuse(
                f"this is {stranger(head)}; convert it to JPEG, PNG, TIFF, WebP, BMP, HEIC or AVIF"
            )
        suffix = source.path.suffix.lower()
        if suffix and EXTENSIONS.get(suffix) != name:
            notice(f"{source.path}: this is a {name} whatever its extension says")
        return _READERS[name](source)
