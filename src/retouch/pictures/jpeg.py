"""JPEG: quantisation tables, subsampling and the segments that hold after the edit are kept."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from PIL import Image, JpegImagePlugin

from retouch.pictures import bands, cmyk, exif
from retouch.pictures.picture import JpegDetails, Metadata, Picture, PictureError, notice
from retouch.pictures.source import Source

_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_LONGEST = 65533  # payload of a segment: 16-bit length less its own two bytes
# One bit can stand for a block of 64 pixels, and subsampled for 256 (T.81, Annex F and G).
_DENSEST = 8 * 256
_STARTS = {0xC0, 0xC1, 0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
_QUALITY = 95  # of pictures that were no JPEG before


@dataclass
class _Header:
    """What stands before the first scan."""

    width: int = 0
    height: int = 0
    components: int = 0
    frame: int = 0
    exif: bytes | None = None
    xmp: bytes | None = None
    icc: list[bytes] = field(default_factory=list)
    density: tuple[int, int, int] | None = None
    others: list[tuple[int, bytes]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    """The file without metadata, in which Pillow would look for errors of no interest."""


def read(source: Source) -> Picture:
    """Decode a JPEG upright."""
    header = _parse(source)
    source.check_size(header.width, header.height, _DENSEST)
    for what in dict.fromkeys(header.dropped):
        notice(f"{source.path}: {what} is left out, since it shows the picture before the edit")
    turn = exif.orientation(header.exif)
    image = JpegImagePlugin.JpegImageFile(BytesIO(b"".join(header.encoded)))
    header.encoded.clear()
    details = _details(image, header, turn)
    image.load()
    samples = bands.to_array(image, turn)
    icc = b"".join(header.icc) or None
    metadata = Metadata(
        format="JPEG",
        mode={"L": "grey", "CMYK": "cmyk"}.get(image.mode, "rgb"),
        orientation=turn,
        exif=header.exif and exif.upright(header.exif),
        icc=icc,
        xmp=header.xmp and exif.upright_xmp(header.xmp, turn > 1),
        dpi=_dpi(details.density),
        text=tuple(
            ("Comment", payload.decode("utf-8", "replace"))
            for marker, payload in header.others
            if marker == 0xFE
        ),
        details=details,
    )
    if image.mode == "CMYK":
        del image
        return Picture(pixels=cmyk.to_rgb(samples, icc), metadata=metadata, native=samples)
    return Picture(pixels=samples, metadata=metadata)


def _parse(source: Source) -> _Header:
    """Walk the segments up to the first scan (T.81, Annex B)."""
    data, place, header = source.data, 2, _Header()
    while True:
        if data[place : place + 1] != b"\xff":
            raise source.damaged("its segments are broken")
        marker = data[place + 1 : place + 2]
        if marker == b"\xff":  # fill byte
            place += 1
            continue
        if len(marker) == 0:
            raise source.damaged("it ends before the picture begins")
        code = marker[0]
        if code == 0xDA:
            break
        if code == 0x01 or 0xD0 <= code <= 0xD7:
            place += 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if length < 2 or place + 2 + length > len(data):
            raise source.damaged("it ends before the picture begins")
        _take(header, code, data[place + 4 : place + 2 + length])
        if code in (0xE0, 0xEE) or not (0xE0 <= code <= 0xEF or code == 0xFE):
            header.encoded.append(data[place : place + 2 + length])
        place += 2 + length
    if not header.frame:
        raise source.damaged("it has no frame")
    header.encoded = [b"\xff\xd8", *header.encoded, data[place:]]
    return header


def _take(header: _Header, code: int, payload: bytes) -> None:
    """Sort one segment into the header."""
    if code in _STARTS and len(payload) >= 6:
        header.frame = code
        header.height, header.width, header.components = struct.unpack(">HHB", payload[1:6])
    elif code == 0xE0:
        if payload[:5] == b"JFIF\0" and len(payload) >= 12:
            header.density = struct.unpack(">BHH", payload[7:12])
    elif code in (0xE1, 0xE2):
        _take_described(header, code, payload)
    elif code == 0xEB and b"jumb" in payload[:32]:
        header.dropped.append("the content credential (C2PA)")
    elif code == 0xED and payload.startswith(exif.PHOTOSHOP):
        resources = exif.photoshop_without_thumbnail(payload[len(exif.PHOTOSHOP) :])
        header.others.append((code, exif.PHOTOSHOP + resources))
    elif code == 0xFE or (0xE3 <= code <= 0xEF and code != 0xEE):  # Adobe's is the encoder's
        header.others.append((code, payload))


def _take_described(header: _Header, code: int, payload: bytes) -> None:
    """Sort an APP1 or APP2 segment, which says by its first bytes what it is."""
    if code == 0xE1 and payload.startswith(_EXIF):
        header.exif = header.exif or payload[len(_EXIF) :]
    elif code == 0xE1 and payload.startswith(_XMP):
        header.xmp = header.xmp or payload[len(_XMP) :]
        if b"MotionPhoto" in payload or b"MicroVideo" in payload:
            header.dropped.append("the motion video behind the picture")
    elif code == 0xE1 and payload.startswith(_EXTENDED_XMP):
        header.dropped.append("extended XMP (depth or embedded pictures)")
    elif code == 0xE2 and payload.startswith(_ICC):
        header.icc.append(payload[len(_ICC) + 2 :])
    elif code == 0xE2 and payload.startswith(b"MPF\0"):
        header.dropped.append("the further pictures in the file (gain map, preview or stereo)")
    else:
        header.others.append((code, payload))


def _details(image: JpegImagePlugin.JpegImageFile, header: _Header, turn: int) -> JpegDetails:
    subsampling = JpegImagePlugin.get_sampling(image)
    if subsampling < 0 or (subsampling == 1 and turn >= 5):
        subsampling = 0  # 4:4:0 and the like, which the encoder does not know: keep all the colour
    tables = [tuple(image.quantization[layer[3]]) for layer in image.layer]
    density = header.density
    if turn >= 5:  # the tables are turned with the picture, as jpegtran does
        tables = [tuple(t[8 * (i % 8) + i // 8] for i in range(64)) for t in tables]
        density = density and (density[0], density[2], density[1])
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables.pop()  # the encoder repeats the last one
    return JpegDetails(
        tables=tuple(tables),
        subsampling=subsampling,
        progressive=bool(image.info.get("progressive")),
        stores_rgb=header.components == 3 and _stores_rgb(image),
        density=density,
        segments=tuple(header.others),
    )


def _stores_rgb(image: JpegImagePlugin.JpegImageFile) -> bool:
    """Follow libjpeg: JFIF means YCbCr, then Adobe's flag counts, then the names of components."""
    if "jfif" in image.info:
        return False
    if "adobe_transform" in image.info:
        return image.info["adobe_transform"] == 0
    return [layer[0] for layer in image.layer] == [82, 71, 66]


