"""PNG of every kind: 1 to 16 bits, grey, palette, alpha. Ancillary chunks are kept as they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from retouch.pictures import bands, depth, exif, palette
from retouch.pictures.picture import Metadata, Picture, PngDetails, notice
from retouch.pictures.source import MAX_METADATA, Source

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp\0"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
_ZLIB_RATIO = 1032  # deflate's limit, zlib.net/zlib_tech.html
_LEVEL = 3  # higher ones cost twice the time for a few per cent of the bytes
_AT_ONCE = 1 << 27  # bytes of samples that libdeflate packs in one piece; more go through libpng
_UP = 2  # filter type: difference to the row above (PNG, Sec. 9.2)
_COLOUR_TYPES = {channels: kind for kind, channels in _CHANNELS.items() if kind != 3}
# Chunks whose content depends on how the pixels are stored, and those that show the old picture.
_COLOUR_BOUND = (b"bKGD", b"hIST", b"sBIT")
_DROPPED = (b"PLTE", b"tRNS", b"IDAT", b"IEND", b"IHDR", b"caBX", b"iDOT")
_COPIED_THOUGH_UNSAFE = (b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sBIT")
_COPIED_THOUGH_UNSAFE += (b"bKGD", b"hIST", b"oFFs", b"pCAL", b"sCAL", b"tIME", b"mDCv", b"cLLi")


def read(source: Source) -> Picture:
    """Decode a PNG upright."""
    data = source.data
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise source.damaged("it does not begin with a header")
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    source.check_size(width, height, _ZLIB_RATIO * 8 / max(1, bits * _CHANNELS.get(colour, 1)))
    kept, block, packet = [], None, None
    colours, opacities, place, ended = b"", b"", 0, False
    for kind, payload in _chunks(source):
        if kind == b"acTL" and payload[:4] > b"\0\0\0\1":
            raise source.refuse("this is an animation (APNG); save the frame you want as a PNG")
        place = {b"PLTE": 1, b"IDAT": 2}.get(kind, place)
        ended = ended or kind == b"IEND"
        colours = payload if kind == b"PLTE" else colours
        opacities = payload if kind == b"tRNS" else opacities
        if kind == b"caBX":
            notice(
                f"{source.path}: the content credential (C2PA) is left out, "
                "since it is of the picture before the edit"
            )
        elif kind == b"eXIf":
            block = payload
        elif kind == b"iTXt" and payload.startswith(_XMP):
            packet = _international(payload)
        elif _is_copied(kind):
            kept.append((place, kind, payload))
    samples = imagecodecs.png_decode(data)
    turn = exif.orientation(block)
    pixels, alpha = bands.split(bands.oriented(samples, turn))
    metadata = Metadata(
        format="PNG",
        mode={0: "grey", 3: "palette", 4: "grey"}.get(colour, "rgb"),
        bits=bits,
        orientation=turn,
        exif=block and exif.upright(block),
        icc=_profile(kept),
        xmp=packet and exif.upright_xmp(packet, turn > 1),
        dpi=_dpi(kept, turn),
        text=tuple(_texts(kept)),
        palette=_palette(colours, opacities) if colour == 3 else None,
        details=PngDetails(colour=colour, chunks=tuple(_turned(kept, turn))),
    )
    return Picture(pixels=pixels, alpha=alpha, metadata=metadata)


def _chunks(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and payload of each chunk; the payload of IDAT is left empty."""
    data, place, room = source.data, 8, MAX_METADATA
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        end = place + 8 + size
        if end + 4 > len(data):
            raise source.damaged(f"it ends in the middle of its {kind.decode('latin-1')!r} chunk")
        payload = b""
        if kind != b"IDAT" and size <= room:
            payload = data[place + 8 : end]
            room -= size
        elif kind != b"IDAT":
            notice(f"{source.path}: {size >> 20} MiB of metadata are left out")
            kind = b"\0\0\0\0"
        yield kind, payload
        if kind == b"IEND":
            return
        place = end + 4


def _is_copied(kind: bytes) -> bool:
    """Known chunks hold; of unknown ones the fourth letter says whether they may be copied."""
    return kind not in _DROPPED and (kind in _COPIED_THOUGH_UNSAFE or bool(kind[3] & 32))


def _inflate(data: bytes) -> bytes:
    """Inflate metadata, but no bomb."""
    try:
        return zlib.decompressobj().decompress(data, MAX_METADATA)
    except zlib.error:
        return b""


def _profile(chunks: Iterable[tuple[int, bytes, bytes]]) -> bytes | None:
    for _, kind, payload in chunks:
        if kind == b"iCCP":
            return _inflate(payload.partition(b"\0")[2][1:]) or None
    return None


def _dpi(chunks: Iterable[tuple[int, bytes, bytes]], turn: int) -> tuple[float, float] | None:
    for _, kind, payload in chunks:
        if kind == b"pHYs" and len(payload) == 9:
            across, down, unit = struct.unpack(">IIB", payload)
            if unit == 1:
                dpi = (across * 0.0254, down * 0.0254)
                return (dpi[1], dpi[0]) if turn >= 5 else dpi
    return None


def _turned(
    chunks: Iterable[tuple[int, bytes, bytes]], turn: int
) -> Iterator[tuple[int, bytes, bytes]]:
    for place, kind, payload in chunks:
        if kind == b"pHYs" and turn >= 5:
            payload = payload[4:8] + payload[:4] + payload[8:]
        yield place, kind, payload


