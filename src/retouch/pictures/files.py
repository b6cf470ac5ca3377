"""Folders of pictures, and which mask belongs to which picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retouch.pictures.formats import EXTENSIONS
from retouch.pictures.picture import PictureError

SUFFIX = "_mask"
"""What a mask's name may have behind the picture's."""

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True)
class Pairing:
    """Pictures with their masks, and what could not be paired."""

    pairs: tuple[tuple[Path, Path], ...]
    """(picture, mask) in the order of the pictures."""
    problems: tuple[str, ...]
    """One line for each picture without exactly one mask, and for each mask without a picture."""


def find(folder: str | os.PathLike[str], *, recursive: bool = False) -> list[Path]:
    """List the pictures of a folder by their extensions, sorted by name; hidden files are left out.

    Args:
        folder: Where to look.
        recursive: Look into folders inside it as well.

    Raises:
        PictureError: If there is no such folder or it may not be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise PictureError(f"{root}: there is no such folder; check the name")
    try:
        entries = list(root.rglob("*") if recursive else root.iterdir())
    except OSError as error:
        raise PictureError(
            f"{root}: cannot be listed ({error.strerror}); check its permissions"
        ) from None
    return sorted(
        path
        for path in entries
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )


def pair(pictures: Paths, masks: Paths) -> Pairing:
    """Find each picture's mask: of the same stem, of the stem with `_mask`, or one mask for all.

    Pictures and masks may lie in the same folder if the masks end in `_mask`.

    Args:
        pictures: A folder, a file, or files.
        masks: A folder, files, or one file, which then serves all pictures.

    Raises:
        PictureError: If a folder is missing.
    """
    found, alone = _files(pictures)[0], False
    offered, alone = _files(masks)
    shared = set(found) & set(offered)
    if shared and not alone:
        stems = {path.stem for path in found}
        is_mask = {
            p: p.stem.endswith(SUFFIX) and p.stem.removesuffix(SUFFIX) in stems for p in shared
        }
        found = [path for path in found if not is_mask.get(path)]
        offered = [path for path in offered if is_mask.get(path, True)]
    if alone:
        return Pairing(tuple((path, offered[0]) for path in found if path != offered[0]), ())
    return _matched(found, offered)


def _files(paths: Paths) -> tuple[list[Path], bool]:
    """Expand folders; tell whether a single file was meant."""
    if isinstance(paths, str | os.PathLike):
        path = Path(paths)
        return (find(path), False) if path.is_dir() else ([path], True)
    return [Path(path) for path in paths], False


def _matched(pictures: Sequence[Path], masks: Sequence[Path]) -> Pairing:
    by_stem: dict[str, list[Path]] = {}
    for mask in masks:
        by_stem.setdefault(mask.stem, []).append(mask)
    pairs, problems, used = [], [], set()
    for picture in pictures:
        candidates = by_stem.get(picture.stem, []) + by_stem.get(picture.stem + SUFFIX, [])
        used.update(candidates)
        if len(candidates) == 1:
            pairs.append((picture, candidates[0]))
        elif candidates:
            names = ", ".join(path.name for path in candidates)
            problems.append(f"{picture}: it has {len(candidates)} masks ({names}); keep one")
        else:
            problems.append(
                f"{picture}: it has no mask; name one "
                f"{picture.stem}.png or {picture.stem}{SUFFIX}.png"
            )
    problems += [
        f"{mask}: this mask has no picture of its name" for mask in masks if mask not in used
    ]
    return Pairing(tuple(pairs), tuple(problems))
