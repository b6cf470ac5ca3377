"""The refinement that copies the finest band of a fill from like places of the picture."""

import cv2
import numpy as np
import pytest

from retouch.pipeline import exemplar
from retouch.pipeline.inpainter import Inpainter
from retouch.pipeline.options import FillOptions


def grainy(h: int, w: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    slope = np.linspace(0.3, 0.6, w, dtype=np.float32)[None, :, None]
    return (slope + rng.normal(0, 0.05, (h, w, 3)).astype(np.float32)).clip(0, 1)


def hole_of(h: int, w: int) -> np.ndarray:
    mask = np.zeros((h, w), bool)
    mask[h // 3 : 2 * h // 3, w // 3 : 2 * w // 3] = True
    return mask


def finest(image: np.ndarray) -> np.ndarray:
    return image - cv2.GaussianBlur(image, (0, 0), exemplar._SIGMA)


def test_a_smooth_fill_gets_the_grain_of_its_surroundings():
    image, mask = grainy(64, 72), hole_of(64, 72)
    fill = cv2.GaussianBlur(image, (0, 0), 6)
    refined = exemplar.refine(fill, image, mask)
    assert np.array_equal(refined[~mask], fill[~mask])
    known = finest(image)[~mask].std()
    assert finest(fill)[mask].std() < 0.2 * known
    assert 0.5 * known < finest(refined)[mask].std() < 1.1 * known
    assert cv2.GaussianBlur(refined - fill, (0, 0), 4)[mask].std() < 0.01  # colours stay


def test_the_same_input_gives_the_same_bytes_whatever_lies_under_the_mask():
    image, mask = grainy(40, 50), hole_of(40, 50)
    fill = cv2.GaussianBlur(image, (0, 0), 3)
    other = np.where(mask[..., None], np.float32(1), image)
    assert np.array_equal(exemplar.refine(fill, image, mask), exemplar.refine(fill, other, mask))


def test_places_are_wholly_known_and_a_repeated_tile_is_found():
    tile = np.random.default_rng(5).random((16, 16, 3), dtype=np.float32)
    image, mask = np.tile(tile, (5, 5, 1)), hole_of(80, 80)
    places = exemplar._matches(image, mask)
    assert places is not None
    rows, columns = places[0][mask], places[1][mask]
    widened = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool)
    assert not widened[rows, columns].any()
    wanted = np.argwhere(mask) % 16
    right = (rows % 16 == wanted[:, 0]) & (columns % 16 == wanted[:, 1])
    assert right.mean() > 0.95


@pytest.mark.parametrize("size", [(1, 1), (4, 9), (5, 5), (11, 6), (12, 13)])
def test_small_pictures_and_nothing_known(size: tuple[int, int]):
    image = grainy(*size)
    fill = np.full_like(image, 0.5)
    everything = np.ones(size, bool)
    assert np.array_equal(exemplar.refine(fill, image, everything), fill)
    corner = np.zeros(size, bool)
    corner[0, 0] = True
    refined = exemplar.refine(fill, image, corner)
    assert refined.shape == image.shape
    assert bool(np.isfinite(refined).all())
    assert np.array_equal(refined[~corner], fill[~corner])


def test_the_door_refines_unless_told_not_to():
    image = (grainy(96, 96) * 255).astype(np.uint8)
    mask = hole_of(96, 96)
    inpainter = Inpainter.load()
    plain = inpainter.fill(image, mask, refine=False)
    refined = inpainter.fill(image, mask)
    assert FillOptions().refine
    assert np.array_equal(plain[~mask], refined[~mask])
    assert (plain[mask] != refined[mask]).any()


def test_a_crop_that_is_filled_in_blocks_is_refined_too(monkeypatch: pytest.MonkeyPatch):
    from retouch.pipeline import blocks, tiles

    monkeypatch.setattr(tiles, "LARGEST", 128)
    monkeypatch.setattr(blocks, "LARGEST", 10_000)
    image = (grainy(300, 300) * 255).astype(np.uint8)
    mask = np.zeros((300, 300), bool)
    mask[20:280, 140:160] = True
    inpainter = Inpainter.load()
    plain, refined = (inpainter.fill(image, mask, refine=wanted) for wanted in (False, True))
    assert np.array_equal(plain[~mask], refined[~mask])
    known = finest(image.astype(np.float32))[~mask].std()
    before, after = (finest(x.astype(np.float32))[mask].std() for x in (plain, refined))
    assert abs(after - known) < abs(before - known)
