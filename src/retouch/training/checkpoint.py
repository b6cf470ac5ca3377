"""Checkpoints: everything a run needs to go on as if it had never stopped."""

import os
from pathlib import Path
from typing import Any

import torch

KEEP = 3
"""How many of the latest checkpoints stay on disk."""


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `step-NNNNNN.pt` under a temporary name, move it into place, drop the oldest.

    Raises:
        OSError: If the disk is full; the checkpoints before this one stay as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:06d}.pt"
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    for old in _found(folder)[:-KEEP]:
        old.unlink()


def latest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint, None if there is none; nothing in it is executed."""
    found = _found(folder)
    return torch.load(found[-1], map_location="cpu", weights_only=True) if found else None


def clean(folder: Path) -> None:
    """Remove the unfinished files of a run that was killed while it wrote."""
    for part in (*folder.glob("*.part"), *folder.glob("checkpoints/*.part")):
        part.unlink(missing_ok=True)


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), key=lambda path: int(path.stem.removeprefix("step-")))
