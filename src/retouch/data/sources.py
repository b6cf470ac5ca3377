"""Where pictures come from: a folder, a file list or tar shards, all read the same way."""

import glob
import hashlib
import io
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LABEL_SUFFIX = ".label.png"


class DataError(ValueError):
    """A picture source is missing, empty or broken; the message names it."""


@dataclass(frozen=True)
class Entry:
    """One picture that has not been decoded yet."""

    key: str
    """Its name without folder and suffix; the same picture has the same key everywhere."""
    path: Path
    """The file, or the shard that holds it."""
    offset: int = 0
    """Where its bytes begin in the shard."""
    size: int = -1
    """How many bytes it has in the shard; -1: `path` is the picture itself."""
    label: "Entry | None" = None
    """Its label map, where there is one."""

    def read(self) -> bytes:
        """Read its bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def entries(sources: Iterable[str | Path]) -> list[Entry]:
    """List the pictures of folders, file lists, tar shards and patterns, by key within each.

    Args:
        sources: Folders, `.flist` / `.txt` lists (paths relative to the list), `.tar` shards,
            pictures, or patterns of these with `*`.

    Raises:
        DataError: If a source does not exist or holds no picture.
    """
    found: list[Entry] = []
    for source in sources:
        paths = sorted(glob.glob(str(source))) if "*" in str(source) else [str(source)]  # noqa: PTH207
        if not paths:
            raise DataError(f"{source} matches nothing")
        for path in paths:
            here = _entries_of(Path(path))
            if not here:
                raise DataError(f"{path} holds no picture")
            found += here
    return found


def _entries_of(path: Path) -> list[Entry]:
    if path.is_dir():
        return _folder(sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES))
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.suffix == ".tar":
        return _shard(path)
    if path.suffix in (".flist", ".txt"):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        paths = [path.parent / line for line in lines]
        if missing := [str(p) for p in paths if not p.is_file()]:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise DataError(f"{path} lists files that do not exist: {', '.join(missing[:3])}{more}")
        return _folder(paths)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _folder([path])
    raise DataError(f"{path} is neither a folder, a file list, a tar shard nor a picture")


def _folder(paths: Sequence[Path]) -> list[Entry]:
    labels = {p.name.removesuffix(LABEL_SUFFIX): p for p in paths if p.name.endswith(LABEL_SUFFIX)}
    return [
        Entry(p.stem, p, label=Entry(p.stem, labels[p.stem]) if p.stem in labels else None)
        for p in paths
        if not p.name.endswith(LABEL_SUFFIX)
    ]


def _shard(path: Path) -> list[Entry]:
    try:
        with tarfile.open(path) as tar:
            members = [m for m in tar if m.isfile()]
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a readable tar file: {error}") from None
    labels = {
        m.name.removesuffix(LABEL_SUFFIX): Entry(m.name, path, m.offset_data, m.size)
        for m in members
        if m.name.endswith(LABEL_SUFFIX)
    }
    found = []
    for member in members:
        stem = member.name.rpartition(".")[0]
        is_picture = member.name.lower().endswith(PICTURE_SUFFIXES)
        if is_picture and not member.name.endswith(LABEL_SUFFIX):
            found.append(Entry(stem, path, member.offset_data, member.size, labels.get(stem)))
    return sorted(found, key=lambda entry: entry.key)


def split(found: Sequence[Entry], part: int, parts: int = 20) -> tuple[list[Entry], list[Entry]]:
    """Split by the hash of the key, the same way on every machine.

    Returns:
        (the entries whose sha256(key) modulo `parts` is not `part`, those where it is).
    """

    def held(entry: Entry) -> bool:
        return int(hashlib.sha256(entry.key.encode()).hexdigest(), 16) % parts == part

    return [e for e in found if not held(e)], [e for e in found if held(e)]


def decode(entry: Entry) -> np.ndarray:
    """Decode as uint8 RGB (h, w, 3).

    Raises:
        DataError: If the picture cannot be read.
    """
    try:
        return np.asarray(Image.open(io.BytesIO(entry.read())).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{entry.path}: {entry.key} cannot be decoded: {error}") from None


def decode_mask(entry: Entry) -> np.ndarray:
    """Decode as bool (h, w), True = hole (white).

    Raises:
        DataError: If the mask cannot be read.
    """
    try:
        return np.asarray(Image.open(io.BytesIO(entry.read())).convert("L")) >= 128
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{entry.path}: {entry.key} cannot be decoded: {error}") from None


def decode_all(found: Sequence[Entry], threads: int = 4) -> list[np.ndarray]:
    """Decode everything into memory.

    Raises:
        DataError: If pictures are broken; all of them are listed at once.
    """
    broken: list[str] = []

    def attempt(entry: Entry) -> np.ndarray:
        try:
            return decode(entry)
        except DataError as error:
            broken.append(str(error))
            return np.zeros((1, 1, 3), np.uint8)

    with ThreadPoolExecutor(threads) as pool:
        pictures = list(pool.map(attempt, found))
    if broken:
        more = f"; and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise DataError("; ".join(broken[:5]) + more)
    return pictures
