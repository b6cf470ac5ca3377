"""WebP, lossless and lossy; a lossy file is written again at the quality it had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import imagecodecs

from retouch.pictures import bands, exif
from retouch.pictures.picture import Metadata, Picture, PictureError, WebpDetails, notice
from retouch.pictures.source import MAX_METADATA, Source

_LARGEST = 16383
_ANIMATION = 2  # flag in VP8X
_QUALITY = 90  # of pictures that were no WebP before, and of files that do not tell


def read(source: Source) -> Picture:
    """Decode a WebP upright."""
    icc = block = packet = None
    lossless, quality = False, _QUALITY
    for kind, payload in _chunks(source):
        if kind == b"VP8X" and payload[0] & _ANIMATION:
            raise source.refuse("this is an animation; save the frame you want as a PNG or WebP")
        if kind == b"VP8X":
            sides = [int.from_bytes(payload[i : i + 3], "little") + 1 for i in (4, 7)]
            source.check_size(*sides, densest=float("inf"))
        elif kind == b"VP8L":
            lossless = True
            packed = int.from_bytes(payload[1:5], "little")
            # A picture of one colour needs no bits for its pixels.
            source.check_size((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, float("inf"))
        elif kind == b"VP8 ":
            sides = [int.from_bytes(payload[i : i + 2], "little") & 0x3FFF for i in (6, 8)]
            source.check_size(*sides, densest=float("inf"))
            quality = _estimate_quality(payload)
        elif kind == b"ICCP":
            icc = payload
        elif kind == b"EXIF":
            block = payload.removeprefix(b"Exif\0\0")
        elif kind == b"XMP ":
            packet = payload
    turn = exif.orientation(block)
    samples = imagecodecs.webp_decode(source.data)
    pixels, alpha = bands.split(bands.oriented(samples, turn))
    metadata = Metadata(
        format="WEBP",
        orientation=turn,
        exif=block and exif.upright(block),
        icc=icc,
        xmp=packet and exif.upright_xmp(packet, turn > 1),
        details=WebpDetails(lossless=lossless, quality=quality),
    )
    return Picture(pixels=pixels, alpha=alpha, metadata=metadata)


def _chunks(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and payload of each chunk (RFC 9649), of the pixels' only the head."""
    data, place = source.data, 12
    while place + 8 <= len(data):
        kind = data[place : place + 4]
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        if place + 8 + size > len(data):
            raise source.damaged(f"it ends in the middle of its {kind.decode('latin-1')!r} chunk")
        is_picture = kind in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH")
        if is_picture and size < 10 and kind != b"ALPH":
            raise source.damaged("its header is cut short")
        if not is_picture and size > MAX_METADATA:
            notice(f"{source.path}: {size >> 20} MiB of metadata are left out")
        else:
            yield kind, data[place + 8 : place + 8 + (min(size, 256) if is_picture else size)]
        place += 8 + size + size % 2


def write(file: BinaryIO, picture: Picture) -> None:
    """Encode an 8-bit picture; WebP has no grey and stores it as RGB."""
    if max(picture.size) > _LARGEST:
        raise PictureError(
            f"WebP holds at most {_LARGEST} px a side, not {picture.width} x {picture.height}; "
            "name the output .png"
        )
    metadata = picture.metadata
    details = metadata.details
    if not isinstance(details, WebpDetails):
        details = WebpDetails(lossless=False, quality=_QUALITY)
    planes = [picture.rgb] if picture.alpha is None else [picture.rgb, picture.alpha]
    bands.to_image(*planes).save(
        file,
        "WEBP",
        lossless=details.lossless,
        quality=details.quality,
        exact=True,  # colours under full transparency are pixels too
        exif=metadata.exif or b"",
        icc_profile=metadata.icc or b"",
        xmp=metadata.xmp or b"",
    )


class _Bits:
    """Boolean decoder of VP8 for even odds (RFC 6386, Sec. 7.3)."""

    def __init__(self, data: bytes) -> None:
        self.value = int.from_bytes(data, "big")
        self.left = 8 * len(data)
        self.range = 255

    def take(self, count: int) -> int:
        """Read an unsigned number of some bits; 0 beyond the end."""
        number = 0
        for _ in range(count):
            split = 1 + ((self.range - 1) * 128 >> 8)
            shifted = split << max(0, self.left - 8)
            bit = self.value >= shifted
            if bit:
                self.value -= shifted
                self.range -= split
            else:
                self.range = split
            while self.range < 128:
                self.range <<= 1
                self.left -= 1
            number = number << 1 | bit
        return number

    def signed(self, count: int) -> int | None:
        """Read an optional number with its sign after it."""
        if not self.take(1):
            return None
        number = self.take(count)
        return -number if self.take(1) else number


def _estimate_quality(payload: bytes) -> int:
    """Invert libwebp's map from quality to quantiser (quant_enc.c, QualityToCompression)."""
    if len(payload) < 32 or payload[3:6] != b"\x9d\x01\x2a":
        return _QUALITY
    quantiser = _quantiser(_Bits(payload[10:]))
    compression = (1 - min(127, max(0, quantiser)) / 127) ** 3
    linear = 1.5 * compression if compression < 0.5 else (compression + 1) / 2
    return min(100, max(1, round(100 * linear)))


def _quantiser(bits: _Bits) -> float:
    """Read the frame header up to the quantiser (RFC 6386, Sec. 9.2 to 9.6); mean of segments."""
    segments: list[int | None] = []
    bits.take(2)  # colour space, clamping
    if bits.take(1):
        has_map, has_values = bits.take(1), bits.take(1)
        if has_values:
            absolute = bits.take(1)
            values = [bits.signed(7) for _ in range(4)]
            segments = values if absolute else []
            for _ in range(4):
                bits.signed(6)
        if has_map:
            for _ in range(3):
                bits.take(8 if bits.take(1) else 0)
    bits.take(10)  # filter type, level, sharpness
    if bits.take(1) and bits.take(1):
        for _ in range(8):
            bits.signed(6)
    bits.take(2)  # partitions
    base = bits.take(7)
    known = [value or 0 for value in segments]
    return sum(known) / len(known) if known else base
