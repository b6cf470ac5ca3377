"""Classical fillers: known pixels, ranks, exact solutions, the cache."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streams import blocks

from retouch.evaluation import baselines
from retouch.evaluation.baselines import BASELINES, MissingPackageError
from retouch.weights import store

HERE = [name for name in BASELINES if name != "migan"]
MASK = np.zeros((40, 48), dtype=bool)
MASK[10:22, 14:30] = True
MASK[35:, 40:] = True


def ramp() -> np.ndarray:
    """A plane: harmonic and biharmonic functions continue it exactly."""
    y, x = np.mgrid[:40, :48]
    return np.stack([4 * x + y, 2 * y + 60, 200 - 3 * x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("name", HERE)
def test_known_pixels_stay_and_holes_are_not_seen(name: str):
    image = blocks(3, 40, 48)
    filled = baselines.fill(name, image, MASK)
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[~MASK], image[~MASK])
    other = image.copy()
    other[MASK] = 255 - other[MASK]
    np.testing.assert_array_equal(baselines.fill(name, other, MASK)[MASK], filled[MASK])


@pytest.mark.parametrize("name", HERE)
def test_empty_and_full_holes(name: str):
    image = blocks(3, 16, 16)
    empty = baselines.fill(name, image, np.zeros((16, 16), bool))
    np.testing.assert_array_equal(empty, image)
    assert baselines.fill(name, image, np.ones((16, 16), bool)).shape == image.shape


@pytest.mark.parametrize(("name", "tolerance"), [("harmonic", 1), ("biharmonic", 1), ("telea", 25)])
def test_smooth_fillers_continue_a_plane(name: str, tolerance: int):
    inner = MASK.copy()
    inner[35:, 40:] = False
    gap = np.abs(baselines.fill(name, ramp(), inner).astype(int) - ramp())
    assert gap.max() <= tolerance


def test_harmonic_solves_laplace_with_no_flux_over_the_border():
    image = blocks(5, 12, 14)
    mask = np.zeros((12, 14), dtype=bool)
    mask[0:5, 0:6] = True
    filled = baselines.fill("harmonic", image, mask).astype(float)
    values = image[..., 0].astype(float)
    values[mask] = 128
    for _ in range(4000):  # Jacobi, slow and plain
        padded = np.pad(values, 1, mode="edge")
        mean = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
        values = np.where(mask, mean, values)
    assert np.abs(filled[..., 0] - values)[mask].max() <= 0.51


def test_patchmatch_repeats_itself():
    image = blocks(3, 40, 48)
    first, again = (baselines.fill("patchmatch", image, MASK) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_results_are_kept_by_content_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image = blocks(3, 40, 48)
    filled = baselines.fill("telea", image, MASK, tmp_path)
    calls: list[int] = []
    counted = replace(BASELINES["telea"], run=lambda i, _: calls.append(1) or i)
    monkeypatch.setattr(baselines, "BASELINES", {"telea": counted})
    other = image.copy()
    other[MASK] = 0  # nothing a baseline may see has changed
    np.testing.assert_array_equal(baselines.fill("telea", other, MASK, tmp_path), filled)
    assert not calls
    changed = image.copy()
    changed[0, 0] ^= 1
    baselines.fill("telea", changed, MASK, tmp_path)
    monkeypatch.setattr(baselines, "BASELINES", {"telea": replace(counted, package="numpy")})
    baselines.fill("telea", image, MASK, tmp_path)
    assert len(calls) == 2


def test_what_is_missing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETOUCH_WEIGHTS", str(tmp_path))
    reason = baselines.available("migan")
    assert reason is not None
    assert "retouch weights add" in reason
    with pytest.raises(store.MissingWeightsError):
        baselines.fill("migan", blocks(3, 40, 48), MASK)
    absent = replace(BASELINES["patchmatch"], module="no_such_module")
    monkeypatch.setattr(baselines, "BASELINES", {"patchmatch": absent})
    assert 'pip install "retouch[baselines]"' in str(baselines.available("patchmatch"))
    assert issubclass(MissingPackageError, ImportError)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(KeyError, match="telea"):
        baselines.fill("photoshop", blocks(3, 40, 48), MASK)


def test_all_here_can_run():
    assert [name for name in HERE if baselines.available(name) is not None] == []
    assert all(BASELINES[name].version for name in HERE)
