"""Paste labelled faces at other sizes and places before other pictures, with the maps.

    python scripts/pasted_faces.py FACES --before SCENES -o runs/pasted-faces

A segmenter that has seen only pictures framed alike finds a face in the middle of everything. One
that is trained on these too finds faces where they are: that is how a hole's frame is found
(`retouch.pipeline.framing`). `KEY-N.jpg` has holes in two of three cases, filled smoothly;
`scene-N.jpg` shows no face, its map is background alone.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from retouch.data import masks, sources
from retouch.pipeline.framing import smooth

SIDE = 256
SIZES = (0.3, 1.5)
"""Side of a pasted picture of a face, as a share of what it is pasted on."""
TONES = (0.5, 2.2)
"""Exponent that makes a face lighter or darker: few in the packs have dark skin."""


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", nargs="+", help="shards with label maps")
    parser.add_argument("--before", nargs="+", required=True, help="shards without faces")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--times", type=int, default=4, help="pictures made of each face")
    parser.add_argument("--tones", action="store_true", help="make faces lighter and darker")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    scenes = [sources.decode(entry) for entry in sources.entries(given.before)]
    for entry in track(sources.entries(given.faces), "faces"):
        face, labels = sources.decode(entry), sources.decode_labels(entry)
        for number in range(given.times):
            scene = fitting(scenes[rng.integers(len(scenes))])
            seen = toned(rng, face) if given.tones else face
            picture, pasted = paste(rng, seen, labels, scene)
            write(given.output / f"{Path(entry.key).name}-{number}", holed(rng, picture), pasted)
    for number in track(range(0, len(scenes), 2), "scenes"):
        background = np.zeros((SIDE, SIDE), np.uint8)
        scene = holed(rng, fitting(scenes[number]))
        write(given.output / f"scene-{number}", scene, background)
    print(f"wrote {given.output}")


def fitting(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring a picture to the side that all have."""
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def toned(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make a picture lighter or darker."""
    table = 255 * np.linspace(0, 1, 256) ** np.exp(rng.uniform(*np.log(TONES)))
    return table.round().astype(np.uint8)[picture]


def paste(
    rng: np.random.Generator,
    face: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    scene: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Put what is not background before a scene; clothes go on to the lower border.

    A face that is larger than the scene keeps its own background.
    """
    share = float(np.exp(rng.uniform(*np.log(SIZES))))
    side = round(share * SIDE)
    middle = rng.uniform(0.15, 0.85, 2) if share < 1 else rng.uniform(0.4, 0.6, 2)
    top, left = (middle * SIDE - side / 2).round().astype(int)
    rows, columns = np.arange(SIDE) - top, np.arange(SIDE) - left
    inside = (rows >= 0)[:, None] & (columns >= 0) & (columns < side)
    at = np.ix_(rows.clip(0, side - 1), columns.clip(0, side - 1))  # the last row goes on
    size = (side, side)
    method = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
    small = cv2.resize(face, size, interpolation=method)[at]
    pasted = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)[at] * inside
    whole = share >= 1 or rng.random() < 0.2
    person = (inside if whole else pasted > 0).astype(np.float32)
    soft = cv2.GaussianBlur(person, (0, 0), 1.0)[..., None]
    picture = small * soft + scene * (1 - soft)
    return picture.round().astype(np.uint8), pasted.astype(np.uint8)


def holed(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill a hole smoothly, in two pictures of three."""
    if rng.random() < 1 / 3:
        return picture
    hole = masks.with_share(rng, picture.shape[:2], 0.02, 0.5)
    filled = smooth(picture.astype(np.float32) / 255, hole)
    return (filled * 255).round().astype(np.uint8)


def write(stem: Path, picture: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Write a picture with its map."""
    Image.fromarray(picture).save(stem.with_suffix(".jpg"), quality=95)
    Image.fromarray(labels).save(stem.with_suffix(".label.png"))


if __name__ == "__main__":
    main()
