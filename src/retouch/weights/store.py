"""The weight store: which files exist, what they are for, and where this machine keeps them.

The manifest (`data/manifest.json`) lists each known file with its sha256, size, licence and source.
The store is one folder, `$RETOUCH_WEIGHTS` or `~/.cache/retouch/weights`. Nothing is downloaded:
`retouch weights add FILE` recognises a file by its sha256 and copies it there.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "Entry",
    "KnownFile",
    "MissingWeightsError",
    "StoreError",
    "add",
    "folder",
    "manifest",
    "own",
    "path",
    "sha256",
]


class MissingWeightsError(FileNotFoundError):
    """A weight file is needed that the store does not hold; the message says where to get it."""


class StoreError(ValueError):
    """A name or a file is none that the manifest knows; the message lists those it does."""


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """One file that serves under a name of the manifest."""

    file: str
    """Its name in the store."""
    sha256: str
    """64 hexadecimal digits, or the 8 that the publisher put into the file's name."""
    source: str
    """Where people get it."""
    bytes: int | None = None
    """Its size, where known."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the manifest knows under one name."""

    name: str
    """`alexnet`, `lpips-alex` ..."""
    what: str
    """What it is for, in words."""
    licence: str
    """SPDX id or terms."""
    files: tuple[KnownFile, ...]
    """Files that serve, the preferred one first."""


@cache
def manifest() -> tuple[Entry, ...]:
    """List what the store may hold."""
    raw = json.loads((Path(__file__).parent / "data" / "manifest.json").read_text("utf-8"))
    return tuple(
        Entry(**{**entry, "files": tuple(KnownFile(**file) for file in entry["files"])})
        for entry in raw["weights"]
    )


def folder() -> Path:
    """Name the store's folder; it need not exist."""
    named = os.environ.get("RETOUCH_WEIGHTS")
    return Path(named) if named else Path.home() / ".cache" / "retouch" / "weights"


def own() -> dict[str, Path]:
    """List Retouch's own weight files at hand, by name.

    They lie in the store, in the folder `weights` of a checkout (the one that this code belongs to,
    or the present folder; it has a `manifest.json`), or inside the package; the first that has a
    name wins.
    """
    inside = Path(__file__).parent / "data"
    roots = (Path(), Path(__file__).parents[3])
    checkouts = (root / "weights" for root in roots)
    delivered = (place for place in checkouts if (place / "manifest.json").is_file())
    places = (inside, *delivered, folder())
    return {file.stem: file for place in places for file in sorted(place.glob("*.safetensors"))}


def path(name: str) -> Path:
    """Find a file of the store by its name in the manifest, or a weight file of our own.

    Raises:
        StoreError: If neither manifest nor store knows the name; the message lists the known ones.
        MissingWeightsError: If the store does not hold the file; the message says which file to
            get, from where, and how to add it.
    """
    if ours := own().get(name):
        return ours
    entry = next((entry for entry in manifest() if entry.name == name), None)
    if entry is None:
        known = ", ".join(sorted(entry.name for entry in manifest()))
        raise StoreError(f"no weights named {name!r}; the manifest lists {known}")
    for known_file in entry.files:
        place = folder() / known_file.file
        if place.is_file():
            return place
    wanted = " or ".join(f"{file.file} ({file.source})" for file in entry.files)
    raise MissingWeightsError(
        f"{name} ({entry.what}) is not in the weight store {folder()}: "
        f"get {wanted}, then run `retouch weights add FILE`"
    )


def add(file: str | Path) -> tuple[Entry, Path]:
    """Copy a known file into the store, whatever it is called, and check it by its sha256.

    Args:
        file: Any file the manifest lists.

    Returns:
        Its manifest entry and its place in the store.

    Raises:
        FileNotFoundError: If there is no such file.
        StoreError: If its sha256 is not in the manifest.
    """
    file = Path(file)
    digest = sha256(file)
    for entry in manifest():
        for known_file in entry.files:
            if digest.startswith(known_file.sha256):
                target = folder() / known_file.file
                _copy(file, target)
                return entry, target
    known = ", ".join(known_file.file for entry in manifest() for known_file in entry.files)
    raise StoreError(f"{file} (sha256 {digest}) is none of the files the manifest knows: {known}")


def sha256(file: Path) -> str:
    """Compute a file's sha256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _copy(source: Path, target: Path) -> None:
    """Copy by way of a temporary file beside the target, so that no half file is ever seen."""
    if target.is_file() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        shutil.copyfile(source, name)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