def _texts(chunks: Iterable[tuple[int, bytes, bytes]]) -> Iterator[tuple[str, str]]:
    for _, kind, payload in chunks:
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        key, _, rest = payload.partition(b"\0")
        encoding = "latin-1"
        if kind == b"zTXt":
            rest = _inflate(rest[1:])
        elif kind == b"iTXt":
            rest, encoding = _international(payload), "utf-8"
        yield key.decode("latin-1"), rest.decode(encoding, "replace")


def _international(payload: bytes) -> bytes:
    """Take the text of an iTXt chunk; keyword, flag, method, language, translation precede it."""
    rest = payload.partition(b"\0")[2]
    text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return _inflate(text) if rest[:1] == b"\1" else text


def _palette(colours: bytes, opacities: bytes) -> NDArray[np.uint8]:
    count = len(colours) // 3
    table = np.full((count, 4), 255, dtype=np.uint8)
    table[:, :3] = np.frombuffer(colours[: 3 * count], np.uint8).reshape(count, 3)
    known = min(len(opacities), count)
    table[:known, 3] = np.frombuffer(opacities[:known], np.uint8)
    return table


def write(file: BinaryIO, picture: Picture) -> None:
    """Encode a picture; a palette picture stays one while all its colours are in the palette."""
    metadata = picture.metadata
    encoded = _as_palette(picture) or _as_few_bits(picture)
    if encoded is None:
        planes = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha]
        samples = bands.merged(planes)
        encoded = _deflated(samples) if samples.nbytes <= _AT_ONCE else _streamed(samples)
    header, table, body = encoded
    if isinstance(metadata.details, PngDetails):
        same = header[17] == metadata.details.colour  # colour type in the header chunk
        kept = [chunk for chunk in metadata.details.chunks if same or chunk[1] not in _COLOUR_BOUND]
    else:
        kept = list(_new_chunks(metadata))
    kept += _shared_chunks(metadata)
    file.write(_SIGNATURE + header)
    for wanted, following in ((0, table), (1, body), (2, _chunk(b"IEND", b""))):
        for place, kind, payload in kept:
            if place == wanted:
                file.write(_chunk(kind, payload))
        file.write(following)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(payload, zlib.crc32(kind))
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc)


def _deflated(samples: NDArray[Any]) -> tuple[bytes, bytes, bytes]:
    """Encode (h, w) or (h, w, c) samples by libdeflate: a third of libpng's time for photos."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    bits = 8 * samples.itemsize
    header = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPES[channels], 0, 0, 0)
    if bits == 16:
        samples = samples.astype(">u2")
    rows = samples.reshape(height, -1).view(np.uint8)
    packed = bytearray(height * (rows.shape[1] + 1))
    filtered = np.frombuffer(packed, np.uint8).reshape(height, -1)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    body = imagecodecs.deflate_encode(packed, _LEVEL, raw=False)
    return _chunk(b"IHDR", header), b"", _chunk(b"IDAT", bytes(body))


def _streamed(samples: NDArray[Any]) -> tuple[bytes, bytes, memoryview]:
    """Encode by libpng, which needs no second array as large as the picture."""
    encoded = imagecodecs.png_encode(samples, _LEVEL)
    return bytes(encoded[8:33]), b"", memoryview(encoded)[33:-12]


def _as_palette(picture: Picture) -> tuple[bytes, bytes, bytes] | None:
    metadata = picture.metadata
    if metadata.palette is None or picture.is_grey or picture.pixels.dtype != np.uint8:
        return None
    found = palette.indices(picture.pixels, picture.alpha, metadata.palette)
    if found is None:
        notice("the palette has no room for the new colours; the picture is stored as RGB")
        return None
    colours = _chunk(b"PLTE", metadata.palette[:, :3].tobytes())
    opacities = metadata.palette[:, 3].tobytes().rstrip(b"\xff")
    if opacities:
        colours += _chunk(b"tRNS", opacities)
    return _packed(found, metadata.bits, 3, colours)


def _as_few_bits(picture: Picture) -> tuple[bytes, bytes, bytes] | None:
    bits = picture.metadata.bits
    if bits >= 8 or picture.metadata.palette is not None or picture.alpha is not None:
        return None
    if not picture.is_grey or picture.pixels.dtype != np.uint8:
        return None
    return _packed(depth.levels(picture.pixels, bits), bits, 0, b"")


def _packed(
    values: NDArray[np.uint8], bits: int, colour: int, table: bytes
) -> tuple[bytes, bytes, bytes]:
    """Encode (h, w) values of 1 to 8 bits, unfiltered as the specification advises (Sec. 12.7)."""
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    stream, body = zlib.compressobj(6), bytearray()
    rows = max(1, (1 << 20) // width)
    for top in range(0, height, rows):
        packed = depth.pack_bits(values[top : top + rows], bits)
        body += stream.compress(np.pad(packed, ((0, 0), (1, 0))).tobytes())
    body += stream.flush()
    return _chunk(b"IHDR", header), table, _chunk(b"IDAT", bytes(body))


def _shared_chunks(metadata: Metadata) -> Iterator[tuple[int, bytes, bytes]]:
    if metadata.exif:
        yield 0, b"eXIf", metadata.exif
    if metadata.xmp:
        yield 0, b"iTXt", _XMP + b"\0\0\0\0" + metadata.xmp


def _new_chunks(metadata: Metadata) -> Iterator[tuple[int, bytes, bytes]]:
    """Say in chunks what a picture from another format brought along."""
    if metadata.icc:
        yield 0, b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        across, down = (round(value / 0.0254) for value in metadata.dpi)
        yield 0, b"pHYs", struct.pack(">IIB", across, down, 1)
    for key, text in metadata.text:
        keyword = key.encode("latin-1", "replace")[:79] or b"Comment"
        yield 0, b"iTXt", keyword + b"\0\0\0\0\0" + text.encode()
