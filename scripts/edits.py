"""Draw ten edits of one portrait's label map and what the semantic network makes of each.

    python scripts/edits.py --network semantic-faces

Writes `docs/images/gallery/edits.webp`: NASA's portrait of Eileen Collins (public domain, in
scikit-image), the hole, the map as the face parser sees the portrait, then every edited map above
its fill. Nothing is chosen: the edits are drawn by rule.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from retouch.pictures import Picture
from retouch.pipeline.editing import EditingSession, segment
from retouch.pipeline.inpainter import Inpainter
from retouch.pipeline.options import FillOptions
from retouch.segmentation.labels import label_set
from retouch.segmentation.palette import to_image
from retouch.weights import segmenters

FACES = label_set("faces")
TARGET = Path(__file__).parents[1] / "docs" / "images" / "gallery" / "edits.webp"
CROP = (slice(8, 194), slice(132, 318))
"""Rows and columns of the photo that are framed as the faces of the training pictures are."""
SIDE = 256

Labels = NDArray[np.uint8]


def of(labels: Labels, *names: str) -> NDArray[np.bool_]:
    """Where a map says one of these classes."""
    return np.isin(labels, [FACES.index(name) for name in names])


def put(labels: Labels, where: NDArray[np.bool_], name: str) -> Labels:
    """Write a class into a copy of a map."""
    edited = labels.copy()
    edited[where] = FACES.index(name)
    return edited


def middle(where: NDArray[np.bool_]) -> tuple[int, int]:
    """Return (x, y), the mean place of a region."""
    ys, xs = np.nonzero(where)
    return int(xs.mean()), int(ys.mean())


def drawn(draw: Callable[[Labels], object]) -> NDArray[np.bool_]:
    """What OpenCV paints into an empty picture."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    draw(canvas)
    return canvas > 0


def grown(where: NDArray[np.bool_], x: int, y: int) -> NDArray[np.bool_]:
    """Grow a region by so many pixels to all sides."""
    kernel = np.ones((2 * y + 1, 2 * x + 1), np.uint8)
    return cv2.dilate(where.astype(np.uint8), kernel) > 0


EYES = ("left eye", "right eye")
BROWS = ("left brow", "right brow")
MOUTH = ("mouth", "upper lip", "lower lip")


def unit(labels: Labels) -> float:
    """A twentieth of the distance between the eyes [px]."""
    (left, _), (right, _) = (middle(of(labels, eye)) for eye in EYES)
    return abs(left - right) / 20


def oval(place: tuple[int, int], size: tuple[float, float]) -> NDArray[np.bool_]:
    """Fill an ellipse of these half axes."""
    axes = (round(size[0]), round(size[1]))
    return drawn(lambda canvas: cv2.ellipse(canvas, place, axes, 0, 0, 360, 255, -1))


def below(row: int) -> NDArray[np.bool_]:
    """Rows from this one on, (256, 1)."""
    return np.arange(SIDE)[:, None] >= row


def glasses(labels: Labels) -> Labels:
    """Put lenses around both eyes and a bridge between them."""
    u = unit(labels)
    places = [middle(of(labels, eye)) for eye in EYES]
    lenses = oval(places[0], (8 * u, 6 * u)) | oval(places[1], (8 * u, 6 * u))
    bridge = drawn(lambda canvas: cv2.line(canvas, *places, 255, 3))
    return put(labels, (lenses | bridge) & ~of(labels, *EYES), "eyeglasses")


def _lips(labels: Labels, height: float) -> Labels:
    x, y = middle(of(labels, *MOUTH))
    bare = put(labels, of(labels, *MOUTH), "skin")
    lips = oval((x, y), (9 * unit(labels), height * unit(labels)))
    return put(put(bare, lips & ~below(y), "upper lip"), lips & below(y), "lower lip")


def closed_mouth(labels: Labels) -> Labels:
    """Let the lips meet."""
    return _lips(labels, 2.5)


