"""Clicks on pictures of any size; with the published weights, on real things."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retouch import pictures
from retouch.pictures import PictureError
from retouch.pipeline.holes import Box
from retouch.pipeline.selecting import WEIGHTS, Click, Selector
from retouch.segmentation.mobilesam import Guesses, MobileSAMConfig
from retouch.weights import files, store


class Redness(nn.Module):
    """Stands for MobileSAM: whatever is red is the thing; counts what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.config = MobileSAMConfig(side=64)
        self.encoded = 0
        self.asked: list[Any] = []

    def encode(self, image: Tensor) -> Tensor:
        self.encoded += 1
        h, w = image.shape[-2:]
        assert max(h, w) == 64
        padded = nn.functional.pad(image, (0, 64 - w, 0, 64 - h))
        return nn.functional.avg_pool2d(padded[:, :1] - padded[:, 1:2], 4)

    def decode(
        self, embedding: Tensor, places: Tensor, kinds: Tensor, earlier: Tensor | None = None
    ) -> Guesses:
        self.asked.append((places, kinds, earlier))
        logits = (embedding - 0.25).expand(-1, 4, -1, -1)
        return Guesses(logits=logits, quality=torch.tensor([[0.1, 0.2, 0.3, 0.9]]))


def scene(height: int, width: int, box: Box) -> pictures.Picture:
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[box.slices] = (255, 60, 60)
    return pictures.from_array(pixels)


def selector() -> tuple[Selector, Redness]:
    network = Redness()
    return Selector(network, "cpu"), network  # pyright: ignore[reportArgumentType]


def iou(one: np.ndarray, box: Box) -> float:
    other = np.zeros_like(one)
    other[box.slices] = True
    return float((one & other).sum() / (one | other).sum())


def test_a_thing_is_found_where_it_is_and_the_picture_encoded_once():
    find, network = selector()
    box = Box(8, 16, 24, 40)
    picture = scene(48, 64, box)
    encoded = find.scene(picture)
    for _ in range(3):
        found = find.select(encoded, picture, [Click(20, 12), Click(60, 40, inside=False)])
        assert found.shape == picture.size
        assert iou(found, box) > 0.85
    assert network.encoded == 1
    assert encoded.nbytes == 4 * 16 * 16


def test_a_small_thing_in_a_large_picture_is_looked_at_once_more():
    find, network = selector()
    box = Box(301, 702, 160, 201)
    picture = scene(800, 1280, box)
    encoded = find.scene(picture)
    clicks = [Click(720, 320), Click(3, 3, inside=False)]
    found = find.select(encoded, picture, clicks)
    assert iou(found, box) > 0.87  # cells of 19 px; the first look has cells of 80 px
    assert network.encoded == 2
    places, kinds, earlier = network.asked[-1]
    assert kinds.tolist() == [[1, 2, 3]]  # the click beside it lies outside the crop
    view = encoded.views[1]
    place = (places[0, 0] + 0.5) / view.scale - 0.5 + torch.tensor([view.box.left, view.box.top])
    torch.testing.assert_close(place, torch.tensor([720.0, 320.0]), rtol=0, atol=1e-3)
    assert earlier.shape == (1, 1, 16, 16)
    assert 0.1 < (earlier > 0).float().mean() < 0.9
    find.select(encoded, picture, clicks)
    assert network.encoded == 2


def test_at_most_four_views_are_kept():
    find, _ = selector()
    pixels = np.full((1280, 1280, 3), 128, np.uint8)
    picture = pictures.from_array(pixels)
    encoded = find.scene(picture)
    for top in range(0, 1100, 200):
        picture = scene(1280, 1280, Box(top, top, 180, 180))
        encoded.views[0] = find.scene(picture).views[0]
        find.select(encoded, picture, [Click(top + 20, top + 20)])
    assert len(encoded.views) == 4


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2, 40_000), (640, 5)])
def test_any_picture(size: tuple[int, int]):
    find, _ = selector()
    picture = scene(*size, Box(0, 0, *size))
    found = find.select(find.scene(picture), picture, [Click(0, 0)])
    assert found.shape == size
    if size == (1, 1):  # the stand-in sees the padding beside thin pictures
        assert found.all()


