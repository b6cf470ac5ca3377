"""Select the thing that was clicked on, by colour and edges: where MobileSAM's weights are absent.

A seeded GrabCut (Rother et al., SIGGRAPH 2004): what is like the clicked place and connected to it
is probably the thing, the rest probably not; clicks beside the thing take away. It needs no
weights, and knows nothing of things: two clicks may be needed where a network needs one.
"""

import io
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch.pictures import Picture, PictureError
from retouch.web.schema import Point
from retouch.weights import store

_SIDE = 640
"""Longest side of the picture that is looked at [px]."""
_SEED = 4
"""Radius round a click that surely belongs to it [px of the small picture]."""
_LIKE = 9.0
"""Colour difference between neighbours up to which they are alike (Lab, 8 bit)."""
_ROUNDS = 4
_ENOUGH = 16
"""Pixels that each side must have before its colours can be modelled."""


def has_network() -> bool:
    """Whether the store holds MobileSAM, which does it better."""
    try:
        store.path("mobile-sam")
    except store.MissingWeightsError:
        return False
    return True


def select(picture: Picture, points: Sequence[Point]) -> NDArray[np.bool_]:
    """Find the thing.

    Args:
        picture: Any size.
        points: Clicks; at least one inside the thing.

    Returns:
        (h, w), True = the thing.

    Raises:
        PictureError: If no click is inside, or one is outside the picture.
    """
    h, w = picture.size
    if any(point.x >= w or point.y >= h for point in points):
        raise PictureError("a click lies outside the picture")
    if not any(point.inside for point in points):
        raise PictureError("click on the thing first")
    scale = min(1.0, _SIDE / max(h, w))
    size = (max(8, round(w * scale)), max(8, round(h * scale)))
    whole = np.array(picture.rgb, order="C")
    share = cv2.resize(whole, size, interpolation=cv2.INTER_AREA) / np.float32(picture.white)
    small = np.rint(share * 255).astype(np.uint8)
    places = [
        (min(size[0] - 1, int(p.x * size[0] / w)), min(size[1] - 1, int(p.y * size[1] / h)))
        for p in points
    ]
    marks = _marks(small, places, [p.inside for p in points])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    thing = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if min(thing.sum(), (~thing).sum()) >= _ENOUGH:
        cv2.setRNGSeed(0)
        cv2.grabCut(small, marks, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)  # pyright: ignore[reportCallIssue, reportArgumentType]
    thing = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    part = _touched(thing, [place for place, p in zip(places, points, strict=True) if p.inside])
    whole_thing = cv2.resize(part.astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR)
    return whole_thing > 0.5


def _marks(
    small: NDArray[np.uint8], places: list[tuple[int, int]], inside: list[bool]
) -> NDArray[np.uint8]:
    """Say of each pixel whether it surely or probably belongs to the thing."""
    lab = cv2.bilateralFilter(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), 7, 30, 5)
    alike = np.zeros((small.shape[0] + 2, small.shape[1] + 2), np.uint8)
    flags = 8 | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
    tolerance = (_LIKE / 3, _LIKE / 3, _LIKE / 3)
    for place, belongs in zip(places, inside, strict=True):
        if belongs:
            cv2.floodFill(lab, alike, place, (0, 0, 0), tolerance, tolerance, flags)
    marks = np.where(alike[1:-1, 1:-1] > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    for place, belongs in zip(places, inside, strict=True):
        around = 10 * _SEED
        disc = np.zeros_like(marks)
        cv2.circle(disc, place, around, 1, -1)
        if belongs:
            marks[(disc > 0) & (marks == cv2.GC_PR_BGD)] = cv2.GC_PR_FGD
    for place, belongs in zip(places, inside, strict=True):
        cv2.circle(marks, place, _SEED, cv2.GC_FGD if belongs else cv2.GC_BGD, -1)
    return marks


def _touched(thing: NDArray[np.uint8], places: list[tuple[int, int]]) -> NDArray[np.uint8]:
    """Keep the connected parts that hold a click."""
    _, parts = cv2.connectedComponents(thing, connectivity=4)
    kept = {int(parts[y, x]) for x, y in places} - {0}
    return np.isin(parts, list(kept)).astype(np.uint8)


def encode(mask: NDArray[np.bool_]) -> tuple[bytes, int, int]:
    """Write the smallest box round a selection as PNG.

    Returns:
        The PNG, and the left column and top row of the box [px].

    Raises:
        PictureError: If nothing is selected.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise PictureError("nothing was found there; click elsewhere")
    top, left = int(rows[0]), int(columns[0])
    stream = io.BytesIO()
    Image.fromarray(mask[top : rows[-1] + 1, left : columns[-1] + 1]).save(stream, "PNG")
    return stream.getvalue(), left, top
