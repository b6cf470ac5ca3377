"""Columns, rounding, compositing and the scorer."""

import numpy as np
import pytest
from streams import pair

from retouch.evaluation import pixels
from retouch.evaluation.metrics import METRICS, SET_METRICS, Column, Scorer, composite, to_255

TRUTH, PICTURE = pair(64, 56)
MASK = np.zeros((64, 56), dtype=bool)
MASK[20:40, 10:30] = True


@pytest.mark.parametrize(
    "text",
    ["psnr_rgb", "l1_percent.hole", "psnr_rgb.raw.truncated", "l1_percent.hole.raw.unrounded"],
)
def test_columns_are_read_and_written(text: str):
    assert str(Column.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psnr", "no metric 'psnr'; there are psnr_rgb"),
        ("psnr_rgb.grey", "no choice 'grey'"),
        ("ms_ssim_rgb.hole", "cannot be restricted to the hole"),
        ("fid.raw", "8-bit composites only"),
    ],
)
def test_wrong_columns_are_refused(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        Column.parse(text)


def test_every_metric_states_its_definition():
    for name, metric in {**METRICS, **SET_METRICS}.items():
        assert len(metric.definition) > 20, name
        assert (metric.build is not None) == (name in METRICS)
    assert "raw prediction" in Column.parse("psnr_rgb.raw").definition


def test_rounding_is_half_up():
    values = np.array([0, 0.49, 0.5, 1.5, 254.5, 254.4999]) / 255
    assert to_255(values, "rounded").tolist() == [0, 0, 1, 2, 255, 254]
    assert to_255(values, "truncated").tolist() == [0, 0, 0, 1, 254, 254]
    assert to_255(np.array([-1.0, 2.0]), "unrounded").tolist() == [0, 255]
    np.testing.assert_array_equal(to_255(PICTURE, "truncated"), PICTURE)


def test_composites_keep_known_pixels():
    result = composite(TRUTH, PICTURE, MASK)
    np.testing.assert_array_equal(result[~MASK], TRUTH[~MASK])
    np.testing.assert_array_equal(result[MASK], PICTURE[MASK])


def test_the_scorer_applies_each_column():
    columns = ["psnr_rgb", "psnr_rgb.raw", "l1_percent.hole", "l1_percent.raw"]
    scores = Scorer([Column.parse(text) for text in columns]).score(TRUTH, PICTURE, MASK)
    assert list(scores) == columns
    assert scores["psnr_rgb"] == pixels.psnr(TRUTH, composite(TRUTH, PICTURE, MASK))
    assert scores["psnr_rgb.raw"] == pixels.psnr(TRUTH, PICTURE)
    assert scores["l1_percent.hole"] == pixels.l1(TRUTH, PICTURE, MASK)
    assert scores["l1_percent.raw"] == pixels.l1(TRUTH, PICTURE)


def test_an_empty_hole_has_no_hole_score():
    scorer = Scorer([Column.parse("psnr_rgb.hole"), Column.parse("psnr_rgb")])
    scores = scorer.score(TRUTH, PICTURE, np.zeros_like(MASK))
    assert np.isnan(scores["psnr_rgb.hole"])
    assert scores["psnr_rgb"] == 100


def test_the_scorer_refuses_other_shapes():
    scorer = Scorer([Column.parse("psnr_rgb")])
    with pytest.raises(ValueError, match="of its shape"):
        scorer.score(TRUTH, PICTURE[:-1], MASK)
    with pytest.raises(ValueError, match="mask must be bool"):
        scorer.score(TRUTH, PICTURE, MASK[:-1])
    with pytest.raises(ValueError, match="mask must be bool"):
        scorer.score(TRUTH, PICTURE, MASK.astype(np.uint8))  # pyright: ignore[reportArgumentType]