def open_mouth(labels: Labels) -> Labels:
    """Open the mouth inside taller lips."""
    place = middle(of(labels, *MOUTH))
    inner = oval(place, (7 * unit(labels), 4 * unit(labels)))
    return put(_lips(labels, 6.5), inner, "mouth")


def no_brows(labels: Labels) -> Labels:
    """Turn brows into skin."""
    return put(labels, of(labels, *BROWS), "skin")


def thick_brows(labels: Labels) -> Labels:
    """Make brows broader."""
    edited = labels
    for brow in BROWS:
        edited = put(edited, grown(of(labels, brow), 1, round(1.2 * unit(labels))), brow)
    return edited


def closed_eyes(labels: Labels) -> Labels:
    """Turn eyes into skin."""
    return put(labels, of(labels, *EYES), "skin")


def large_eyes(labels: Labels) -> Labels:
    """Let the eyes grow."""
    edited = labels
    for eye in EYES:
        edited = put(edited, grown(of(labels, eye), 2, 2), eye)
    return edited


def broad_nose(labels: Labels) -> Labels:
    """Broaden the nose to both sides."""
    wide = grown(of(labels, "nose"), round(2.5 * unit(labels)), 1)
    return put(labels, wide & of(labels, "skin"), "nose")


def fringe(labels: Labels) -> Labels:
    """Let hair fall to the brows."""
    bottom = int(min(np.nonzero(of(labels, *BROWS))[0]))
    return put(labels, of(labels, "skin") & ~below(bottom), "hair")


def hat(labels: Labels) -> Labels:
    """Cover the hair above the forehead."""
    bottom = int(min(np.nonzero(of(labels, *BROWS))[0]) - 3 * unit(labels))
    return put(labels, of(labels, "hair", "skin") & ~below(bottom), "hat")


EDITS: dict[str, Callable[[Labels], Labels]] = {
    "as it is": lambda labels: labels,
    "glasses": glasses,
    "mouth closed": closed_mouth,
    "mouth wide open": open_mouth,
    "no brows": no_brows,
    "thick brows": thick_brows,
    "eyes closed": closed_eyes,
    "larger eyes": large_eyes,
    "broad nose": broad_nose,
    "fringe": fringe,
    "hat": hat,
}


def portrait() -> NDArray[np.uint8]:
    """Frame the face, (256, 256, 3)."""
    photo: NDArray[np.uint8] = skimage.data.astronaut()[CROP]
    return cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def hole() -> NDArray[np.bool_]:
    """Cover the face and what is edited around it."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[44:216, 52:204] = True
    return mask


def column(title: str, *cells: NDArray[np.uint8]) -> Image.Image:
    """Stack pictures under a title."""
    sheet = Image.new("RGB", (SIDE, 22 + SIDE * len(cells)), "white")
    ImageDraw.Draw(sheet).text((6, 4), title, fill="black", font_size=14)
    for row, cell in enumerate(cells):
        sheet.paste(Image.fromarray(cell), (0, 22 + row * SIDE))
    return sheet


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="semantic-faces")
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    given = parser.parse_args()
    path = Path(given.network)
    inpainter = Inpainter.load(path if path.suffix else given.network, device="cpu")
    picture, mask = Picture(pixels=portrait()), hole()
    session = EditingSession(inpainter, picture, mask, FillOptions())
    true = segment(segmenters.load(segmenters.default("faces"), "faces"), picture)
    marked = picture.pixels.copy()
    marked[mask] = (255, 0, 128)
    columns = [column("portrait and hole", picture.pixels, marked)]
    for title, edit in EDITS.items():
        labels = np.where(mask, edit(true), true).astype(np.uint8)
        fill = session.render(labels[session.box.slices]).pixels
        columns.append(column(title, np.asarray(to_image(labels, FACES).convert("RGB")), fill))
    width, height = columns[0].size
    sheet = Image.new("RGB", (width * 6, height * 2), "white")
    for index, part in enumerate(columns):
        sheet.paste(part, (index % 6 * width, index // 6 * height))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(given.output, quality=80, method=6)
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
