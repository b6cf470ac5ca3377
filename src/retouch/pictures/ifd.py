"""Directories of TIFF structures, raw: EXIF blocks and TIFF files are made of them (TIFF 6.0)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

SUB_DIRECTORIES = (34665, 34853, 40965)
"""EXIF, GPS and interoperability: tags whose value is the place of another directory."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}  # IFD pointer, and BigTIFF's LONG8, SLONG8, IFD8
_MAX_ENTRIES = 4096


class Readable(Protocol):
    """Bytes, an array of bytes, or a mapped file."""

    def __getitem__(self, index: slice, /) -> bytes | bytearray: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Entry:
    """One tag with its value as it lies in the file."""

    code: int
    type: int
    count: int
    value: bytes
    """Raw, in the structure's byte order; empty for a sub-directory."""
    place: int = 0
    """Where the value lies in the structure it was read from [byte]."""
    children: tuple[Entry, ...] = ()
    """Entries of the sub-directory that this tag points to."""


@dataclass(frozen=True)
class Layout:
    """Byte order and width of the pointers."""

    order: Literal["<", ">"]
    big: bool = False

    @property
    def pointer(self) -> int:
        """Bytes of a pointer."""
        return 8 if self.big else 4

    def unpack(self, kind: str, data: Readable, place: int) -> tuple[int, ...]:
        """Read integers at a place.

        Raises:
            ValueError: If the place lies outside the data.
        """
        size = struct.calcsize(self.order + kind)
        piece = data[place : place + size] if place >= 0 else b""
        if len(piece) < size:
            raise ValueError(f"a directory points to byte {place} of {len(data)}")
        return struct.unpack(self.order + kind, piece)

    def integers(self, entry: Entry) -> tuple[int, ...]:
        """Decode the value of an entry of a whole type (BYTE, SHORT, LONG, LONG8, pointers)."""
        letter = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(entry.type)
        if letter is None:
            return ()
        return struct.unpack(
            f"{self.order}{len(entry.value) // _SIZES[entry.type]}{letter}", entry.value
        )


def layout(data: Readable) -> tuple[Layout, int]:
    """Read the header of a structure: its layout and the place of its first directory.

    Raises:
        ValueError: If this is no TIFF structure.
    """
    orders: dict[bytes, Literal["<", ">"]] = {b"II": "<", b"MM": ">"}
    order = orders.get(bytes(data[0:2]))
    if order is None or len(data) < 8:
        raise ValueError("no TIFF structure")
    plain = Layout(order)
    (magic,) = plain.unpack("H", data, 2)
    if magic == 43:
        big = Layout(order, big=True)
        return big, big.unpack("Q", data, 8)[0]
    if magic != 42:
        raise ValueError(f"no TIFF structure (version {magic})")
    return plain, plain.unpack("I", data, 4)[0]


def parse(data: Readable, form: Layout, place: int, depth: int = 2) -> tuple[list[Entry], int, int]:
    """Read a directory with its sub-directories.

    Returns:
        The entries, the place of the pointer to the next directory, and that pointer (0 = none).

    Raises:
        ValueError: If something points outside the data, or the directory is absurdly long.
    """
    (count,) = form.unpack("Q" if form.big else "H", data, place)
    if count > _MAX_ENTRIES:
        raise ValueError(f"a directory claims {count} entries")
    head, size = (8, 20) if form.big else (2, 12)
    entries = []
    for index in range(count):
        entry = _entry(data, form, place + head + index * size, depth)
        if entry is not None:
            entries.append(entry)
    end = place + head + count * size
    try:
        following = form.unpack("Q" if form.big else "I", data, end)[0]
    except ValueError:
        following = 0  # some writers leave the last pointer out
    return entries, end, following


def _entry(data: Readable, form: Layout, place: int, depth: int) -> Entry | None:
    code, kind, count = form.unpack("HHQ" if form.big else "HHI", data, place)
    unit = _SIZES.get(kind)
    if unit is None:
        return None  # TIFF 6.0: readers skip unknown types
    length = unit * count
    value_place = place + (12 if form.big else 8)
    if length > form.pointer:
        value_place = form.unpack("Q" if form.big else "I", data, value_place)[0]
    if value_place + length > len(data):
        raise ValueError(f"tag {code} points to byte {value_place + length} of {len(data)}")
    value = bytes(data[value_place : value_place + length])
    entry = Entry(code, kind, count, value, value_place)
    if code in SUB_DIRECTORIES and depth:
        target = form.integers(entry)
        if len(target) != 1:
            return None
        children = parse(data, form, target[0], depth - 1)[0]
        return Entry(code, 4, 1, b"", value_place, tuple(children))
    return entry


def serialise(entries: Iterable[Entry], form: Layout, place: int, following: int = 0) -> bytes:
    """Lay a directory out, with its values and sub-directories behind it.

    Args:
        entries: The tags, in any order.
        form: Byte order and pointer width.
        place: Where the directory will lie in the structure; even.
        following: Place of the next directory, 0 = none.
    """
    ordered = sorted(entries, key=lambda entry: entry.code)
    head, size = (8, 20) if form.big else (2, 12)
    table = bytearray(struct.pack(form.order + ("Q" if form.big else "H"), len(ordered)))
    behind = bytearray()
    start = place + head + len(ordered) * size + form.pointer
    letter = "Q" if form.big else "I"
    for entry in ordered:
        kind, count, value = entry.type, entry.count, entry.value
        if entry.children:
            target = start + len(behind)
            behind += serialise(entry.children, form, target)
            kind, count = (16, 1) if form.big else (4, 1)
            value = struct.pack(form.order + letter, target)
        elif len(value) > form.pointer:
            target = start + len(behind)
            behind += value + b"\0" * (len(value) % 2)
            value = struct.pack(form.order + letter, target)
        table += struct.pack(form.order + "HH" + letter, entry.code, kind, count)
        table += value.ljust(form.pointer, b"\0")
    table += struct.pack(form.order + letter, following)
    return bytes(table + behind)
