"""TensorFlow checkpoints: a real one, ones written here by the format's rules, and damaged ones."""

import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retouch.weights import tensorflow
from retouch.weights.official import CheckpointError

NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10, "float16": 19}


# -- a writer, for files TensorFlow itself was not at hand for ----------------------------------


def crc(content: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def text(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def block(pairs: Iterable[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    body, last = b"", b""
    for key, value in pairs:
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        fresh = key[shared:]
        body += varint(shared) + varint(len(fresh)) + varint(len(value)) + fresh + value
        last = key
    body += struct.pack("<II", 0, 1) + bytes([kind])
    return body + struct.pack("<I", crc(body))


def write(
    folder: Path,
    arrays: Mapping[str, NDArray[np.generic]],
    *,
    shards: int = 1,
    header: bytes | None = None,
    kind: int = 0,
    extra: bytes = b"",
) -> Path:
    """Write `model-7`: one block per two variables, variables dealt out to the data files."""
    data = [b"" for _ in range(shards)]
    pairs = [(b"", integer(1, shards) if header is None else header)]
    for n, (name, array) in enumerate(sorted(arrays.items())):
        raw, shard = array.tobytes(), n % shards
        shape = b"".join(text(2, integer(1, size)) for size in array.shape)
        entry = integer(1, NUMBERS[array.dtype.name]) + text(2, shape) + integer(3, shard)
        entry += integer(4, len(data[shard])) + integer(5, len(raw))
        entry += varint(6 << 3 | 5) + struct.pack("<I", crc(raw)) + extra
        data[shard] += raw
        pairs.append((name.encode(), entry))
    index, handles = b"", []
    for first in range(0, len(pairs), 2):
        written = block(pairs[first : first + 2], kind)
        handles.append((pairs[first][0] + b"~", varint(len(index)) + varint(len(written) - 5)))
        index += written
    places = []
    for written in (block([]), block(handles)):
        places.append(varint(len(index)) + varint(len(written) - 5))
        index += written
    index += b"".join(places).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / "model-7.index").write_bytes(index)
    for n, content in enumerate(data):
        (folder / f"model-7.data-{n:05d}-of-{shards:05d}").write_bytes(content)
    return folder / "model-7"


def arrays() -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(0)
    return {
        "net/kernel": rng.standard_normal((3, 3, 4, 8)).astype(np.float32),
        "net/kernel/Adam": rng.standard_normal((3, 3, 4, 8)),
        "net/bias": rng.standard_normal(8).astype(np.float16),
        "net/long": rng.integers(0, 99, 5000).astype(np.int32),
        "flag": np.array([True, False]),
        "global_step": np.array(123456789012),
        "empty": np.zeros((0, 3), np.float32),
    }


# -- reading ------------------------------------------------------------------------------------


def test_reads_the_real_checkpoint(parity: Any):
    folder = parity.folder / "tf1_checkpoint"
    shapes = parity.json("tf1_checkpoint.keys.json")
    state = tensorflow.read(folder)
    assert int(state.pop("global_step")) == 123456789012
    assert state.keys() == shapes.keys()
    for key, shape in shapes.items():
        np.testing.assert_array_equal(state[key].numpy(), parity.recipe.seeded(key, shape))
    assert tensorflow.step(folder) == 2000


@pytest.mark.parametrize("shards", [1, 3])
def test_reads_what_was_written(tmp_path: Path, shards: int):
    given = arrays()
    state = tensorflow.read(write(tmp_path, given, shards=shards))
    assert state.keys() == given.keys()
    for key, array in given.items():
        assert state[key].shape == array.shape
        assert torch.equal(state[key], torch.from_numpy(array.copy()))


@pytest.mark.parametrize("name", ["model-7", "model-7.index", "model-7.data-00000-of-00001", ""])
def test_every_name_of_a_checkpoint_will_do(tmp_path: Path, name: str):
    write(tmp_path, arrays())
    listing = 'model_checkpoint_path: "/somebody/elses/disk/model-7"\n'
    (tmp_path / "checkpoint").write_text(listing)
    assert tensorflow.is_checkpoint(tmp_path / name)
    assert "flag" in tensorflow.read(tmp_path / name)
    assert tensorflow.step(tmp_path / name) == 7


def test_texts_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(NUMBERS, "int32", 7)  # DT_STRING
    given = {"note": np.array([1, 2], np.int32), "kept": np.array([1.0], np.float32)}
    assert tensorflow.read(write(tmp_path, given)).keys() == {"kept"}


def test_sums_agree_with_the_definition():
    rng = np.random.default_rng(1)
    for size in (0, 1, 1023, 1024, 5000, 2 * 1024 + 1):
        content = rng.integers(0, 256, size, dtype=np.uint8)
        assert tensorflow._masked(tensorflow._crc32c(content)) == crc(content.tobytes())


def test_a_known_sum():
    """The check value that every catalogue of CRCs gives for CRC-32C."""
    assert tensorflow._crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283


# -- refusing -----------------------------------------------------------------------------------


def test_a_missing_checkpoint_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"model-9\.index is missing"):
        tensorflow.read(tmp_path / "model-9")
    with pytest.raises(CheckpointError, match="no `checkpoint` file"):
        tensorflow.read(tmp_path)
    assert not tensorflow.is_checkpoint(tmp_path)
    (tmp_path / "checkpoint").write_text("nothing")
    with pytest.raises(CheckpointError, match="names no checkpoint"):
        tensorflow.read(tmp_path)


def test_a_missing_data_file_is_named(tmp_path: Path):
    path = write(tmp_path, arrays(), shards=2)
    (tmp_path / "model-7.data-00001-of-00002").unlink()
    with pytest.raises(FileNotFoundError, match="00001-of-00002"):
        tensorflow.read(path)


def test_a_cut_data_file_is_refused(tmp_path: Path):
    path = write(tmp_path, arrays())
    data = tmp_path / "model-7.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="outside the data file"):
        tensorflow.read(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path):
    path = write(tmp_path, arrays())
    data = tmp_path / "model-7.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="CRC-32C sum is wrong"):
        tensorflow.read(path)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"kind": 1}, "compressed"),
        ({"header": integer(1, 1) + integer(2, 1)}, "big-endian"),
        ({"header": integer(1, 0)}, "0 data files"),
        ({"extra": text(7, b"")}, "slices"),
    ],
)
def test_what_is_not_read_is_said(tmp_path: Path, how: dict[str, int | bytes], match: str):
    path = write(tmp_path, arrays(), **how)  # pyright: ignore[reportArgumentType]
    with pytest.raises(CheckpointError, match=match):
        tensorflow.read(path)


@pytest.mark.parametrize("content", [b"", b"x" * 200, b"\0" * 48])
def test_other_files_are_no_index(tmp_path: Path, content: bytes):
    (tmp_path / "a.index").write_bytes(content)
    with pytest.raises(CheckpointError, match="no TensorFlow index"):
        tensorflow.read(tmp_path / "a")


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_never_surprises(tmp_path: Path, data: st.DataObject):
    """Any change of the index gives a clear error; sums aside, so that the parser meets it."""
    path = write(tmp_path, arrays())
    index = path.with_suffix(".index")
    content = bytearray(index.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 9))
        content[place] = data.draw(st.integers(0, 255))
    index.write_bytes(bytes(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorflow, "_masked", Anything)
        try:
            tensorflow.read(path)
        except (CheckpointError, FileNotFoundError) as error:
            lines = str(error).splitlines()
            assert len(lines) == 1
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()


class Anything(int):
    """Equal to every sum."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__
