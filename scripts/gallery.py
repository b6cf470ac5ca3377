"""Make the gallery: what every weight file at hand paints into the same freely licensed photos.

    python scripts/gallery.py ../shared/data/demo_highres [--only NAME ...]

Writes `docs/gallery.md` and its pictures under `docs/images/gallery/`. Masks are drawn here with
fixed seeds, thin and large ones, so that failures are shown beside successes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch import Inpainter, models
from retouch.data import masks
from retouch.weights import files, named

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "images" / "gallery"
SIDE = 384
"""Longer side of what is shown [px]."""


@dataclass(frozen=True)
class Scene:
    """One photo and its hole."""

    file: str
    kind: str
    """`strokes`, `box` or `large`."""
    seed: int
    credit: str


SCENES = (
    Scene("mate_GreenMeadow.jpg", "strokes", 1, "GreenMeadow, MATE backgrounds"),
    Scene("mate_Wood.jpg", "box", 2, "Wood, MATE backgrounds"),
    Scene(
        "lomiri_Bridge_by_Sander_Klootwijk.jpg",
        "strokes",
        3,
        "Bridge by Sander Klootwijk, Lomiri wallpapers",
    ),
    Scene("mate_LadyBird.jpg", "box", 4, "LadyBird, MATE backgrounds"),
    Scene("mate_Storm.jpg", "large", 5, "Storm, MATE backgrounds"),
    Scene(
        "lomiri_Dragonfly_by_Bolly.jpg",
        "large",
        6,
        "Dragonfly by Bolly, Lomiri wallpapers",
    ),
)


def hole(scene: Scene, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw a scene's mask."""
    rng = np.random.default_rng(scene.seed)
    if scene.kind == "strokes":
        return masks.with_share(rng, size, 0.08, 0.15).astype(bool)
    share = 0.16 if scene.kind == "box" else 0.4
    h, w = (round(side * share**0.5) for side in size)
    top, left = (size[0] - h) // 2, (size[1] - w) // 2
    mask = np.zeros(size, bool)
    mask[top : top + h, left : left + w] = True
    return mask


def shown(picture: Image.Image, path: Path) -> str:
    """Save a small copy; returns its Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=82, method=6)
    return f"![{path.stem}]({path.relative_to(DOCS).as_posix()})"


def rows(photos: Path, names: list[str]) -> Iterator[str]:
    """One table row per scene: the photo with its hole, then every network's fill."""
    inpainters = {name: Inpainter.load(name) for name in names}
    for scene in SCENES:
        photo = Image.open(photos / scene.file).convert("RGB")
        photo.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        mask = hole(scene, (photo.height, photo.width))
        marked = np.array(photo)
        marked[mask] = (255, 0, 128)
        stem = Path(scene.file).stem.lower()
        cells = [shown(Image.fromarray(marked), FOLDER / f"{stem}-hole.webp")]
        for name, inpainter in inpainters.items():
            filled = inpainter.fill(photo, Image.fromarray(mask))
            cells.append(shown(filled, FOLDER / f"{stem}-{name}.webp"))
        yield f"| {' | '.join(cells)} | {scene.credit} |"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Make docs/gallery.md.")
    parser.add_argument("photos", type=Path, help="folder of the demo photos")
    parser.add_argument("--only", nargs="*", help="names of weights")
    given = parser.parse_args()
    names = given.only or [
        name
        for name, path in named.available("inpaint").items()
        if not models.card(files.read_header(path).network).labels  # faces: see edits.py
    ]
    lines = [
        "# Gallery",
        "",
        "Written by `scripts/gallery.py`: what every weight file paints into the same photos. The",
        "holes (pink) are drawn by the script, not chosen for their results; the large ones show",
        f"where the networks fail. Photos are reduced to {SIDE} px.",
        "",
        "| hole | " + " | ".join(names) + " | photo |",
        "|---" * (len(names) + 2) + "|",
        *rows(given.photos, names),
        "",
    ]
    (DOCS / "gallery.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
