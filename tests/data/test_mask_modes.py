"""Mask modes draw what their names say."""

import numpy as np
import pytest

from retouch.data import masks
from retouch.data.batches import Sampler
from retouch.data.config import DataConfig, MaskAugment
from retouch.data.mask_modes import MaskSource

SHAPES = [np.pad(np.ones((20 + 4 * i, 30), bool), ((9, 9), (4, 14 + i))) for i in range(3)]
SIZE = (64, 48)


def source(modes: dict[str, float], **more: object) -> MaskSource:
    given = {"shares": (0.0, 1.0)} | more
    config = DataConfig(pictures=("x",), masks=("y",), modes=modes, **given)  # pyright: ignore
    return MaskSource(SHAPES, config)


@pytest.mark.parametrize(
    "mode", ["mixed", "strokes", "boxes", "silhouettes", "block", "half", "freeform", "files"]
)
def test_every_mode_is_seeded_and_varies(mode: str):
    drawn = source({mode: 1.0})
    first, second = (drawn.draw(np.random.default_rng(5), SIZE) for _ in range(2))
    assert first.shape == SIZE
    assert first.dtype == bool
    assert np.array_equal(first, second)
    seen = {drawn.draw(np.random.default_rng(seed), SIZE).tobytes() for seed in range(12)}
    assert len(seen) >= 2


def test_blocks_are_half_of_each_side_everywhere():
    drawn = source({"block": 1.0})
    total = np.zeros(SIZE, int)
    for seed in range(300):
        mask = drawn.draw(np.random.default_rng(seed), SIZE)
        rows, columns = mask.any(1), mask.any(0)
        assert rows.sum() == 32
        assert columns.sum() == 24
        assert mask.sum() == 32 * 24
        total += mask
    assert all(edge.any() for edge in (total[0], total[-1], total[:, 0], total[:, -1]))


def test_halves_are_left_or_right():
    drawn = source({"half": 1.0})
    found = {drawn.draw(np.random.default_rng(s), SIZE)[:, 0].all() for s in range(20)}
    assert found == {True, False}


def test_files_in_order_are_the_same_for_the_same_picture():
    drawn = source({"files-in-order": 1.0})
    for position in range(6):
        mask = drawn.draw(np.random.default_rng(position), SIZE, position)
        assert np.array_equal(mask, masks.fitted(SHAPES[position % 3], SIZE))


def test_mixtures_keep_their_weights():
    drawn = source({"centre": 3.0, "half": 1.0})
    centre = masks.centre(SIZE)
    rngs = (np.random.default_rng(seed) for seed in range(400))
    share = np.mean([np.array_equal(drawn.draw(rng, SIZE), centre) for rng in rngs])
    assert 0.67 < share < 0.83


def test_shares_are_kept_or_said_to_be_impossible():
    drawn = source({"boxes": 1.0}, shares=(0.2, 0.3))
    for seed in range(30):
        assert 0.2 <= drawn.draw(np.random.default_rng(seed), SIZE).mean() <= 0.3
    with pytest.raises(ValueError, match=r"mask modes centre gave no hole share in \[0.5, 0.6\]"):
        source({"centre": 1.0}, shares=(0.5, 0.6)).draw(np.random.default_rng(0), SIZE)


@pytest.mark.parametrize("kind", ["flip", "quarter-turns", "turn", "grow"])
def test_augmentation_changes_masks_and_keeps_their_size(kind: MaskAugment):
    plain = source({"files-in-order": 1.0}).draw(np.random.default_rng(0), (64, 64))
    drawn = source({"files-in-order": 1.0}, mask_augment=(kind,))
    made = [drawn.draw(np.random.default_rng(seed), (64, 64)) for seed in range(30)]
    assert all(mask.shape == (64, 64) for mask in made)
    assert any(not np.array_equal(mask, plain) for mask in made)
    if kind == "grow":
        grown = [mask for mask in made if not np.array_equal(mask, plain)]
        assert 2 <= len(grown) <= 16
        assert all(mask[plain].all() for mask in grown)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modes": {"squares": 1.0}}, "modes has no .*squares.*; there are mixed"),
        ({"modes": {}}, "modes need weights"),
        ({"modes": {"files": 1.0}}, "need mask files"),
        ({"jitter": 0.7}, "jitter must lie"),
    ],
)
def test_impossible_settings_say_so(change: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        DataConfig(pictures=("x",), **change)  # pyright: ignore[reportArgumentType]


def test_none_leaves_pictures_whole_but_never_a_whole_step():
    config = DataConfig(pictures=("x",), size=32, modes={"none": 3.0, "block": 1.0})
    sampler = Sampler([np.zeros((40, 40, 3), np.uint8)] * 4, [], config, seed=0)
    empty = [not sampler.sample(position, 4).hole.any() for position in range(200)]
    assert not any(empty[::4])
    assert 0.6 < np.mean([value for place, value in enumerate(empty) if place % 4]) < 0.9
    with pytest.raises(ValueError, match="need one beside none"):
        DataConfig(pictures=("x",), modes={"none": 1.0})