def _dpi(density: tuple[int, int, int] | None) -> tuple[float, float] | None:
    unit = {1: 1.0, 2: 2.54}.get(density[0]) if density else None
    return (density[1] * unit, density[2] * unit) if density and unit else None


def write(file: BinaryIO, picture: Picture) -> None:
    """Encode a picture of 8 bits without alpha."""
    metadata = picture.metadata
    details = metadata.details if isinstance(metadata.details, JpegDetails) else None
    if max(picture.size) > 65500:
        raise PictureError(
            f"JPEG cannot hold {picture.width} x {picture.height} px; name the output .png"
        )
    if picture.native is not None:
        image = Image.fromarray(cmyk.native_of(picture), "CMYK")
    else:
        image = bands.to_image(picture.pixels)
    segments = _segments(metadata, details)
    if details is None:
        image.save(file, "JPEG", quality=_QUALITY, subsampling=0, extra=segments)
    else:
        image.save(
            file,
            "JPEG",
            qtables=[list(table) for table in details.tables],
            subsampling=details.subsampling,
            progressive=details.progressive,
            keep_rgb=details.stores_rgb,
            extra=segments,
        )
    _set_density(file, metadata, details)


def _set_density(file: BinaryIO, metadata: Metadata, details: JpegDetails | None) -> None:
    """Write the exact density into the JFIF header, where there is one: it opens the file."""
    density = details.density if details else None
    if details is None and metadata.dpi:
        across, down = (min(65535, round(value)) for value in metadata.dpi)
        density = (1, across, down)
    file.seek(6)
    if density and file.read(5) == b"JFIF\0":
        file.seek(13)
        file.write(struct.pack(">BHH", *density))
    file.seek(0, 2)


def _segments(metadata: Metadata, details: JpegDetails | None) -> bytes:
    """Lay out all metadata as segments."""
    parts = []
    if metadata.exif:
        parts.append((0xE1, _EXIF + metadata.exif))
    if metadata.xmp:
        parts.append((0xE1, _XMP + metadata.xmp))
    if metadata.icc:
        room = _LONGEST - len(_ICC) - 2
        pieces = [metadata.icc[i : i + room] for i in range(0, len(metadata.icc), room)]
        if len(pieces) < 256:
            parts += [
                (0xE2, _ICC + bytes((number, len(pieces))) + piece)
                for number, piece in enumerate(pieces, 1)
            ]
    if details:
        parts += details.segments
    else:
        parts += [(0xFE, text.encode()) for key, text in metadata.text if key == "Comment"]
    kept = [(code, payload) for code, payload in parts if len(payload) <= _LONGEST]
    if len(kept) < len(parts):
        notice("JPEG cannot hold metadata over 64 kB; a block of it is left out")
    return b"".join(
        struct.pack(">BBH", 0xFF, code, len(payload) + 2) + payload for code, payload in kept
    )
