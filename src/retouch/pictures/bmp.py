"""BMP: 1-bit, palette, 24 bits, and 32 bits with alpha."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin

from retouch.pictures import bands, palette
from retouch.pictures.depth import levels, pack_bits
from retouch.pictures.picture import Metadata, Picture, PictureError, notice
from retouch.pictures.source import Source

_RLE_RATIO = 128  # 255 pixels in two bytes
_V4 = 108  # bytes of the header that knows about alpha
_MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
_INCH = 0.0254


def read(source: Source) -> Picture:
    """Decode a BMP."""
    image = BmpImagePlugin.BmpImageFile(source.file())
    source.check_size(image.width, image.height, _RLE_RATIO)
    mode, bits, table, dpi = image.mode, 8, None, image.info.get("dpi")
    image.load()
    if mode == "P":
        colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        table = np.full((len(colours), 4), 255, dtype=np.uint8)
        table[:, :3] = colours
    if mode == "1":
        bits = 1
    if mode in ("1", "P"):
        image = image.convert("L" if mode == "1" else "RGB")
    pixels, alpha = bands.split(bands.to_array(image))
    metadata = Metadata(
        format="BMP",
        mode={"P": "palette", "RGB": "rgb", "RGBA": "rgb"}.get(mode, "grey"),
        bits=bits,
        dpi=dpi,
        palette=table,
    )
    return Picture(pixels=pixels, alpha=alpha, metadata=metadata)


def write(file: BinaryIO, picture: Picture) -> None:
    """Encode an 8-bit picture; metadata other than the resolution has no place in a BMP."""
    metadata = picture.metadata
    if metadata.exif or metadata.icc or metadata.xmp or metadata.text:
        notice("BMP holds no EXIF, colour profile or text; they are left out")
    bits, table, values = _encoded(picture)
    height, width = values.shape[:2]
    stride = (width * bits + 31) // 32 * 4
    header = _V4 if bits == 32 else 40
    start = 14 + header + 4 * len(table)
    size = start + stride * height
    if size >= 1 << 32 or max(width, height) >= 1 << 31:
        raise PictureError(f"BMP cannot hold {width} x {height} px; name the output .png")
    across, down = (round(value / _INCH) for value in metadata.dpi or (96, 96))
    file.write(struct.pack("<2sIII", b"BM", size, 0, start))
    compression = 3 if bits == 32 else 0
    fields = (width, height, 1, bits, compression, stride * height, across, down, len(table), 0)
    file.write(struct.pack("<IiiHHIIiiII", header, *fields))
    if bits == 32:
        file.write(struct.pack("<4I4s48x", *_MASKS, b"BGRs"))  # sRGB, little-endian
    file.write(table.tobytes())
    rows = max(1, (1 << 20) // width)
    for bottom in range(height, 0, -rows):
        file.write(_rows(values[max(0, bottom - rows) : bottom], bits, stride))


def _encoded(picture: Picture) -> tuple[int, NDArray[np.uint8], NDArray[np.uint8]]:
    """Choose bits, (n, 4) BGR0 table, and (h, w) indices or (h, w, 3 or 4) samples."""
    metadata = picture.metadata
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
    greys[:, 3] = 0
    no_table = np.empty((0, 4), dtype=np.uint8)
    if picture.alpha is not None:
        return 32, no_table, bands.merged([picture.rgb, picture.alpha])
    if picture.is_grey:
        if metadata.bits == 1:
            return 1, greys[[0, 255]], levels(picture.pixels, 1)
        return 8, greys, picture.pixels
    if metadata.palette is not None:
        found = palette.indices(picture.pixels, None, metadata.palette)
        if found is not None:
            table = metadata.palette[:, [2, 1, 0, 3]].copy()
            table[:, 3] = 0
            return 8, table, found
        notice("the palette has no room for the new colours; the picture is stored as RGB")
    return 24, no_table, picture.pixels


def _rows(values: NDArray[np.uint8], bits: int, stride: int) -> bytes:
    """Lay rows out bottom first, BGR, each padded to a multiple of four bytes."""
    if values.ndim == 3:
        order = [2, 1, 0, 3][: values.shape[2]]
        values = values[..., order].reshape(len(values), -1)
    else:
        values = pack_bits(values, bits)
    return np.pad(values[::-1], ((0, 0), (0, stride - values.shape[1]))).tobytes()
