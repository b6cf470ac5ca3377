"""Frames are found where the labels lie as in framed pictures, whatever is under the mask."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retouch import models, pictures
from retouch.pipeline import framing
from retouch.pipeline.editing import EditingSession
from retouch.pipeline.holes import Box
from retouch.pipeline.inpainter import Inpainter
from retouch.pipeline.options import FillOptions
from retouch.segmentation.labels import label_set
from retouch.segmentation.layouts import layout
from retouch.weights import files

FACES = label_set("faces")


class Reader(nn.Module):
    """Reads labels from the red channel, where they are written as tens."""

    def forward(self, image: Tensor) -> Tensor:
        labels = (image[:, :1] * 25.5).round()
        classes = torch.arange(len(FACES)).view(1, -1, 1, 1)
        return 20.0 * (labels == classes)


class Network(nn.Module):
    """What a search needs of a network."""

    def __init__(self, name: str = "faces") -> None:
        super().__init__()
        self.label_set = label_set(name)
        self.segmenter = Reader()


def portrait(size: tuple[int, int], frame: Box) -> pictures.Picture:
    """The likeliest label at every place of a frame, before a background."""
    likely = layout("faces")
    assert likely is not None
    cells = likely.argmax(0)
    rows = np.arange(frame.height) * cells.shape[0] // frame.height
    columns = np.arange(frame.width) * cells.shape[1] // frame.width
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[frame.slices] = 10 * cells[np.ix_(rows, columns)][..., None]
    return pictures.from_array(pixels)


def hole(size: tuple[int, int], box: Box) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[box.slices] = True
    return mask


def near(found: Box | None, frame: Box) -> bool:
    assert found is not None
    slack = 0.1 * frame.width
    wanted = (frame.top, frame.left, frame.bottom, frame.right)
    have = (found.top, found.left, found.bottom, found.right)
    return all(abs(a - b) <= slack for a, b in zip(wanted, have, strict=True))


@pytest.mark.parametrize(
    ("size", "frame"),
    [
        ((256, 256), Box(0, 0, 256, 256)),
        ((300, 500), Box(80, 150, 170, 170)),
        ((700, 520), Box(10, 90, 400, 400)),
        ((900, 1400), Box(300, 900, 90, 90)),
    ],
)
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_finds_the_frame_of_a_face(size: tuple[int, int], frame: Box, share: float):
    side = round(share * frame.width)
    box = Box(frame.top + (frame.height - side) // 2, frame.left + frame.width // 3, side, side)
    found = framing.find(Network(), portrait(size, frame), hole(size, box), box)
    assert near(found, frame), found


def test_does_not_look_at_what_is_under_the_mask():
    size, frame, box = (300, 420), Box(60, 120, 200, 200), Box(130, 180, 70, 60)
    picture, mask = portrait(size, frame), hole(size, box)
    pixels = picture.pixels.copy()
    pixels[mask] = np.random.default_rng(0).integers(0, 256, pixels[mask].shape)
    found = framing.find(Network(), picture, mask, box)
    assert found == framing.find(Network(), pictures.from_array(pixels), mask, box)


def even(label: str, size: tuple[int, int]) -> pictures.Picture:
    """One label everywhere."""
    return pictures.from_array(np.full((*size, 3), 10 * FACES.index(label), np.uint8))


def test_finds_none_where_there_is_no_face():
    size, box = (300, 400), Box(100, 150, 60, 50)
    assert framing.find(Network(), even("background", size), hole(size, box), box) is None


def test_says_so_where_there_is_no_face(caplog: pytest.LogCaptureFixture):
    size, box = (300, 400), Box(100, 150, 60, 50)
    framing.framed(Network(), even("background", size), hole(size, box), 256)
    assert "the network knows faces, none was found" in caplog.text
    caplog.clear()
    framing.framed(Network("facades"), even("background", size), hole(size, box), 256)
    assert not caplog.text


def test_takes_a_picture_whole_that_is_closer_than_a_frame():
    size, box = (300, 400), Box(100, 150, 60, 50)
    found = framing.find(Network(), even("skin", size), hole(size, box), box)
    assert found is not None
    assert (found.top, found.height, found.width) == (0, 300, 300)
    assert box.union(found) == found


def test_knows_a_face_whose_holes_lie_all_over_it(caplog: pytest.LogCaptureFixture):
    frame = Box(0, 0, 256, 256)
    mask = np.zeros((256, 256), bool)
    mask[3:-3:9] = mask[:, 5:-5:11] = True
    (found,) = framing.framed(Network(), portrait((256, 256), frame), mask, 256)
    assert found.crop == frame
    assert not caplog.text


def test_finds_none_round_holes_that_no_square_holds():
    size, box = (200, 400), Box(60, 20, 60, 300)
    picture = portrait(size, Box(0, 100, 200, 200))
    assert framing.find(Network(), picture, hole(size, box), box) is None


def test_finds_none_without_a_layout_or_a_segmenter():
    size, frame, box = (300, 300), Box(20, 20, 256, 256), Box(100, 100, 60, 60)
    picture, mask = portrait(size, frame), hole(size, box)
    assert framing.find(Network("facades"), picture, mask, box) is None
    network = Network()
    network.segmenter = None  # pyright: ignore[reportAttributeAccessIssue]
    assert framing.find(network, picture, mask, box) is None
    assert framing.find(nn.Identity(), picture, mask, box) is None


def test_holes_in_one_frame_are_filled_together():
    size, frame = (400, 700), Box(80, 120, 240, 240)
    eyes, mouth, far = Box(190, 190, 20, 20), Box(260, 230, 16, 30), Box(20, 640, 30, 30)
    mask = hole(size, eyes) | hole(size, mouth) | hole(size, far)
    found = framing.framed(Network(), portrait(size, frame), mask, 256)
    crops = {(group.holes, group.crop) for group in found}
    face = next(group for group in found if group.holes == eyes.union(mouth))
    assert near(face.crop, frame)
    assert len(crops) == 2


@pytest.mark.parametrize(
    ("size", "box", "crop"),
    [
        ((600, 900), Box(300, 400, 20, 30), Box(182, 287, 256, 256)),
        ((600, 900), Box(0, 880, 20, 20), Box(0, 644, 256, 256)),
        ((200, 900), Box(100, 440, 20, 20), Box(0, 322, 200, 256)),
        ((90, 120), Box(30, 30, 20, 20), Box(0, 0, 90, 120)),
        ((900, 900), Box(300, 300, 300, 200), Box(150, 150, 600, 500)),
    ],
)
def test_without_a_frame_crops_are_as_large_as_the_network(
    size: tuple[int, int], box: Box, crop: Box
):
    picture = pictures.from_array(np.zeros((*size, 3), np.uint8))
    (found,) = framing.framed(nn.Identity(), picture, hole(size, box), 256)
    assert found.crop == crop


def test_smooth_fills_with_what_is_around():
    rng = np.random.default_rng(0)
    image = rng.random((70, 90, 3)).astype(np.float32)
    mask = hole((70, 90), Box(10, 20, 40, 50))
    filled = framing.smooth(image, mask)
    np.testing.assert_allclose(filled[~mask], image[~mask], rtol=1e-6)
    hidden = np.where(mask[..., None], np.float32(7), image)
    assert np.array_equal(framing.smooth(hidden, mask), filled)
    assert filled[mask].min() >= image[~mask].min()
    assert filled[mask].max() <= image[~mask].max()
    assert filled[30, 45].std() < image.std()
    even = np.full((70, 90, 3), 0.25, np.float32)
    np.testing.assert_allclose(framing.smooth(even, mask), even, rtol=1e-6)


def test_layouts_know_where_a_face_is():
    likely = layout("faces")
    assert likely is not None
    assert likely.shape == (len(FACES), 32, 32)
    assert likely[FACES.index("nose"), 17, 16] > 2 > 0 > likely[FACES.index("nose"), 2, 2]
    assert likely[FACES.index("background"), 2, 2] > 0 > likely[FACES.index("background"), 16, 16]
    assert layout("facades") is None


def small() -> Inpainter:
    torch.manual_seed(0)
    card = models.card("semantic")
    header = files.Header(network="semantic", config=dict(card.small))
    network = card.model(card.config(**card.small))
    return Inpainter(network, header, device="cpu", precision="float32")


@pytest.mark.parametrize("size", [(100, 130), (256, 180), (300, 256)])
def test_crops_are_brought_to_the_size_of_the_network(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    inpainter = small()
    monkeypatch.setattr(framing, "find", lambda *_: None)
    seen: list[tuple[Tensor, ...]] = []
    passes = inpainter.passes

    def spy(*given: Tensor) -> Tensor:
        seen.append(given)
        return passes(*given)

    monkeypatch.setattr(inpainter, "passes", spy)
    box = Box(40, 50, 30, 40)
    mask = hole(size, box)
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[..., 1] = np.arange(size[1])
    pixels[mask] = 255
    picture = pictures.from_array(pixels)
    filled = inpainter.fill_picture(picture, mask, FillOptions(refine=False))
    image, holes = seen[0]
    assert image.shape == (1, 3, 256, 256)
    assert np.array_equal(filled.pixels[~mask], pixels[~mask])
    scale = max(1.0, 256 / max(size))
    assert float(holes.sum()) == pytest.approx(mask.sum() * scale**2, rel=0.15)
    assert float(image[:, 0][holes[:, 0] == 0].max()) == 0  # nothing bleeds out of the hole


def test_editing_sees_what_filling_sees():
    inpainter = small()
    pixels = np.random.default_rng(0).integers(0, 256, (120, 150, 3)).astype(np.uint8)
    picture, mask = pictures.from_array(pixels), hole((120, 150), Box(40, 50, 30, 40))
    options = FillOptions(refine=False)
    session = EditingSession(inpainter, picture, mask, options)
    edited = session.render().pixels[mask].astype(int)
    filled = inpainter.fill_picture(picture, mask, options).pixels[mask].astype(int)
    assert np.abs(edited - filled).mean() < 1.5  # its map has the pixels of the picture
