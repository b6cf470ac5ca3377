"""The middle of thick holes, made of the picture's own patches where a network smears."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from retouch import models
from retouch.pipeline import blocks, completion, patchmatch
from retouch.pipeline.holes import depth
from retouch.pipeline.inpainter import Inpainter
from retouch.weights.files import Header

Size = tuple[int, ...]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Size]:
    """Sizes of the crops whose middle is completed."""
    sizes: list[Size] = []
    complete = completion.complete

    def watched(fill: np.ndarray, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        sizes.append(mask.shape)
        return complete(fill, image, mask)

    monkeypatch.setattr(completion, "complete", watched)
    return sizes


def bricks(size: int) -> np.ndarray:
    """Rows of bricks of 24 x 12 px with joints, a little uneven in colour."""
    rows, columns = np.mgrid[:size, :size]
    shifted = columns + 12 * (rows // 12 % 2)
    joint = (rows % 12 < 2) | (shifted % 24 < 2)
    image = np.where(joint[..., None], np.float32([0.8, 0.8, 0.75]), np.float32([0.6, 0.3, 0.2]))
    uneven = np.random.default_rng(2).normal(0, 0.03, (size, size, 3))
    return np.asarray(image + uneven, np.float32).clip(0, 1)


def square(size: int, side: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    first = (size - side) // 2
    mask[first : first + side, first : first + side] = True
    return mask


def smeared(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Right near the rim, a mean colour farther in."""
    share = ((depth(mask) - 14) / 8).clip(0, 1)[..., None]
    return np.asarray(image + (image.mean(axis=(0, 1)) - image) * share, np.float32)


def error(found: np.ndarray, image: np.ndarray, where: np.ndarray) -> float:
    return float(((found - image)[where] ** 2).mean())


def test_a_smeared_middle_becomes_bricks_again():
    image, mask = bricks(160), square(160, 96)
    fill = smeared(image, mask)
    found = completion.complete(fill, image, mask)
    deep = depth(mask) > 24
    assert error(found, image, deep) < 0.15 * error(fill, image, deep)
    assert np.array_equal(found[depth(mask) <= 17], fill[depth(mask) <= 17])


def test_a_thin_hole_keeps_its_fill():
    image, mask = bricks(96), square(96, 32)
    fill = smeared(image, mask)
    assert completion.complete(fill, image, mask) is fill


def test_what_has_more_detail_than_the_picture_can_give_stays():
    image, mask = np.full((160, 160, 3), 0.5, np.float32), square(160, 96)
    fill = np.where(mask[..., None], bricks(160), image)
    deep = depth(mask) > 30
    share = error(completion.complete(fill, image, mask), fill, deep)
    assert share < 0.02 * error(image, fill, deep)


@pytest.mark.parametrize("under", [np.zeros_like, np.ones_like])
def test_what_is_under_the_mask_does_not_matter(under: Callable[[np.ndarray], np.ndarray]):
    image, mask = bricks(128), square(128, 80)
    fill = smeared(image, mask)
    other = np.where(mask[..., None], under(image), image)
    first, second = (completion.complete(fill, x, mask) for x in (image, other))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("h", "w"), [(60, 60), (41, 300), (50, 6)])
def test_without_known_patches_the_fill_stays(h: int, w: int):
    fill = np.random.default_rng(0).random((h, w, 3), dtype=np.float32)
    found = completion.complete(fill, np.zeros_like(fill), np.ones((h, w), bool))
    assert np.allclose(found, fill, atol=1e-6)


def test_places_that_coarse_levels_found_are_carried_on():
    tile = np.random.default_rng(5).random((32, 32, 3), dtype=np.float32)
    image = cv2.GaussianBlur(np.tile(tile, (3, 3, 1)), (0, 0), 1)
    hole = square(96, 20)
    known, wanted = patchmatch.wholly_known(hole, 3), patchmatch.widened(hole, 3)
    rng = np.random.default_rng(0)
    exact = np.zeros((2, 48, 48), np.int32)
    exact[0], exact[1] = np.mgrid[:48, :48]
    exact[1] = (exact[1] + 16) % 48  # the next tile, at half the size
    places = patchmatch.start(exact, wanted, known, rng)
    unlike = np.empty(hole.shape, np.float32)
    nothing = np.empty((96, 96, 0), np.float32)
    rows = patchmatch.rows_of(image, 3)
    patchmatch.search(rows, 3, nothing, known, wanted, places, unlike, 1, 1)
    apart = places[:, wanted] - np.argwhere(wanted).T
    assert ((apart % 32 == 0).all(axis=0)).mean() > 0.95
    assert (unlike[~wanted] == -1).all()
    assert np.median(unlike[wanted]) < 1e-3


@pytest.mark.parametrize(
    ("refine", "learned", "times"), [(True, True, 1), (False, True, 0), (True, False, 0)]
)
def test_the_door_completes_what_a_network_of_small_crops_filled(
    refine: bool, learned: bool, times: int, seen: list[Size], monkeypatch: pytest.MonkeyPatch
):
    inpainter = Inpainter.load()
    monkeypatch.setattr(inpainter, "patches", learned)
    image, mask = (bricks(160) * 255).astype(np.uint8), square(160, 64)
    filled = inpainter.fill(image, mask, refine=refine)
    assert len(seen) == times
    assert np.array_equal(filled[~mask], image[~mask])


@pytest.mark.parametrize(
    ("name", "reach", "patches"),
    [
        ("dilated", None, True),
        ("isnet", None, False),
        ("isnet", 80, True),
        ("srpnet", None, True),
        ("semantic", None, False),
    ],
)
def test_networks_that_smear_thick_holes_get_patches(name: str, reach: int | None, patches: bool):
    card = models.card(name)
    network = card.model(card.config(**card.small))
    header = Header(network=name, config=dict(card.small), reach=reach)
    assert Inpainter(network, header, device="cpu").patches is patches


def test_a_large_crop_is_made_smaller_before_its_middle_is_completed(
    seen: list[Size], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocks, "LARGEST", 200 * 200)
    image, mask = (bricks(640) * 255).astype(np.uint8), square(640, 480)
    filled = Inpainter.load().fill(image, mask)
    assert len(seen) == 1
    assert seen[0][0] * seen[0][1] <= 200 * 200
    assert np.array_equal(filled[~mask], image[~mask])
