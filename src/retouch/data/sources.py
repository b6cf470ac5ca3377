"""Where pictures come from: a folder, a file list or tar shards, all read the same way."""

import glob
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from PIL import Image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LABEL_SUFFIX = ".label.png"
BLUR_SUFFIXES = (".blur.png", ".blur.jpg")
TWINS = "twins are NAME.blur.png beside NAME.png, or blur/NAME.png beside sharp/NAME.png"

T = TypeVar("T")


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
    blurred: "Entry | None" = None
    """Its blurred twin, where there is one."""

    def read(self) -> bytes:
        """Read its bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def entries(sources: Iterable[str | Path]) -> list[Entry]:
    """List the pictures of folders, file lists, tar shards and patterns, by key within each.

    Args:
        sources: Folders, `.flist` / `.txt` lists (paths relative to the list), `.tar` shards,
            pictures, or patterns of these with `*`; shards may also be fsspec URLs
            (`https://...`, `s3://...`), which are fetched once into the cache.

    Raises:
        DataError: If a source does not exist or holds no picture.
    """
    found: list[Entry] = []
    for source in sources:
        paths = _matching(str(source))
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


def _matching(source: str) -> list[str]:
    if "://" in source:
        return [_fetched(source)]
    return sorted(glob.glob(source)) if "*" in source else [source]  # noqa: PTH207


def _fetched(url: str) -> str:
    """Fetch a remote file into the cache, once, and return its local path."""
    import fsspec

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "retouch" / "shards"
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{url.rsplit('/', 1)[-1]}"
    path = cache / name
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(path.suffix + ".part")
        try:
            with fsspec.open(url, "rb") as remote, part.open("wb") as local:
                shutil.copyfileobj(remote, local)  # pyright: ignore[reportArgumentType]
        except Exception as error:  # every protocol has its own errors
            part.unlink(missing_ok=True)
            raise DataError(f"{url} cannot be fetched: {error}") from error
        part.replace(path)
    return str(path)


def _folder(paths: Sequence[Path]) -> list[Entry]:
    return _paired([(str(p.parent / p.name), Entry(p.stem, p)) for p in paths])


def _shard(path: Path) -> list[Entry]:
    try:
        with tarfile.open(path) as tar:
            members = [m for m in tar if m.isfile()]
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a readable tar file: {error}") from None
    named = [
        (m.name, Entry(m.name.rpartition(".")[0], path, m.offset_data, m.size))
        for m in members
        if m.name.lower().endswith(PICTURE_SUFFIXES)
    ]
    return sorted(_paired(named), key=lambda entry: entry.key)


def _paired(named: Sequence[tuple[str, Entry]]) -> list[Entry]:
    """Give label maps and blurred twins to their pictures.

    Their names begin alike, or their folders' names end in `sharp` and `blur`: a/sharp/1.png and
    a/blur/1.png, or a_sharp/1.png and a_blur/1.png. The key is then a/1.
    """
    labels: dict[str, Entry] = {}
    blurred: dict[str, Entry] = {}
    pictures: list[tuple[str, Entry]] = []
    for name, entry in named:
        twin = next((suffix for suffix in BLUR_SUFFIXES if name.endswith(suffix)), None)
        if name.endswith(LABEL_SUFFIX):
            labels[name.removesuffix(LABEL_SUFFIX)] = entry
        elif twin is not None:
            blurred[name.removesuffix(twin)] = entry
        else:
            pictures.append((name.rpartition(".")[0], entry))
    stems = dict(pictures)
    twins = {stem: _other_folder(stem) for stem in stems if _other_folder(stem) in stems}
    for soft, stem in twins.items():
        blurred[stem] = stems[soft]
    return [
        replace(
            entry,
            key=_shared_key(stem) if stem in twins.values() else entry.key,
            label=labels.get(stem),
            blurred=blurred.get(stem),
        )
        for stem, entry in pictures
        if stem not in twins
    ]


def _other_folder(stem: str) -> str:
    """Where the sharp twin of a picture in a folder `...blur` would be."""
    folder, _, name = stem.rpartition("/")
    return f"{folder.removesuffix('blur')}sharp/{name}" if folder.endswith("blur") else ""


def _shared_key(stem: str) -> str:
    """Name a picture of a folder `a/sharp` or `a_sharp`, which is half of a pair."""
    folder, _, name = stem.rpartition("/")
    group = folder.removesuffix("sharp").rstrip("_-/").rpartition("/")[2]
    return f"{group}/{name}" if group else name


def write_list(sources: Iterable[str | Path], output: Path) -> int:
    """Write a file list of the pictures in folders: one path per line, relative to the list.

    Returns:
        How many pictures it lists; label maps and blurred twins are found beside them.

    Raises:
        DataError: If a source does not exist or holds no picture, or is a tar shard.
    """
    lines: list[str] = []
    for entry in entries(sources):
        if entry.size >= 0:
            raise DataError(f"{entry.path} is a tar shard: name it in the recipe as it is")
        for part in (entry, entry.label, entry.blurred):
            if part is not None:
                lines.append(os.path.relpath(part.path, output.parent))
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(output.name + ".part")
    temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    temporary.replace(output)
    return len(entries([output]))


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


def decode_labels(entry: Entry) -> np.ndarray:
    """Decode the label map of a picture as uint8 (h, w), one index per pixel.

    Raises:
        DataError: If it has none, or it cannot be read or is no index picture.
    """
    if entry.label is None:
        raise DataError(f"{entry.path}: {entry.key} has no label map ({entry.key}{LABEL_SUFFIX})")
    try:
        picture = Image.open(io.BytesIO(entry.label.read()))
        if picture.mode not in ("L", "P"):
            raise ValueError(f"mode {picture.mode}, expected one index per pixel (L or P)")
        return np.asarray(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{entry.label.path}: {entry.label.key}: {error}") from None


def decode_blurred(entry: Entry) -> np.ndarray:
    """Decode the blurred twin of a picture as uint8 RGB (h, w, 3).

    Raises:
        DataError: If it has none, or it cannot be read.
    """
    if entry.blurred is None:
        names = " or ".join(entry.key + suffix for suffix in BLUR_SUFFIXES)
        raise DataError(f"{entry.path}: {entry.key} has no blurred twin ({names})")
    return decode(entry.blurred)


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
    return each(decode, found, threads)


def each(work: Callable[[Entry], T], found: Sequence[Entry], threads: int = 4) -> list[T]:
    """Do something with every entry, in threads.

    Raises:
        DataError: If it failed for some; the first five are listed, the others counted.
    """
    broken: list[str] = []

    def attempt(entry: Entry) -> T | None:
        try:
            return work(entry)
        except DataError as error:
            broken.append(str(error))
            return None

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(attempt, found))
    if broken:
        broken.sort()
        more = f"; and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise DataError("; ".join(broken[:5]) + more)
    return cast(list[T], results)
