"""Semantic editing: encode once, render many label maps, known pixels untouched."""

from typing import Any

import numpy as np
import pytest
import torch

from retouch import models, pictures, segmentation
from retouch.pictures import PictureError
from retouch.pipeline import editing
from retouch.pipeline.editing import EditingSession, segment
from retouch.pipeline.inpainter import Inpainter, OptionError
from retouch.weights import files, segmenters


def small(network: str, **config: Any) -> Inpainter:
    card = models.card(network)
    config = {**card.small, **config}
    header = files.Header(network=network, config=config)
    return Inpainter(card.model(card.config(**config)), header, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def inpainter() -> Inpainter:
    torch.manual_seed(0)
    return small("semantic")


def scene(height: int, width: int) -> pictures.Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return pictures.from_array(pixels)


def holes(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    for top, left, h, w in boxes:
        mask[top : top + h, left : left + w] = True
    return mask


@pytest.mark.parametrize(
    ("size", "box"), [((120, 150), (40, 50, 30, 40)), ((700, 500), (200, 100, 300, 250))]
)
def test_known_pixels_stay_and_labels_decide(
    inpainter: Inpainter, size: tuple[int, int], box: tuple[int, int, int, int]
):
    picture, mask = scene(*size), holes(*size, box)
    session = EditingSession(inpainter, picture, mask)
    assert session.proposed
    assert session.labels.shape == (session.box.height, session.box.width)
    proposed = session.render()
    other = session.render((session.labels + 1) % len(session.label_set))
    for filled in (session.coarse(), proposed, other):
        assert np.array_equal(filled.pixels[~mask], picture.pixels[~mask])
    assert (proposed.pixels[mask] != other.pixels[mask]).any()
    assert np.array_equal(session.render().pixels, proposed.pixels)


def test_agrees_with_the_network_run_whole(inpainter: Inpainter):
    picture, mask = scene(256, 256), holes(256, 256, (100, 90, 40, 60))
    session = EditingSession(inpainter, picture, mask)
    assert (session.box.height, session.box.width) == (256, 256) or session.box.height < 256
    labels = np.zeros((256, 256), np.uint8)
    whole = inpainter.fill_picture(picture, mask, labels=labels)
    part = session.render(np.zeros_like(session.labels))
    assert np.abs(whole.pixels.astype(int) - part.pixels).max() <= 1


def test_only_the_changed_hole_is_decoded_again(
    inpainter: Inpainter, monkeypatch: pytest.MonkeyPatch
):
    size = (300, 1200)
    mask = holes(*size, (100, 50, 20, 20), (100, 1100, 20, 20))
    session = EditingSession(inpainter, scene(*size), mask)
    network: Any = inpainter.network
    calls = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda *a: calls.append(1) or decode(*a))
    monkeypatch.setattr(network, "encode", None)
    session.render()
    assert len(calls) == 2
    labels = session.labels.copy()
    labels[110 - session.box.top, 60 - session.box.left] ^= 1
    session.render(labels)
    assert len(calls) == 3


def test_without_a_segmenter_the_map_says_nothing():
    session = EditingSession(
        small("semantic", segmenter=""), scene(90, 90), holes(90, 90, (30, 30, 20, 20))
    )
    assert not session.proposed
    assert (session.labels == editing.UNKNOWN).all()
    session.render()


def test_mistakes_are_told(inpainter: Inpainter):
    picture = scene(90, 90)
    with pytest.raises(PictureError, match="empty"):
        EditingSession(inpainter, picture, holes(90, 90))
    with pytest.raises(PictureError, match=r"\(90, 90\)"):
        EditingSession(inpainter, picture, holes(80, 90, (1, 1, 2, 2)))
    with pytest.raises(OptionError, match="no labels to edit"):
        EditingSession(small("dilated"), picture, holes(90, 90, (30, 30, 20, 20)))
    session = EditingSession(inpainter, picture, holes(90, 90, (30, 30, 20, 20)))
    with pytest.raises(PictureError, match="label map is 5x5"):
        session.render(np.zeros((5, 5), np.uint8))


def test_a_segmenter_comes_from_the_store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETOUCH_WEIGHTS", str(tmp_path))
    config = dict(segmentation.card("bisenet").small)
    torch.manual_seed(0)
    network = segmentation.build("bisenet", **config)
    path = tmp_path / "faces-tiny.safetensors"
    files.save(path, files.Header(network="bisenet", config=config), network.state_dict())
    loaded = segmenters.load("faces-tiny")
    labels = segment(loaded, scene(70, 90), side=64)
    assert labels.shape == (70, 90)
    assert labels.max() < len(segmentation.label_set("faces"))
    files.save(path, files.Header(network="dilated", config={}), {})
    with pytest.raises(files.WeightsError, match="no segmentation network"):
        segmenters.load("faces-tiny")
