"""From a picture to a file: whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from retouch.pictures import bmp, heif, jpeg, png, tiff, webp
from retouch.pictures.depth import eight_bits, straight
from retouch.pictures.formats import EXTENSIONS
from retouch.pictures.picture import Picture, PictureError, TiffDetails, WebpDetails, notice
from retouch.pictures.source import DECODER_ERRORS, one_line

_WRITERS: Mapping[str, Callable[[BinaryIO, Picture], None]] = MappingProxyType(
    {
        "JPEG": jpeg.write,
        "PNG": png.write,
        "TIFF": tiff.write,
        "WEBP": webp.write,
        "BMP": bmp.write,
        "HEIF": heif.write_heic,
        "AVIF": heif.write_avif,
    }
)
_EIGHT_BIT = ("JPEG", "WEBP", "BMP", "AVIF")
_LOSSY = ("JPEG", "HEIF", "AVIF")


def write(path: str | os.PathLike[str], picture: Picture, *, lossless: bool = False) -> Path:
    """Write a picture with its metadata; the file appears whole or not at all.

    Args:
        path: Where to; the extension decides the format.
        picture: The picture; a file of its own format keeps that file's encoding.
        lossless: Write PNG in place of JPEG, HEIC and AVIF (TIFF for CMYK), and lossless WebP in
            place of lossy, so that every known pixel survives bit for bit. The extension follows.

    Returns:
        The file that was written.

    Raises:
        PictureError: If the format cannot hold the picture or the file cannot be written; one line.
    """
    target = Path(path)
    name = EXTENSIONS.get(target.suffix.lower())
    if name is None:
        known = ", ".join(EXTENSIONS)
        raise PictureError(
            f"{target}: no format has this extension; name the output one of {known}"
        )
    if lossless:
        target, name, picture = _lossless(target, name, picture)
    try:
        picture = _fitted(picture, name)
        with _replacing(target) as file:
            _WRITERS[name](file, picture)
    except PictureError as error:
        raise PictureError(f"{target}: {error}") from error
    except OSError as error:
        problem = error.strerror or one_line(error)
        raise PictureError(
            f"{target}: cannot be written ({problem}); choose another place"
        ) from error
    except DECODER_ERRORS as error:
        raise PictureError(
            f"{target}: cannot be encoded ({one_line(error)}); name the output .png"
        ) from error
    return target


def _lossless(target: Path, name: str, picture: Picture) -> tuple[Path, str, Picture]:
    """Choose a format that loses nothing."""
    if name in _LOSSY:
        name, suffix = ("PNG", ".png") if picture.native is None else ("TIFF", ".tif")
        return target.with_suffix(suffix), name, picture
    if name == "WEBP":
        metadata = replace(picture.metadata, details=WebpDetails(lossless=True))
        picture = replace(picture, metadata=metadata)
    return target, name, picture


def _fitted(picture: Picture, name: str) -> Picture:
    """Bring depth, colour and transparency to what the format holds."""
    if name in _EIGHT_BIT:
        picture = eight_bits(picture, name)
    if name == "JPEG" and picture.alpha is not None:
        if int(picture.alpha.min()) < picture.white:
            raise PictureError("JPEG cannot hold transparency; name the output .png")
        picture = replace(picture, alpha=None)
    details = picture.metadata.details
    if name != "TIFF" and isinstance(details, TiffDetails) and details.alpha_kind == 1:
        picture = straight(picture)
    if picture.metadata.mode == "cmyk" and name not in ("JPEG", "TIFF"):
        notice(f"{name} holds no CMYK; the picture is converted to sRGB")
        metadata = replace(picture.metadata, mode="rgb", icc=None)
        picture = replace(picture, metadata=metadata, native=None)
    return picture


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """Open a new file beside the target that takes its name only once it is complete."""
    target = target.resolve()  # a link keeps pointing to the file
    if target.is_dir():
        raise PictureError("this is a folder; name a file")
    if not target.parent.is_dir():
        raise PictureError("its folder does not exist; make it first")
    draft = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with draft.open("x+b") as file:
            yield file
        if target.exists():
            draft.chmod(target.stat().st_mode)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
