"""Rim, widening and feathering touch what they should and nothing else."""

import cv2
import numpy as np
import pytest

from retouch.pipeline import compositing, detail, tiles
from retouch.pipeline.holes import Box
from retouch.pipeline.inpainter import Inpainter
from retouch.pipeline.sizes import shrink, shrink_bands


def disc(size: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - size // 2
    return rows**2 + columns**2 <= radius**2


def test_dilate_adds_a_ring_of_the_radius():
    mask = np.zeros((41, 41), bool)
    mask[20, 20] = True
    grown = compositing.dilate(mask, 5)
    rows, columns = np.nonzero(grown)
    assert np.hypot(rows - 20, columns - 20).max() <= 5.5
    assert grown[15, 20]
    assert compositing.dilate(mask, 0) is mask
    with pytest.raises(ValueError, match="at least 0 px, got -1"):
        compositing.dilate(mask, -1)


@pytest.mark.parametrize("radius", [4, 16, 17, 40])
def test_dilate_adds_a_disc_whatever_its_radius(radius: int):
    mask = np.zeros((99, 99), bool)
    mask[49, 49] = True
    grown = compositing.dilate(mask, radius)
    assert not (grown & ~disc(99, radius + 1)).any()
    assert not (disc(99, radius - 1) & ~grown).any()


def test_dilate_by_more_than_the_picture():
    mask = np.zeros((30, 40), bool)
    assert not compositing.dilate(mask, 10**6).any()
    mask[3, 5] = True
    assert compositing.dilate(mask, 10**6).all()


def test_match_rim_removes_a_constant_step_at_the_rim():
    mask = disc(96, 20)
    image = np.full((96, 96, 3), 0.6, np.float32)
    fill = np.full((96, 96, 3), 0.5, np.float32)
    matched = compositing.match_rim(fill, image, mask)
    rim = mask & ~disc(96, 18)
    assert np.abs(matched[rim] - 0.6).max() < 0.045  # 4 of 255 stay
    assert abs(float(matched[48, 48, 0]) - 0.5) < 0.02


def test_match_rim_ignores_what_is_under_the_mask():
    mask = disc(64, 12)
    rng = np.random.default_rng(0)
    image, fill = rng.random((2, 64, 64, 3), np.float32)
    other = np.where(mask[..., None], np.float32(0.9), image)
    first = compositing.match_rim(fill, image, mask)
    second = compositing.match_rim(fill, other, mask)
    assert np.array_equal(first, second)


def test_match_rim_without_known_pixels_changes_nothing():
    fill = np.full((16, 16, 3), 0.3, np.float32)
    assert np.array_equal(compositing.match_rim(fill, fill, np.ones((16, 16), bool)), fill)


def test_feather_fades_in_over_its_width():
    mask = disc(64, 20)
    image, fill = np.zeros((64, 64, 3), np.float32), np.ones((64, 64, 3), np.float32)
    blended = compositing.feather(fill, image, mask, 4)
    along = blended[32, 12:32, 0]
    assert 0 < along[0] < 0.5
    assert (np.diff(along) >= -1e-6).all()
    assert along[6] == 1


def test_shrink_keeps_the_holes_content_out():
    mask = disc(120, 30)
    rng = np.random.default_rng(0)
    image = rng.random((120, 120, 3), np.float32)
    other = np.where(mask[..., None], np.float32(0.5), image)
    small, small_mask = shrink(image, mask, (40, 40))
    again, _ = shrink(other, mask, (40, 40))
    assert small_mask.mean() >= mask.mean()
    assert np.array_equal(small[~small_mask], again[~small_mask])


@pytest.mark.parametrize("size", [(300, 200), (150, 100), (97, 83), (31, 20), (1, 1)])
def test_shrinking_in_bands_agrees_with_one_piece(size: tuple[int, int]):
    rng = np.random.default_rng(0)
    image = rng.random((700, 413, 3), np.float32)
    mask = np.zeros((700, 413), bool)
    mask[100:500, 70:300] = rng.random((400, 230)) < 0.7
    small, small_mask = shrink(image, mask, size)
    banded, banded_mask = shrink_bands(lambda box: image[box.slices], mask, size)
    assert np.array_equal(small_mask, banded_mask)
    assert np.abs(small - banded)[~small_mask].max(initial=0) < 1e-5


@pytest.mark.parametrize("sides", [(1024, 1001), (1500, 1039)])
def test_shrinking_makes_no_holes_of_its_own(sides: tuple[int, int]):
    many, few = sides
    for size, smaller in (((many, 9), (few, 7)), ((9, many), (7, few))):
        image, mask = np.full((*size, 3), 0.5, np.float32), np.zeros(size, bool)
        mask[3, 4] = True
        for small, small_mask in (
            shrink(image, mask, smaller),
            shrink_bands(lambda box, image=image: image[box.slices], mask, smaller),
        ):
            assert 1 <= small_mask.sum() <= 4
            assert np.abs(small[~small_mask] - 0.5).max() < 1e-6


@pytest.mark.parametrize("size", [(96, 64), (33, 50), (7, 9)])
def test_detail_of_a_box_is_that_of_the_whole(size: tuple[int, int]):
    rng = np.random.default_rng(0)
    image = rng.random((301, 203, 3), np.float32)
    mask = np.zeros((301, 203), bool)
    mask[100:220, 70:150] = True
    small, small_mask = shrink(image, mask, size)
    whole = detail.transfer(small, small_mask, image)(Box(0, 0, 301, 203))
    smooth = detail.Enlarged(small, (301, 203)).piece
    parts = detail.Detailed(
        small, small_mask, (301, 203), smooth, lambda box: image[box.slices] - smooth(box)
    )
    for top in range(0, 301, 43):
        for left in range(0, 203, 29):
            box = Box(top, left, min(43, 301 - top), min(29, 203 - left))
            assert np.abs(parts.piece(box) - whole[box.slices]).max() < 1e-5


def test_detail_puts_the_known_parts_texture_into_the_hole():
    rng = np.random.default_rng(0)
    image = (0.5 + 0.1 * rng.standard_normal((256, 256, 3))).clip(0, 1).astype(np.float32)
    mask = disc(256, 40)
    small, small_mask = shrink(image, mask, (64, 64))
    small[small_mask] = 0.5
    filled = detail.transfer(small, small_mask, image)(Box(0, 0, 256, 256))
    inside, outside = disc(256, 30), ~disc(256, 60)
    result = np.where(mask[..., None], filled, image)
    gradient = np.abs(np.diff(result[..., 0], axis=1))
    ratio = gradient[inside[:, 1:]].mean() / gradient[outside[:, 1:]].mean()
    assert 0.8 < ratio < 1.2


def test_tiles_give_what_one_piece_gives_for_a_local_operation():
    rng = np.random.default_rng(0)
    image = rng.random((1500, 900, 3), np.float32)
    mask = np.ones((1500, 900), bool)

    def shift(part: np.ndarray, _: np.ndarray) -> np.ndarray:
        padded = np.pad(part, ((8, 8), (8, 8), (0, 0)))
        return padded[:-16, 16:]

    run = tiles.Tiles(shift, lambda box: image[box.slices], mask, tiles.plan(mask, 8, 8))
    assert np.array_equal(run.piece(Box(0, 0, 1500, 900)), shift(image, mask))


def test_tiles_see_a_wire_and_what_lies_near_it():
    mask = np.zeros((3000, 4000), np.uint8)
    cv2.line(mask, (100, 2900), (3900, 200), 1, 6)
    cv2.line(mask, (0, 700), (3999, 700), 1, 4)
    mask = mask.astype(bool)
    image = np.random.default_rng(0).random((3000, 4000, 3), np.float32)
    seen = []

    def darker(part: np.ndarray, hole: np.ndarray) -> np.ndarray:
        seen.append(hole.shape)
        return part / 2

    plan = tiles.plan(mask, 100, 8)
    run = tiles.Tiles(darker, lambda box: image[box.slices], mask, plan)
    for top in range(0, 3000, 500):
        piece, given = run.piece(Box(top, 0, 500, 4000)), image[top : top + 500]
        near = cv2.dilate(mask.view(np.uint8), np.ones((17, 17), np.uint8))[top : top + 500] > 0
        assert np.array_equal(piece[near], given[near] / 2)
        assert ((piece == given) | (piece == given / 2)).all()
    assert max(max(shape) for shape in seen) <= tiles.LARGEST + 208
    assert len(seen) == len(plan)  # each once
    assert sum(h * w for h, w in seen) < 0.45 * mask.size  # cells of one size would see .9 of it


@pytest.mark.parametrize("context", [0, 3, 88])
@pytest.mark.parametrize("step", [1, 8, 16])
def test_tiles_lie_round_all_holes(step: int, context: int):
    rng = np.random.default_rng(step)
    mask = rng.random((301, 407)) > 0.9995
    mask[-1, -1] = mask[0, 200] = mask[40:90, 50:52] = True
    plan = tiles.plan(mask, context, step)
    covered = np.zeros_like(mask)
    for tile in plan:
        assert tile.box.top % step == tile.box.left % step == 0
        assert tile.seen == tile.box.grown(-(-max(8, context) // step) * step, mask.shape)
        covered[tile.box.slices] = True
    assert covered[mask].all()


def test_specks_far_apart_are_seen_apart():
    mask = np.zeros((900, 900), bool)
    mask[300:308, 300:308] = mask[468:476, 468:476] = True
    assert len(tiles.plan(mask, 88, 8)) == 2


@pytest.mark.parametrize("size", [300, 3000])
def test_the_middle_of_a_thick_hole_comes_from_the_smaller_fill(size: int):
    mask = np.zeros((size, size), bool)
    mask[50:250, 40:260] = True
    one, two = (np.full((size, size, 3), value, np.float32) for value in (0.2, 0.8))
    mixed = detail.mixed(lambda b: one[b.slices], lambda b: two[b.slices], mask)
    box = Box(20, 10, 250, 280)
    found = mixed(box)[..., 0]
    assert found.shape == (250, 280)
    assert np.allclose(found[30 + 5, :], 0.2, atol=0.03)  # 6 px inside: the larger fill
    assert np.allclose(found[130, 140], 0.8)
    across = found[130, 30:140]
    assert (np.diff(across) >= -1e-6).all()  # ever deeper, ever more of it
    assert abs(across[15] - 0.5) < 0.04


def test_the_default_network_fills_thick_holes_twice(monkeypatch: pytest.MonkeyPatch):
    network = Inpainter.load()
    mask = np.zeros((256, 256), bool)
    mask[80:172, 60:190] = True
    seen: list[int] = []
    run = network.passes
    monkeypatch.setattr(network, "passes", lambda x, m: seen.append(x.shape[-1]) or run(x, m))
    fill = network.predict(np.full((256, 256, 3), 0.5, np.float32), mask)
    assert seen == [256, 192]
    assert network.passes_for(mask) == len(seen)
    assert fill.shape == (256, 256, 3)
