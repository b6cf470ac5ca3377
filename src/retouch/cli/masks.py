"""`retouch masks`: make masks for training and testing."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def masks(
    output: Path,
    *,
    kind: Literal["boxes", "centre", "strokes", "silhouettes", "share"] = "strokes",
    count: int = 10,
    size: Annotated[tuple[int, int], Parameter(help="Height and width [px].")] = (256, 256),
    share: tuple[float, float] | None = None,
    shapes: tuple[str, ...] = (),
    seed: int = 0,
) -> None:
    """Write seeded masks as 1-bit PNG, white = hole; the same seed writes the same files.

    Args:
        output: Folder; it is made if it does not exist.
        kind: `boxes`, one `centre` square of a quarter of the area, free-form `strokes`,
            `silhouettes` of given shapes, or strokes and boxes up to an exact hole `share`.
        count: How many.
        size: Height and width [px].
        share: Least and greatest hole share, such as 0.2 0.3; needed for `share`, and for other
            kinds a condition.
        shapes: Mask files, folders or tar shards whose shapes `silhouettes` uses.
        seed: The n-th mask depends on seed and n alone.
    """
    from retouch.data.collection import draw, save_mask

    draws = draw(kind, size, share, shapes, seed, count)
    output.mkdir(parents=True, exist_ok=True)
    for index, mask in enumerate(draws):
        save_mask(output / f"{kind}-{index:05d}.png", mask)
    print(f"{count} masks in {output}")
