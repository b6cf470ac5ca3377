"""Reads TensorFlow 1 checkpoints (V2: `NAME.index`, `NAME.data-00000-of-00001`) without TensorFlow.

The index is a sorted string table as LevelDB writes it: blocks of prefix-compressed keys, a footer
with a magic number. Its values are protocol buffers that say where in the data files each tensor
lies. Nothing in either file is code, and every number read is checked against the files' sizes and
CRC-32C sums before it is used.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retouch.weights.official import CheckpointError

__all__ = ["is_checkpoint", "read", "step"]

_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")  # leveldb/doc/table_format.md
_FOOTER = 48
_DTYPES: dict[int, torch.dtype] = {  # tensorflow/core/framework/types.proto
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    4: torch.uint8,
    5: torch.int16,
    6: torch.int8,
    9: torch.int64,
    10: torch.bool,
    14: torch.bfloat16,
    19: torch.float16,
}
_STRING = 7
_LANE = 1024
_LANES = 4096


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """Where one tensor lies (tensor_bundle.proto, BundleEntryProto)."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


@dataclass
class _Message:
    """Fields of one protocol buffer by number: integers and byte strings in file order."""

    integers: dict[int, int] = field(default_factory=dict[int, int])
    texts: dict[int, list[bytes]] = field(default_factory=dict[int, list[bytes]])


def is_checkpoint(path: str | Path) -> bool:
    """Whether `path` names a TensorFlow checkpoint: prefix, index or data file, or its folder."""
    try:
        return _index_path(Path(path)).is_file()
    except CheckpointError:
        return False


def step(path: str | Path) -> int | None:
    """Training step that a checkpoint's name ends with (`InpaintModel.model-2000`), or None."""
    found = re.search(r"-(\d+)\.index$", _index_path(Path(path)).name)
    return int(found[1]) if found else None


def read(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint.

    Args:
        path: The prefix (`model-2000`), the `.index` or a `.data-...` file, or a folder whose
            `checkpoint` file names the latest prefix.

    Returns:
        Variable name -> tensor in TensorFlow's layout (kernels HWIO), on the CPU. Text variables
        are left out.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or a data file is missing.
        CheckpointError: If it is damaged (sums are verified), compressed, split by slices or
            big-endian. One line, names the file.
    """
    index = _index_path(Path(path))
    if not index.is_file():
        raise FileNotFoundError(f"no TensorFlow checkpoint at {path}: {index} is missing")
    content = index.read_bytes()
    try:
        entries, shards = _entries(content)
    except (IndexError, ValueError) as error:
        raise CheckpointError(f"cannot read {index}: {error or 'it is damaged'}") from None
    prefix = str(index).removesuffix(".index")
    files = [Path(f"{prefix}.data-{n:05d}-of-{shards:05d}") for n in range(shards)]
    data = [np.memmap(file, np.uint8, "r") if file.stat().st_size else _EMPTY for file in files]
    state: dict[str, Tensor] = {}
    for name, entry in entries.items():
        if entry.dtype == _STRING:
            continue
        try:
            state[name] = _tensor(entry, data)
        except ValueError as error:
            raise CheckpointError(f"cannot read {name!r} of {prefix}: {error}") from None
    if not state:
        raise CheckpointError(f"cannot read {index}: it holds no tensor")
    return state


_EMPTY = np.zeros(0, np.uint8)


def _index_path(path: Path) -> Path:
    """Name of the index file, whichever of a checkpoint's names is given."""
    if path.is_dir():
        listing = path / "checkpoint"
        if not listing.is_file():
            raise CheckpointError(f"cannot read {path}: the folder has no `checkpoint` file")
        text = listing.read_text(encoding="utf-8", errors="replace")
        found = re.search(r'^model_checkpoint_path:\s*"([^"]+)"', text, re.MULTILINE)
        if found is None:
            raise CheckpointError(f"cannot read {listing}: it names no checkpoint")
        # It often holds a path of the machine that trained; the files lie beside it.
        path = path / re.split(r"[/\\]", found[1])[-1]
    name = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name)
    return path.with_name(f"{name}.index")


def _entries(content: bytes) -> tuple[dict[str, _Entry], int]:
    """Parse the index: tensors by name, and the number of data files."""
    if len(content) < _FOOTER or content[-8:] != _MAGIC:
        raise ValueError("it is no TensorFlow index (wrong magic number)")
    footer = content[-_FOOTER:-8]
    place = 0
    handle: list[int] = []
    for _ in range(4):  # offset and size of the meta-index block, then of the index block
        number, place = _varint(footer, place)
        handle.append(number)
    header: _Message | None = None
    entries: dict[str, _Entry] = {}
    for _, pointer in _block(content, handle[2], handle[3]):
        offset, place = _varint(pointer, 0)
        size, _ = _varint(pointer, place)
        for key, value in _block(content, offset, size):
            if key:
                entries[key.decode()] = _entry(_message(value))
            else:
                header = _message(value)
    if header is None:
        raise ValueError("its header is missing")
    if header.integers.get(2, 0) != 0:
        raise ValueError("it is big-endian, which is not read")
    shards = header.integers.get(1, 0)
    if not 1 <= shards <= 99999:
        raise ValueError(f"it claims {shards} data files")
    return entries, shards


