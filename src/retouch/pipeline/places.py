"""Where pictures lie: files, or any address that fsspec knows (s3://, gs://, http://, memory://).

Pictures at addresses are brought into a temporary folder to be read, and written there first. What
is written, wherever it is, gets its name in one move when it is complete.
"""

import importlib.util
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from retouch import pictures
from retouch.pictures import Picture, PictureError
from retouch.pictures.formats import EXTENSIONS

Place = Path | str
"""A file or folder; text is an address."""


def place(text: str) -> Place:
    """Tell addresses from paths."""
    return text.rstrip("/") if "://" in text else Path(text)


def name_of(where: Place) -> str:
    """The last part: `photo.jpg`."""
    return where.name if isinstance(where, Path) else where.rpartition("/")[2]


def beside(where: Place, name: str) -> Place:
    """Something else in the same folder."""
    return (
        where.with_name(name) if isinstance(where, Path) else f"{where.rpartition('/')[0]}/{name}"
    )


def inside(folder: Place, name: str) -> Place:
    """Something in a folder."""
    return folder / name if isinstance(folder, Path) else f"{folder}/{name}"


def with_suffix(where: Place, suffix: str) -> Place:
    """The same name with another extension."""
    return beside(where, str(PurePosixPath(name_of(where)).with_suffix(suffix)))


def is_folder(where: Place) -> bool:
    """Whether it is a folder that exists."""
    if isinstance(where, Path):
        return where.is_dir()
    system, path = _system(where)
    with _told(where):
        return bool(system.isdir(path))


def contents(folder: Place) -> list[Place]:
    """List all files of a folder by name; nothing if there is no such folder."""
    if isinstance(folder, Path):
        return sorted(folder.iterdir()) if folder.is_dir() else []
    system, path = _system(folder)
    with _told(folder):
        # Object stores know no empty folders, and some clients remember old listings.
        system.invalidate_cache()
        entries = system.ls(path, detail=False) if system.isdir(path) else []
    return [inside(folder, name) for name in sorted(_last(entry) for entry in entries)]


def find(folder: Place) -> list[Place]:
    """List the pictures of a folder by their extensions, sorted by name.

    Raises:
        PictureError: If it cannot be listed.
    """
    if isinstance(folder, Path):
        return list(pictures.find(folder))
    if not is_folder(folder):
        raise PictureError(f"{folder}: there is no such folder; check the address")
    suffixes = ((item, PurePosixPath(name_of(item)).suffix.lower()) for item in contents(folder))
    return [
        item
        for item, suffix in suffixes
        if suffix in EXTENSIONS and not name_of(item).startswith(".")
    ]


def pair(found: list[Place], masks: Place) -> tuple[list[tuple[Place, Place]], list[str]]:
    """Find each picture's mask by its name; see `retouch.pictures.pair`.

    Args:
        found: Pictures.
        masks: A folder, or one mask for all.

    Returns:
        (picture, mask) pairs, and one line for each that could not be paired.
    """
    if isinstance(masks, Path) and all(isinstance(item, Path) for item in found):
        pairing = pictures.pair([Path(item) for item in found], masks)
        return list(pairing.pairs), list(pairing.problems)
    if not is_folder(masks):
        return [(picture, masks) for picture in found if picture != masks], []
    offered = find(masks)
    # Pairing looks at names only, so each side gets a folder of its own and its names.
    ours = {Path("pictures") / name_of(item): item for item in found}
    theirs = {Path("masks") / name_of(item): item for item in offered}
    pairing = pictures.pair(list(ours), list(theirs))
    return [(ours[a], theirs[b]) for a, b in pairing.pairs], list(pairing.problems)


@contextmanager
def at_hand(where: Place) -> Iterator[Path]:
    """Bring a file into reach; errors that name the copy come out naming its address.

    Raises:
        PictureError: If it cannot be fetched.
    """
    if isinstance(where, Path):
        yield where
        return
    system, path = _system(where)
    with tempfile.TemporaryDirectory(prefix="retouch-") as folder:
        copy = Path(folder) / name_of(where)
        with _told(where):
            system.get_file(path, str(copy))
        try:
            yield copy
        except PictureError as error:
            raise PictureError(str(error).replace(str(copy), where)) from None


def write(target: Place, picture: Picture, *, lossless: bool = False, run: str = "") -> Place:
    """Write a picture; it appears whole or not at all.

    Args:
        target: Where to; the extension decides the format.
        picture: What to write.
        lossless: As for `retouch.pictures.write`.
        run: Drafts lie in the folder `.retouch-RUN` beside the target, for `sweep` to remove if
            their writer was killed. Empty: files are written as `pictures.write` does.

    Returns:
        What was written.

    Raises:
        PictureError: If it cannot be written.
    """
    if isinstance(target, Path):
        return _write_file(target, picture, lossless, run)
    system, path = _system(target)
    with tempfile.TemporaryDirectory(prefix="retouch-") as folder:
        try:
            made = pictures.write(Path(folder) / name_of(target), picture, lossless=lossless)
        except PictureError as error:
            raise PictureError(str(error).replace(folder, target.rpartition("/")[0])) from None
        root = path.rpartition("/")[0]
        draft = f"{root}/.retouch-{run or 'draft'}/{secrets.token_hex(8)}-{made.name}"
        with _told(target):
            system.makedirs(draft.rpartition("/")[0], exist_ok=True)
            system.put_file(str(made), draft)
            system.mv(draft, f"{root}/{made.name}")
        return beside(target, made.name)


def _write_file(target: Path, picture: Picture, lossless: bool, run: str) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not run:
            return pictures.write(target, picture, lossless=lossless)
        folder = target.parent / f".retouch-{run}" / secrets.token_hex(8)
        folder.mkdir(parents=True)
    except OSError as error:
        raise PictureError(f"{target}: its folder cannot be made ({error.strerror})") from None
    made = pictures.write(folder / target.name, picture, lossless=lossless)
    final = made.replace(target.with_name(made.name))
    folder.rmdir()
    return final


def sweep(folder: Place, run: str) -> None:
    """Remove the drafts that a run left in a folder."""
    drafts = inside(folder, f".retouch-{run}")
    if isinstance(drafts, Path):
        shutil.rmtree(drafts, ignore_errors=True)
        return
    system, path = _system(drafts)
    with _told(drafts):
        if system.exists(path):
            system.rm(path, recursive=True)


def parent(where: Place) -> Place:
    """The folder in which something lies."""
    return where.parent if isinstance(where, Path) else where.rpartition("/")[0]


def _last(entry: object) -> str:
    return str(entry).rstrip("/").rpartition("/")[2]


def _system(where: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    if importlib.util.find_spec("fsspec") is None:
        raise PictureError(f"{where}: addresses need fsspec: pip install fsspec")
    import fsspec.core

    with _told(where):
        system, path = fsspec.core.url_to_fs(where)
    return system, str(path)


@contextmanager
def _told(where: Place) -> Iterator[None]:
    """One line for whatever a file system raises."""
    try:
        yield
    except FileNotFoundError:
        raise PictureError(f"{where}: there is no such file; check the address") from None
    except ImportError as error:
        raise PictureError(f"{where}: {' '.join(str(error).split())}") from None
    except Exception as error:  # each file system has errors of its own
        line = " ".join(str(error).split()) or type(error).__name__
        raise UnreachableError(f"{where}: {line[:160]}") from error


class UnreachableError(PictureError):
    """A file system failed in a way that another try may mend."""
