"""HEIC and AVIF: boxes of video frames, lossy here, and turned as their boxes say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL import AvifImagePlugin, features

from retouch.pictures import bands, exif
from retouch.pictures.picture import Metadata, Picture, PictureError, notice
from retouch.pictures.source import Source

_QUALITY = 90
_INSTALL = "install it: pip install 'retouch[heic]'"
_HIGH_DYNAMIC = (16, 18)  # transfer functions PQ and HLG (H.273, Table 3)


def read_avif(source: Source) -> Picture:
    """Decode an AVIF upright; Pillow gives 8 bits."""
    if not features.check("avif"):
        raise source.refuse(
            "this Pillow reads no AVIF; install Pillow 11.3 or newer, or convert it to PNG"
        )
    _check_colour(source)
    image = AvifImagePlugin.AvifImageFile(source.file())
    source.check_size(image.width, image.height, float("inf"))
    if image.n_frames > 1:
        raise source.refuse("this is an animation; save the frame you want as a PNG")
    turn = exif.orientation(
        _bare(image.info.get("exif"))
    )  # Pillow has put the file's own rotation there
    image.load()
    pixels, alpha = bands.split(bands.to_array(image, turn))
    return Picture(pixels=pixels, alpha=alpha, metadata=_metadata("AVIF", image.info, turn, 8))


def _check_colour(source: Source) -> None:
    """Read depth and colour from the boxes av1C and colr (AV1-ISOBMFF, Sec. 2.3; ISO 23008-12)."""
    place = source.data.find(b"av1C")
    flags = source.data[place + 6 : place + 7] if place > 0 else b""
    if flags and flags[0] & 0x40:
        notice(f"{source.path}: more than 8 bits a sample are rounded to 8")
    place = source.data.find(b"colrnclx")
    if place > 0:
        transfer = int.from_bytes(source.data[place + 10 : place + 12], "big")
        if transfer in _HIGH_DYNAMIC:
            raise source.refuse(
                "it has high dynamic range (PQ or HLG); convert it to a 16-bit TIFF or PNG"
            )


def read_heic(source: Source) -> Picture:
    """Decode a HEIC upright; 10 and 12 bits become 16."""
    try:
        import pillow_heif
    except ImportError:
        raise source.refuse(f"reading HEIC needs pillow-heif; {_INSTALL}") from None
    file = pillow_heif.open_heif(source.data[:], convert_hdr_to_8bit=False)
    image = file[file.primary_index]
    source.check_size(*image.size, densest=float("inf"))
    if len(file) > 1:
        notice(f"{source.path}: only the first of {len(file)} pictures in the file is carried")
    bits = int(image.info.get("bit_depth", 8))
    samples = np.array(image)
    pixels, alpha = bands.split(samples)
    turn = exif.orientation(_bare(image.info.get("exif")))
    return Picture(pixels=pixels, alpha=alpha, metadata=_metadata("HEIF", image.info, turn, bits))


def _bare(block: bytes | None) -> bytes | None:
    return block.removeprefix(b"Exif\0\0") if block else None


def _metadata(name: str, info: Mapping[Any, Any], turn: int, bits: int) -> Metadata:
    block, packet = _bare(info.get("exif")), info.get("xmp")
    return Metadata(
        format=name,
        bits=bits,
        orientation=turn,
        exif=exif.upright(block) if block else None,
        icc=info.get("icc_profile"),
        xmp=exif.upright_xmp(packet, turn > 1) if packet else None,
    )


def write_avif(file: BinaryIO, picture: Picture) -> None:
    """Encode an 8-bit picture as AVIF with all its colour resolution."""
    if not features.check("avif"):
        raise PictureError("this Pillow writes no AVIF; name the output .png")
    metadata = picture.metadata
    planes = [picture.pixels] if picture.alpha is None else [picture.rgb, picture.alpha]
    is_plain_grey = picture.is_grey and picture.alpha is None
    bands.to_image(*planes).save(
        file,
        "AVIF",
        quality=_QUALITY,
        exif=metadata.exif or b"",
        icc_profile=metadata.icc,
        xmp=metadata.xmp,
        subsampling="4:0:0" if is_plain_grey else "4:4:4",
    )


def write_heic(file: BinaryIO, picture: Picture) -> None:
    """Encode a picture as HEIC; 4:2:0, since devices decode nothing else."""
    try:
        import pillow_heif
    except ImportError:
        raise PictureError(f"writing HEIC needs pillow-heif; {_INSTALL}") from None
    metadata = picture.metadata
    planes = [picture.rgb] if picture.alpha is None else [picture.rgb, picture.alpha]
    samples = bands.merged(planes)
    mode = "RGB" if picture.alpha is None else "RGBA"
    if samples.dtype == np.uint16:
        mode += ";16"
    size = (picture.width, picture.height)
    image = pillow_heif.from_bytes(mode, size, samples.data.cast("B"))
    image.save(
        file,
        quality=_QUALITY,
        exif=metadata.exif,
        xmp=metadata.xmp,
        icc_profile=metadata.icc,
        save_to_12bit=metadata.bits == 12,
    )
