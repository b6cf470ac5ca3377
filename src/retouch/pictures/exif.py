"""Set EXIF, XMP and Photoshop blocks upright: orientation 1, and no thumbnail of what was removed.

Blocks are patched in place and never written anew, because maker notes hold absolute offsets that
only their camera understands.
"""

from __future__ import annotations

import re
import struct

from retouch.pictures.ifd import Entry, Layout, layout, parse

_ORIENTATION, _EXIF = 274, 34665
_SIDES = ((_EXIF, 40962, 40963), (None, 282, 283))  # pixel dimensions, resolution
_THUMBNAILS = ((513, 514), (273, 279), (324, 325))  # offsets and lengths: JPEG, strips, tiles
_PHOTOSHOP_THUMBNAILS = (1033, 1036)
PHOTOSHOP = b"Photoshop 3.0\0"


def orientation(block: bytes | None) -> int:
    """Read the orientation [1, 8]; 1 where there is none or the block is damaged."""
    try:
        form, place = layout(block or b"")
        entries = parse(block or b"", form, place)[0]
        return orientation_of(entries, form)
    except ValueError:
        return 1


def orientation_of(entries: list[Entry], form: Layout) -> int:
    """Find the orientation [1, 8] among the tags of a directory; 1 where there is none."""
    for entry in entries:
        if entry.code == _ORIENTATION:
            values = form.integers(entry)
            return values[0] if len(values) == 1 and 1 <= values[0] <= 8 else 1
    return 1


def upright(block: bytes) -> bytes:
    """Patch an EXIF block: orientation 1, sides exchanged if it was turned, thumbnail wiped.

    A damaged block comes back as it is.
    """
    try:
        form, place = layout(block)
        entries, pointer, following = parse(block, form, place)
    except ValueError:
        return block
    patched = bytearray(block)
    turned = orientation_of(entries, form) >= 5
    for entry in entries:
        if entry.code == _ORIENTATION:
            one = struct.pack(form.order + ("H" if entry.type == 3 else "I"), 1)
            patched[entry.place : entry.place + len(entry.value)] = one[: len(entry.value)]
    if turned:
        for parent, first, second in _SIDES:
            _exchange(patched, entries, parent, first, second)
    if following:
        patched[pointer : pointer + form.pointer] = b"\0" * form.pointer
        patched = _wipe_thumbnail(patched, block, form, following)
    return bytes(patched)


def _exchange(patched: bytearray, entries: list[Entry], parent: int | None, a: int, b: int) -> None:
    """Swap the values of two tags of the same type."""
    for entry in entries:
        if entry.code == parent:
            entries = list(entry.children)
    found = {entry.code: entry for entry in entries if entry.code in (a, b)}
    if len(found) == 2 and found[a].type == found[b].type and found[a].count == found[b].count:
        for source, target in ((found[a], found[b]), (found[b], found[a])):
            patched[target.place : target.place + len(target.value)] = source.value


def _wipe_thumbnail(patched: bytearray, block: bytes, form: Layout, place: int) -> bytearray:
    """Overwrite the thumbnail of the second directory; cut it off where it ends the block."""
    try:
        entries = parse(block, form, place)[0]
    except ValueError:
        return patched
    values = {entry.code: form.integers(entry) for entry in entries}
    for offsets, lengths in _THUMBNAILS:
        for start, length in zip(values.get(offsets, ()), values.get(lengths, ()), strict=False):
            end = min(start + length, len(patched))
            if start < end:
                patched[start:end] = b"\0" * (end - start)
                if start + length >= len(block):
                    patched = patched[:start]
    return patched


def upright_xmp(packet: bytes, turned: bool) -> bytes:
    """Patch an XMP packet: orientation 1 if the picture was turned, thumbnails removed."""
    if turned:
        packet = re.sub(rb'(tiff:Orientation\s*=\s*["\'])[2-8](["\'])', rb"\g<1>1\g<2>", packet)
        packet = re.sub(rb"(<tiff:Orientation>\s*)[2-8](\s*<)", rb"\g<1>1\g<2>", packet)
    return re.sub(rb"<xmp:Thumbnails\b.*?</xmp:Thumbnails>", b"", packet, flags=re.DOTALL)


def photoshop_without_thumbnail(block: bytes) -> bytes:
    """Remove the thumbnails from a run of Photoshop resources; a damaged run loses its rest."""
    kept, place = bytearray(), 0
    while block[place : place + 4] == b"8BIM" and place + 12 <= len(block):
        code, name = struct.unpack(">HB", block[place + 4 : place + 7])
        header = place + 6 + (name + 2) // 2 * 2  # the name is padded to even length
        size = int.from_bytes(block[header : header + 4], "big")
        end = header + 4 + (size + 1) // 2 * 2
        if code not in _PHOTOSHOP_THUMBNAILS:
            kept += block[place:end]
        place = end
    return bytes(kept)
