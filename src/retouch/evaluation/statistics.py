"""Intervals of means and tests of differences, without assumptions about their distribution."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retouch.evaluation.distributions import Estimate

__all__ = ["Comparison", "bootstrap_mean", "compare"]

RESAMPLES = 2000
_CELLS = 4_000_000
"""Random numbers held at a time."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Difference of two methods on the same pictures."""

    difference: Estimate
    """Mean of (first minus second) with its 95 % bootstrap interval."""
    p: float
    """Two-sided sign-flip test that the mean difference is zero."""
    wins: float
    """Share of pictures on which the first has the larger value, ties counted half."""
    pairs: int


def bootstrap_mean(values: Sequence[float] | NDArray[np.floating], *, seed: int = 0) -> Estimate:
    """Mean with its 95 % percentile bootstrap interval over pictures.

    Args:
        values: One per picture; NaN is left out. Without any value the result is NaN.
        seed: Of the resampling.
    """
    kept = _finite(values)
    if len(kept) == 0:
        nan = float("nan")
        return Estimate(value=nan, low=nan, high=nan)
    draw = np.random.default_rng(seed)
    means: list[NDArray[np.floating]] = []
    for count in _chunks(RESAMPLES, len(kept)):
        means.append(kept[draw.integers(0, len(kept), (count, len(kept)))].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Estimate(value=float(kept.mean()), low=float(low), high=float(high))


def compare(
    first: Sequence[float] | NDArray[np.floating],
    second: Sequence[float] | NDArray[np.floating],
    *,
    flips: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two methods on the same pictures.

    Args:
        first: One score per picture.
        second: The other method's scores of the same pictures in the same order.
        flips: Random sign patterns of the test; the smallest p is 1 / (flips + 1).
        seed: Of resampling and flips.

    Raises:
        ValueError: If the numbers of scores differ.
    """
    if len(first) != len(second):
        raise ValueError(f"scores must come in pairs, got {len(first)} and {len(second)}")
    gaps = _finite(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64))
    estimate = bootstrap_mean(gaps, seed=seed)
    if len(gaps) == 0:
        return Comparison(difference=estimate, p=float("nan"), wins=float("nan"), pairs=0)
    draw = np.random.default_rng(seed)
    observed = abs(float(gaps.mean()))
    extreme = 0
    for count in _chunks(flips, len(gaps)):
        signs = draw.integers(0, 2, (count, len(gaps)), dtype=np.int8) * 2.0 - 1
        # the tolerance counts sign patterns that differ from the observed one only by rounding
        extreme += int(np.sum(np.abs(signs @ gaps) / len(gaps) >= observed * (1 - 1e-12)))
    wins = float(np.mean(gaps > 0) + np.mean(gaps == 0) / 2)
    p = (extreme + 1) / (flips + 1)
    return Comparison(difference=estimate, p=p, wins=wins, pairs=len(gaps))


def _chunks(total: int, width: int) -> Iterator[int]:
    """Split `total` rows of `width` numbers into parts that fit into memory."""
    rows = max(1, min(500, _CELLS // width))
    for start in range(0, total, rows):
        yield min(rows, total - start)


def _finite(values: Sequence[float] | NDArray[np.floating]) -> NDArray[np.floating]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]