def _entry(message: _Message) -> _Entry:
    if 7 in message.texts:
        raise ValueError("a variable is split into slices, which are not read")
    shape: list[int] = []
    for part in message.texts.get(2, []):
        for size in _message(part).texts.get(2, []):
            shape.append(_message(size).integers.get(1, 0))
    number = message.integers
    return _Entry(
        dtype=number.get(1, 0),
        shape=tuple(shape),
        shard=number.get(3, 0),
        offset=number.get(4, 0),
        size=number.get(5, 0),
        crc=number.get(6, 0),
    )


def _tensor(entry: _Entry, data: list[NDArray[np.uint8]]) -> Tensor:
    if entry.dtype not in _DTYPES:
        raise ValueError(f"its type has the unknown number {entry.dtype}")
    dtype = _DTYPES[entry.dtype]
    if entry.size != prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"{entry.size} bytes do not fill the shape {entry.shape}")
    if entry.shard >= len(data) or entry.offset + entry.size > len(data[entry.shard]):
        raise ValueError("it lies outside the data file, which is cut off or of another save")
    piece = np.array(data[entry.shard][entry.offset : entry.offset + entry.size])
    if _masked(_crc32c(piece)) != entry.crc:
        raise ValueError("its CRC-32C sum is wrong, the data file is damaged")
    if entry.size == 0:
        return torch.zeros(entry.shape, dtype=dtype)
    return torch.from_numpy(piece).view(dtype).reshape(entry.shape)


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block: each key repeats a prefix of the one before."""
    if offset + size + 5 > len(content) - _FOOTER:
        raise ValueError("a block lies outside the file")
    if content[offset + size]:
        raise ValueError("it is compressed, which TensorFlow never does by default")
    body = np.frombuffer(content[offset : offset + size + 1], np.uint8)
    tail = offset + size + 1
    if _masked(_crc32c(body)) != int.from_bytes(content[tail : tail + 4], "little"):
        raise ValueError("the CRC-32C sum of a block is wrong, it is damaged")
    block = content[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    if end < 0:
        raise ValueError("a block is malformed")
    place = 0
    key = b""
    while place < end:
        shared, place = _varint(block, place)
        fresh, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + fresh + length > end:
            raise ValueError("a block is malformed")
        key = key[:shared] + block[place : place + fresh]
        place += fresh
        yield key, block[place : place + length]
        place += length


def _message(content: bytes) -> _Message:
    """Split a protocol buffer into its fields."""
    message = _Message()
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            message.integers[number], place = _varint(content, place)
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            message.integers[number] = int.from_bytes(content[place : place + width], "little")
            place += width
        elif kind == 2:
            length, place = _varint(content, place)
            message.texts.setdefault(number, []).append(content[place : place + length])
            place += length
        else:
            raise ValueError(f"a protocol buffer has a field of kind {kind}")
        if place > len(content):
            raise ValueError("a protocol buffer is cut off")
    return message


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Number at `place`, seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise ValueError("it is cut off")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number has more than 64 bits")


def _masked(crc: int) -> int:
    """LevelDB stores sums rotated and shifted, so that a sum of sums stays meaningful."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table.astype(np.uint32)


_TABLE = _crc_table()
_BYTES: list[int] = _TABLE.tolist()


@cache
def _over_zeros() -> list[list[int]]:
    """What `_LANE` zero bytes make of a sum, for each value of each of its four bytes."""
    sums = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], np.uint32)
    for _ in range(_LANE):
        sums = _TABLE[sums & 0xFF] ^ (sums >> 8)
    return sums.tolist()


def _crc32c(content: NDArray[np.uint8]) -> int:
    """CRC-32C (Castagnoli). Long content is summed in lanes side by side, then joined.

    The sum is linear: that of A followed by B is that of A moved on over as many zero bytes as B
    has, xor that of B started at zero.
    """
    crc = 0xFFFFFFFF
    lanes = len(content) // _LANE
    for start in range(0, lanes, _LANES):
        piece = content[start * _LANE : min(start + _LANES, lanes) * _LANE].reshape(-1, _LANE)
        sums = np.zeros(len(piece), np.uint32)
        for column in np.ascontiguousarray(piece.T):
            sums = _TABLE[(sums ^ column) & 0xFF] ^ (sums >> 8)
        first, second, third, fourth = _over_zeros()
        for one in sums.tolist():
            moved = first[crc & 255] ^ second[crc >> 8 & 255] ^ third[crc >> 16 & 255]
            crc = moved ^ fourth[crc >> 24] ^ one
    for byte in content[lanes * _LANE :].tolist():
        crc = _BYTES[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
