"""TIFF of 1, 8 and 16 bits: grey, RGB, palette and CMYK, with all tags that still hold."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from retouch.pictures import bands, cmyk, depth, exif, ifd, palette
from retouch.pictures.ifd import Entry, Layout
from retouch.pictures.picture import Metadata, Picture, TiffDetails, notice
from retouch.pictures.source import MAX_METADATA, Source

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _KIND = 254, 258, 259, 262, 277, 339
_ORIENTATION, _ACROSS, _DOWN, _UNIT, _PREDICTOR, _COLOURS = 274, 282, 283, 296, 317, 320
_EXTRA, _XMP, _ICC, _PHOTOSHOP, _LAYERS, _SUB_PICTURES, _DNG = (
    338,
    700,
    34675,
    34377,
    37724,
    330,
    50706,
)
# Tags about the layout of the pixels, which the encoder writes, and places of other pictures.
_LAYOUT = {
    *range(254, 267),
    273,
    *range(277, 282),
    284,
    *range(288, 294),
    317,
    *range(320, 327),
    330,
}
_LAYOUT |= {338, 339, 340, 341, 347, *range(512, 522), *range(529, 533), 37724}
# Tags of the first directory that EXIF knows too (CIPA DC-008, Table 4).
_EXIF_TAGS = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853}
_LOSSLESS = {1: None, 5: 5, 8: 8, 32946: 8, 32773: 32773, 34925: 34925, 50000: 50000}
_PHOTOMETRICS = {0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "cmyk", 6: "rgb"}
_CHANNELS = {"grey": 1, "rgb": 3, "palette": 1, "cmyk": 4}
_JPEG = 7
# Most bytes from one byte: stored, LZW (codes of at least 9 bits for at most 4096 bytes), deflate.
_RATIOS = {1: 1, 5: 4096, 8: 1032, 32946: 1032}


@dataclass(frozen=True)
class _Directory:
    """The first directory, as numbers."""

    form: Layout
    entries: list[Entry]

    def numbers(self, code: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        for entry in self.entries:
            if entry.code == code:
                return self.form.integers(entry) or default
        return default

    def number(self, code: int, default: int = 0) -> int:
        return self.numbers(code, (default,))[0]

    def raw(self, code: int) -> bytes | None:
        for entry in self.entries:
            if entry.code == code and len(entry.value) <= MAX_METADATA:
                return entry.value
        return None


def read(source: Source) -> Picture:
    """Decode the picture of a TIFF upright."""
    form, place = ifd.layout(source.data)
    entries, _, following = ifd.parse(source.data, form, place)
    first = _Directory(form, entries)
    _check_kind(source, first)
    _check_pages(source, form, following, place)
    mode, bits = _check_samples(source, first)
    turn = exif.orientation_of(entries, form)
    samples = _decode(source, mode, bits)
    samples = bands.oriented(samples, turn)
    icc, packet = first.raw(_ICC), first.raw(_XMP)
    table = _palette(first.numbers(_COLOURS)) if mode == "palette" else None
    native = None
    if mode == "cmyk":
        native, samples = samples, cmyk.to_rgb(samples, icc)
    elif table is not None:
        samples = table[:, :3][np.minimum(samples, len(table) - 1)]
    elif first.number(_PHOTOMETRIC) == 0:
        samples = _inverted(samples)
    pixels, alpha = bands.split(samples)
    kept = tuple(_kept(source, first, turn))
    metadata = Metadata(
        format="TIFF",
        mode=mode,
        bits=bits,
        orientation=turn,
        exif=_block(kept, form),
        icc=icc,
        xmp=packet and exif.upright_xmp(packet, turn > 1),
        dpi=_dpi(first, turn),
        palette=table,
        details=_details(first, kept, bits),
    )
    return Picture(pixels=pixels, alpha=alpha, metadata=metadata, native=native)


def _check_kind(source: Source, first: _Directory) -> None:
    """Refuse camera raw files: their first picture is only a preview."""
    if source.data[8:10] == b"CR" or first.numbers(_DNG) or first.number(_SUBFILE) & 1:
        raise source.refuse(
            "this is a camera raw file or a preview; develop it to a TIFF or PNG first"
        )
    if first.numbers(_SUB_PICTURES):
        notice(f"{source.path}: the smaller copies inside the file are left out")
    if any(entry.code == _LAYERS for entry in first.entries):
        notice(
            f"{source.path}: Photoshop layers are left out, "
            "since they show the picture before the edit"
        )


def _check_pages(source: Source, form: Layout, following: int, place: int) -> None:
    """Refuse several pages; a preview or mask on the later ones is dropped."""
    seen, previews, pages = {place}, 0, 1
    while following and following not in seen and len(seen) < 10_000:
        seen.add(following)
        entries, _, following = ifd.parse(source.data, form, following, depth=0)
        if _Directory(form, entries).number(_SUBFILE) & 5:
            previews += 1
        else:
            pages += 1
    if pages > 1:
        raise source.refuse(f"it has {pages} pages; save the one you want as a file of its own")
    if previews:
        notice(f"{source.path}: the preview or mask inside the file is left out")


def _check_samples(source: Source, first: _Directory) -> tuple[str, int]:
    """Check that the samples are of a kind we repair; return mode and bits."""
    all_bits, count = first.numbers(_BITS, (1,)), first.number(_SAMPLES, 1)
    kinds, photometric = first.numbers(_KIND, (1,)), first.number(_PHOTOMETRIC, -1)
    compression = first.number(_COMPRESSION, 1)
    ratio = _RATIOS.get(compression, float("inf"))
    source.check_size(
        first.number(256), first.number(257), ratio * 8 / max(1, sum(all_bits), all_bits[0] * count)
    )
    mode, bits = _PHOTOMETRICS.get(photometric), all_bits[0]
    names = {1: "integer", 2: "signed integer", 3: "floating-point"}
    if set(kinds) != {1}:
        what = names.get(kinds[0], "unknown")
        raise source.refuse(f"its samples are {bits}-bit {what}; convert it to 8 or 16 bits")
    if len(set(all_bits)) > 1 or bits not in (1, 2, 4, 8, 16) or (mode == "cmyk" and bits != 8):
        raise source.refuse(
            f"{'/'.join(map(str, all_bits))} bits a sample; convert it to 8 or 16 bits"
        )
    if mode is None or (photometric == 6 and compression != _JPEG):
        raise source.refuse(
            f"its colour model (photometric {photometric}) is unknown; convert it to RGB"
        )
    extra = count - _CHANNELS[mode]
    if extra not in (0, 1) or (extra and mode in ("palette", "cmyk")):
        raise source.refuse(f"it has {count} samples a pixel; convert it to grey, RGB or RGBA")
    for places, lengths in ((273, 279), (324, 325)):
        for start, length in zip(first.numbers(places), first.numbers(lengths), strict=False):
            if length < 1 or start + length > len(source.data):
                raise source.damaged("its pixels end beyond the file or are missing")
    return mode, bits


def _decode(source: Source, mode: str, bits: int) -> NDArray[Any]:
    """Let tifffile decode the first page as (h, w[, c]) samples; 1 to 4 bits are scaled to 8."""
    with tifffile.TiffFile(source.path, is_ome=False) as file:
        page = file.pages[0].aspage()
        samples = page.asarray().reshape(page.shaped)[:, 0]  # (planes, h, w, interleaved)
    samples = np.moveaxis(samples[..., 0], 0, 2) if len(samples) > 1 else samples[0]
    if samples.shape[2] == 1:
        samples = samples[..., 0]
    if bits < 8:
        samples = samples.astype(np.uint8)
        return samples if mode == "palette" else samples * np.uint8(255 // ((1 << bits) - 1))
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def _palette(values: tuple[int, ...]) -> NDArray[np.uint8]:
    """Turn the 16-bit colour table, reds first, into (n, 4) RGBA."""
    count = len(values) // 3
    wide = np.array(values[: 3 * count], dtype=np.uint16).reshape(3, count).T
    table = np.full((count, 4), 255, dtype=np.uint8)
    table[:, :3] = wide if wide.max(initial=0) < 256 else wide >> 8  # some writers forget to scale
    return table


def _inverted(samples: NDArray[Any]) -> NDArray[Any]:
    """Turn grey where 0 is white around, in place; not the alpha beside it."""
    grey = samples if samples.ndim == 2 else samples[..., 0]
    np.subtract(np.iinfo(samples.dtype).max, grey, out=grey)
    return samples


def _kept(source: Source, first: _Directory, turn: int) -> Iterable[Entry]:
    """Yield the tags that describe the picture, set upright."""
    sides = {_ACROSS: _DOWN, _DOWN: _ACROSS} if turn >= 5 else {}
    present = {entry.code: entry for entry in first.entries}
    for entry in present.values():
        if entry.code in _LAYOUT:
            continue
        if len(entry.value) > MAX_METADATA:
            notice(f"{source.path}: {len(entry.value) >> 20} MiB of metadata are left out")
        elif entry.code == _ORIENTATION:
            yield replace(entry, type=3, count=1, value=struct.pack(first.form.order + "H", 1))
        elif entry.code in (_XMP, _PHOTOSHOP):
            value = (
                exif.upright_xmp(entry.value, turn > 1)
                if entry.code == _XMP
                else exif.photoshop_without_thumbnail(entry.value)
            )
            yield replace(entry, type=7 if entry.type == 7 else 1, count=len(value), value=value)
        elif sides.get(entry.code) in present:
            yield replace(present[sides[entry.code]], code=entry.code)
        else:
            yield entry


def _block(entries: Iterable[Entry], form: Layout) -> bytes | None:
    """Make an EXIF block of the tags that EXIF knows, for files of other formats."""
    known = [entry for entry in entries if entry.code in _EXIF_TAGS]
    if not known:
        return None
    plain = Layout(form.order)
    head = {"<": b"II", ">": b"MM"}[form.order] + struct.pack(form.order + "HI", 42, 8)
    return head + ifd.serialise(known, plain, len(head))


def _dpi(first: _Directory, turn: int) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(first.number(_UNIT, 2))
    values = []
    for entry in first.entries:
        if entry.code in (_ACROSS, _DOWN) and len(entry.value) == 8:
            above, below = struct.unpack(first.form.order + "II", entry.value)
            values.append(above / below if below else 0.0)
    if unit is None or len(values) != 2 or min(values) <= 0:
        return None
    across, down = values[::-1] if turn >= 5 else values
    return across * unit, down * unit


def _details(first: _Directory, kept: tuple[Entry, ...], bits: int) -> TiffDetails:
    compression, predictor = first.number(_COMPRESSION, 1), first.number(_PREDICTOR, 1)
    photometric = first.number(_PHOTOMETRIC)
    tile = (first.number(323), first.number(322)) if first.numbers(322) else None
    return TiffDetails(
        byteorder=first.form.order,
        big=first.form.big,
        compression=compression,
        predictor=predictor if predictor == 2 and bits >= 8 else 1,
        photometric=2 if photometric == 6 else photometric,
        alpha_kind=first.number(_EXTRA, 2),
        tile=tile if tile and not (tile[0] % 16 or tile[1] % 16) else None,
        entries=kept,
    )


def write(file: BinaryIO, picture: Picture) -> None:
    """Encode a picture with the compression it had; a lossy compression becomes deflate."""
    metadata = picture.metadata
    details = metadata.details
    if not isinstance(details, TiffDetails):
        details = _new_details(metadata, picture)
    compression = details.compression
    if compression not in _LOSSLESS:
        notice(f"TIFF compression {compression} is written as deflate, which loses nothing")
    samples, options = _encoded(picture, details)
    tifffile.imwrite(
        file,
        samples,
        byteorder=details.byteorder,
        bigtiff=details.big or None,
        compression=_LOSSLESS.get(compression, 8),
        predictor=2 if details.predictor == 2 and compression in (5, 8, 32946, 50000) else None,
        tile=details.tile,
        metadata=None,
        software=False,
        **options,
    )
    _rewrite_directory(file, details)


def _new_details(metadata: Metadata, picture: Picture) -> TiffDetails:
    """Say in tags what a picture from another format brought along."""
    form, entries = Layout("<"), []
    if metadata.exif:
        try:
            form, place = ifd.layout(metadata.exif)
            entries = [e for e in ifd.parse(metadata.exif, form, place)[0] if e.code not in _LAYOUT]
        except ValueError:
            notice("the damaged EXIF of the picture is left out")
    present = {entry.code for entry in entries}
    if metadata.dpi and _ACROSS not in present:
        for code, value in zip((_ACROSS, _DOWN), metadata.dpi, strict=True):
            ratio = struct.pack(form.order + "II", round(value * 1000), 1000)
            entries.append(Entry(code, 5, 1, ratio))
        entries.append(Entry(_UNIT, 3, 1, struct.pack(form.order + "H", 2)))
    if metadata.text and 270 not in present:
        text = "\n".join(text for _, text in metadata.text).encode() + b"\0"
        entries.append(Entry(270, 2, len(text), text))
    for code, value in ((_ICC, metadata.icc), (_XMP, metadata.xmp)):
        if value:
            entries.append(Entry(code, 7 if code == _ICC else 1, len(value), value))
    photometric = 1 if picture.is_grey else 2
    if picture.native is not None:
        photometric = 5
    elif metadata.palette is not None and (metadata.palette[:, 3] == 255).all():
        photometric = 3
    return TiffDetails(
        byteorder=form.order, predictor=2, photometric=photometric, entries=tuple(entries)
    )


def _encoded(picture: Picture, details: TiffDetails) -> tuple[NDArray[Any], Mapping[str, Any]]:
    """Choose the samples to store and how tifffile is to label them."""
    metadata, photometric = picture.metadata, details.photometric
    if picture.native is not None:
        return cmyk.native_of(picture), {"photometric": "separated"}
    table = metadata.palette
    if table is not None and photometric == 3 and picture.alpha is None:
        found = palette.indices(picture.pixels, None, table)
        if found is not None:
            colours = np.zeros((3, 256), dtype=np.uint16)
            colours[:, : len(table)] = table[:, :3].T * np.uint16(257)
            return found, {"photometric": "palette", "colormap": colours}
        notice("the palette has no room for the new colours; the picture is stored as RGB")
    if not picture.is_grey:
        planes = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha]
        return bands.merged(planes), _labels("rgb", picture, details)
    grey = picture.pixels
    if metadata.bits == 1 and picture.alpha is None and grey.dtype == np.uint8:
        bits = depth.levels(grey, 1).astype(bool)
        return (~bits, {"photometric": 0}) if photometric == 0 else (bits, {"photometric": 1})
    if photometric == 0:
        grey = _inverted(grey.copy())
    planes = [grey] if picture.alpha is None else [grey, picture.alpha]
    return bands.merged(planes), _labels(0 if photometric == 0 else 1, picture, details)


def _labels(photometric: str | int, picture: Picture, details: TiffDetails) -> dict[str, Any]:
    labels: dict[str, Any] = {"photometric": photometric, "planarconfig": None}
    if picture.alpha is not None:
        labels["extrasamples"] = (details.alpha_kind,)
    if not picture.is_grey or picture.alpha is not None:
        labels["planarconfig"] = 1
    return labels


def _rewrite_directory(file: BinaryIO, details: TiffDetails) -> None:
    """Append a directory with the picture's own tags beside the layout; point the header to it."""
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        form, place = ifd.layout(data)
        written = [e for e in ifd.parse(data, form, place, depth=0)[0] if e.code in _LAYOUT]
    codes = {entry.code for entry in written}
    kept = [entry for entry in details.entries if entry.code not in codes]
    end = file.seek(0, 2)
    file.write(b"\0" * (end % 2))
    place = end + end % 2
    file.write(ifd.serialise([*written, *kept], form, place))
    if form.big:
        file.seek(8)
        file.write(struct.pack(form.order + "Q", place))
    else:
        file.seek(4)
        file.write(struct.pack(form.order + "I", place))
    file.seek(0, 2)
