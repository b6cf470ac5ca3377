"""Mask generators: seeded, in size, with the share that was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch.data import masks

SHAPES = [np.pad(np.ones((40, 60), bool), 20)]
GENERATORS = {
    "boxes": lambda rng, size: masks.boxes(rng, size),
    "strokes": lambda rng, size: masks.strokes(rng, size),
    "silhouette": lambda rng, size: masks.silhouette(rng, size, SHAPES),
    "augmented": lambda rng, size: masks.augmented(rng, size, SHAPES[0]),
}


@pytest.mark.parametrize("name", GENERATORS)
@settings(max_examples=25, deadline=None)
@given(h=st.integers(16, 150), w=st.integers(16, 150), seed=st.integers(0, 2**31))
def test_generators_are_seeded_and_of_the_asked_size(name: str, h: int, w: int, seed: int):
    first = GENERATORS[name](np.random.default_rng(seed), (h, w))
    second = GENERATORS[name](np.random.default_rng(seed), (h, w))
    assert first.shape == (h, w)
    assert first.dtype == bool
    assert np.array_equal(first, second)


def test_generators_vary():
    rng = np.random.default_rng(0)
    for make in GENERATORS.values():
        assert len({make(rng, (64, 64)).tobytes() for _ in range(8)}) > 4


def test_centre_is_the_papers_square():
    mask = masks.centre((256, 256))
    assert mask.sum() == 128 * 128
    assert mask[64:192, 64:192].all()


@pytest.mark.parametrize(("low", "high"), masks.BINS)
def test_share_is_exact(low: float, high: float):
    for seed in range(5):
        share = masks.with_share(np.random.default_rng(seed), (128, 128), low, high).mean()
        assert low < share <= high


def test_impossible_shares_say_so():
    with pytest.raises(ValueError, match="0 <= low < high <= 1"):
        masks.with_share(np.random.default_rng(0), (64, 64), 0.5, 0.2)
    with pytest.raises(ValueError, match="no mask with a hole share"):
        masks.with_share(np.random.default_rng(0), (64, 64), 0.3, 0.3001, tries=5)
