"""Bootstrap intervals and paired tests."""

import numpy as np
import pytest
from streams import stream

from retouch.evaluation.statistics import bootstrap_mean, compare


def test_the_interval_covers_as_often_as_it_says():
    hits = 0
    for trial in range(200):
        sample = stream(trial, 40)
        estimate = bootstrap_mean(sample)
        assert estimate.low <= estimate.value <= estimate.high
        hits += estimate.low <= 0.5 <= estimate.high
    assert 0.88 <= hits / 200 <= 0.99


def test_nan_is_left_out():
    estimate = bootstrap_mean([1.0, float("nan"), 3.0])
    assert estimate.value == 2
    assert np.isnan(bootstrap_mean([float("nan")]).value)


def test_equal_methods_do_not_differ():
    values = stream(1, 30)
    result = compare(values, values)
    assert result.difference.value == 0
    assert result.p == 1
    assert result.wins == 0.5


def test_a_clear_difference_is_significant():
    values = stream(1, 30)
    result = compare(values + 0.1 + 0.05 * stream(2, 30), values)
    assert result.p == pytest.approx(1 / 10_001)
    assert result.difference.low > 0.09
    assert result.wins == 1
    assert result.pairs == 30


def test_p_is_uniform_where_there_is_no_difference():
    found = [compare(stream(k, 25), stream(1000 + k, 25), flips=400).p for k in range(120)]
    assert 0.02 <= np.mean(np.array(found) < 0.1) <= 0.2


def test_p_of_few_pairs_is_the_exact_one():
    # all of 2^4 sign patterns: only + + + + and - - - - are as extreme
    result = compare([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0])
    assert result.p == pytest.approx(2 / 16, abs=0.01)


def test_unpaired_scores_are_refused():
    with pytest.raises(ValueError, match="in pairs, got 2 and 1"):
        compare([1, 2], [1])
