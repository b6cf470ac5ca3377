"""Collections of generated masks: the n-th depends on the seed and n alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from retouch.data import masks, sources
from retouch.data.sources import DataError

_TRIES = 1000


def draw(
    kind: str,
    size: tuple[int, int],
    share: tuple[float, float] | None,
    shapes: Sequence[str],
    seed: int,
    count: int,
) -> Iterator[np.ndarray]:
    """Draw masks one after the other.

    Args:
        kind: `boxes`, `centre`, `strokes`, `silhouettes` or `share`.
        size: (h, w) [px].
        share: Least and greatest hole share in [0, 1], or None for any.
        shapes: Sources of shapes for `silhouettes`.
        seed: Of the collection.
        count: How many.

    Raises:
        DataError: If something needed is missing, or no such mask can be found.
    """
    if min(size) < 8 or count < 1:
        raise DataError(f"masks need at least 8x8 px and a count of 1, got {size} and {count}")
    if share is not None and not 0 <= share[0] < share[1] <= 1:
        raise DataError(f"share must be 0 <= low < high <= 1, got {share[0]} {share[1]}")
    if kind == "share" and share is None:
        raise DataError("kind share needs --share LOW HIGH, such as --share 0.2 0.3")
    if kind == "silhouettes" and not shapes:
        raise DataError("kind silhouettes needs --shapes: mask files, folders or tar shards")
    known = [sources.decode_mask(entry) for entry in sources.entries(shapes)]
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        yield _draw(kind, rng, size, share, known)


def save_mask(path: Path, mask: np.ndarray) -> None:
    """Write a mask as a 1-bit PNG, white = hole."""
    temporary = path.with_suffix(".part")
    Image.fromarray(mask).save(temporary, format="PNG")
    temporary.replace(path)


def _draw(
    kind: str,
    rng: np.random.Generator,
    size: tuple[int, int],
    share: tuple[float, float] | None,
    shapes: Sequence[np.ndarray],
) -> np.ndarray:
    if kind == "centre":
        return masks.centre(size)
    if kind == "share" and share is not None:
        try:
            return masks.with_share(rng, size, *share)
        except ValueError as error:
            raise DataError(str(error)) from None
    for _ in range(_TRIES):
        if kind == "boxes":
            mask = masks.boxes(rng, size)
        elif kind == "strokes":
            mask = masks.strokes(rng, size)
        else:
            mask = masks.silhouette(rng, size, shapes)
        if share is None or share[0] <= mask.mean() <= share[1]:
            return mask
    raise DataError(f"no {kind} with a hole share in {share} found in {_TRIES} tries")