def test_deep_and_grey_pictures_and_nothing():
    find, _ = selector()
    grey = pictures.from_array(np.full((30, 40), 40_000, np.uint16))
    assert not find.select(find.scene(grey), grey, [Click(3, 3)]).any()


def test_mistakes_are_told():
    find, _ = selector()
    picture = scene(20, 30, Box(0, 0, 5, 5))
    encoded = find.scene(picture)
    with pytest.raises(PictureError, match="outside"):
        find.select(encoded, picture, [Click(30, 0)])
    with pytest.raises(PictureError, match="click on the thing"):
        find.select(encoded, picture, [Click(1, 0, inside=False)])


def test_weights_that_are_absent_or_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETOUCH_WEIGHTS", str(tmp_path))
    with pytest.raises(store.MissingWeightsError, match="retouch weights add"):
        Selector.load("cpu")
    torch.save({"a": torch.zeros(1)}, tmp_path / "mobile_sam.pt")
    with pytest.raises(files.WeightsError, match=r"is not mobile_sam\.pt"):
        Selector.load("cpu")


@pytest.fixture(scope="module")
def published() -> Selector:
    try:
        store.path(WEIGHTS)
    except store.MissingWeightsError as error:
        pytest.skip(str(error))
    return Selector.load("cpu")


# Boxes drawn by hand round what one sees in freely licensed pictures of 1024 px.
THINGS = [
    ("lomiri_Picture_0B_by_freespace.jpg", [(605, 375)], (250, 420, 262, 297)),
    ("lomiri_free_by_Peter_Nerlich.jpg", [(504, 585)], (447, 252, 205, 408)),
    ("lomiri_friends_by_Aitzol_Berasategi.jpg", [(270, 321)], (237, 207, 190, 150)),
    ("mate_LadyBird.jpg", [(717, 333)], (284, 670, 108, 104)),
    ("lomiri_Wine_by_Jakkub_Mede.jpg", [(334, 257)], (121, 314, 217, 47)),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "points", "box", "enlarged"),
    [(*thing, 1) for thing in THINGS] + [(*THINGS[index], 3) for index in (0, 1, 3, 4)],
)
def test_real_things(
    published: Selector,
    shared: Path,
    name: str,
    points: list[tuple[int, int]],
    box: tuple[int, int, int, int],
    enlarged: int,
):
    """The box round the selection is the box round the thing, also in a much larger picture."""
    pixels = pictures.read(shared / "data" / "demo_highres" / name).rgb
    h, w = pixels.shape[:2]
    more = ((0, (enlarged - 1) * h), (0, (enlarged - 1) * w), (0, 0))
    picture = pictures.from_array(np.pad(pixels, more))
    clicks = [Click(*point) for point in points]
    found = published.select(published.scene(picture), picture, clicks)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    area = np.zeros_like(found)
    area[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    assert iou(area, Box(*box)) > 0.85


@pytest.mark.slow
def test_real_clicks_against_drawn_shapes(published: Selector):
    """Shapes whose masks are known exactly; a click beside takes one of two away."""
    h, w = 300, 420
    y, x = np.mgrid[:h, :w]
    noise = np.random.default_rng(0).normal(0, 6, (h, w, 1))
    pixels = np.full((h, w, 3), (70, 120, 70)) + noise
    disc = (y - 150) ** 2 + (x - 110) ** 2 < 70**2
    star = (abs(y - 150) + abs(x - 310)) < 80
    pixels[disc], pixels[star] = (200, 60, 50), (60, 80, 200)
    picture = pictures.from_array(pixels.clip(0, 255).astype(np.uint8))
    encoded = published.scene(picture)
    for place, shape in (((110, 150), disc), ((310, 150), star)):
        found = published.select(encoded, picture, [Click(*place)])
        assert (found & shape).sum() / (found | shape).sum() > 0.95
    both = published.select(encoded, picture, [Click(110, 150), Click(310, 150)])
    assert (both & (disc | star)).sum() / (both | disc | star).sum() > 0.9
    assert math.isclose(encoded.nbytes, 4 * 256 * 64 * 64)
