"""Label maps as pictures: indexed PNG out, indexed, grey or colored pictures in.

A map that was written here and saved again by a drawing program comes back the same, even if the
program changed the order of the palette or wrote plain RGB. JPEG is refused: it changes colors.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch.segmentation.labels import LabelSet

Labels = NDArray[np.uint8]

_EXACT_SHARE = 0.5
"""Anti-aliased rims are thin: a picture with fewer exact colors than this is no label map."""


def to_image(labels: NDArray[np.integer], label_set: LabelSet) -> Image.Image:
    """Turn a label map into an indexed picture (mode `P`), to be saved as PNG.

    Args:
        labels: (h, w) integers, each a class of `label_set` or its void.
        label_set: Gives the palette.

    Raises:
        ValueError: If a label is not of the set.
    """
    _check(labels, label_set)
    table = label_set.table()
    palette = np.zeros((max(table) + 1, 3), dtype=np.uint8)
    palette[list(table)] = list(table.values())
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(palette.tobytes())
    return image


def to_colors(labels: NDArray[np.integer], label_set: LabelSet) -> NDArray[np.uint8]:
    """Paint a label map in its colors.

    Args:
        labels: (h, w) integers, each a class of `label_set` or its void.
        label_set: Gives the colors.

    Returns:
        (h, w, 3) RGB in 0..255.

    Raises:
        ValueError: If a label is not of the set.
    """
    _check(labels, label_set)
    table = np.zeros((256, 3), dtype=np.uint8)
    for index, color in label_set.table().items():
        table[index] = color
    return table[labels]


def read(source: str | Path | Image.Image, label_set: LabelSet) -> Labels:
    """Read a label map.

    An indexed picture whose used colors are all of the set is read by color, any other indexed or
    grey picture by its numbers, an RGB picture by color (see `from_colors`); alpha is ignored.

    Args:
        source: A file or an open picture.
        label_set: What the map speaks of.

    Returns:
        (h, w) labels.

    Raises:
        ValueError: If the picture is a JPEG or does not fit the set; the message says where it
            differs.
    """
    if not isinstance(source, Image.Image):
        with Image.open(source) as image:
            return read(image, label_set)
    if source.format == "JPEG":
        raise ValueError("a label map must be a lossless picture such as PNG, got JPEG")
    if source.mode == "P":
        return _read_indexed(source, label_set)
    if source.mode in ("1", "L", "I", "I;16"):
        numbers = np.asarray(source).astype(np.int64)
        _check(numbers, label_set)
        return numbers.astype(np.uint8)
    return from_colors(np.asarray(source.convert("RGB")), label_set)


def _read_indexed(image: Image.Image, label_set: LabelSet) -> Labels:
    numbers = np.asarray(image)
    palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    known = {color: index for index, color in label_set.table().items()}
    used = [int(index) for index in np.unique(numbers)]
    colors = [tuple(palette[index].tolist()) if index < len(palette) else None for index in used]
    if any(color not in known for color in colors):
        _check(numbers, label_set)
        return numbers.copy()
    table = np.zeros(256, dtype=np.uint8)
    table[used] = [known[color] for color in colors if color is not None]
    return table[numbers]


def from_colors(image: NDArray[np.uint8], label_set: LabelSet) -> Labels:
    """Recover labels from a painted picture.

    Exact colors first. A pixel of another color (drawing programs smooth edges) takes, of the
    labels that touch it, the one nearest in RGB, so that the mixture of two colors never
    becomes a third class; a pixel that touches none takes the nearest of all.

    Args:
        image: (h, w, 3) RGB in 0..255.
        label_set: Gives the colors.

    Returns:
        (h, w) labels.

    Raises:
        ValueError: If fewer than half of the pixels have a color of the set exactly.
    """
    table = label_set.table()
    indices = np.array(list(table), dtype=np.int64)
    colors = np.array(list(table.values()), dtype=np.int64)  # (n, 3)
    scale = np.array([65536, 256, 1])
    codes = colors @ scale
    order = np.argsort(codes)
    pixels = image.astype(np.int64) @ scale  # (h, w)
    place = np.searchsorted(codes[order], pixels).clip(max=len(codes) - 1)
    label = np.where(codes[order][place] == pixels, indices[order][place], -1)
    share = float((label >= 0).mean())
    if share < _EXACT_SHARE:
        raise ValueError(
            f"no label map of {label_set.name}: only {share:.0%} of the pixels have its colors"
        )
    rows, columns = np.nonzero(label < 0)
    found = image[rows, columns].astype(np.int64)  # (m, 3)
    distance = ((found[:, None] - colors) ** 2).sum(-1)  # (m, n)
    touching = _touching(label, rows, columns, indices)
    far = np.where(touching | ~touching.any(1, keepdims=True), distance, np.iinfo(np.int64).max)
    label[rows, columns] = indices[far.argmin(1)]
    return label.astype(np.uint8)


def _touching(
    label: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    indices: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which of `indices` are among the eight neighbors of each pixel, (m, n)."""
    around = np.pad(label, 1, constant_values=-1)
    touching = np.zeros((len(rows), len(indices)), dtype=bool)
    for down in range(3):
        for right in range(3):
            touching |= around[rows + down, columns + right][:, None] == indices
    return touching


def _check(labels: NDArray[np.integer], label_set: LabelSet) -> None:
    known = list(label_set.table())
    unknown = np.setdiff1d(np.unique(labels), known)
    if len(unknown):
        listed = ", ".join(str(index) for index in unknown[:5])
        raise ValueError(f"{label_set.name} has labels {known[0]} to {known[-1]}, got {listed}")
