"""Label maps survive every lossless way out and back."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from retouch.segmentation import palette
from retouch.segmentation.labels import LABEL_SETS, LabelSet, label_set

sets = pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=lambda labels: labels.name)


def every_label(labels: LabelSet) -> np.ndarray:
    values = list(labels.table())
    return np.random.default_rng(0).choice(values, (24, 31)).astype(np.uint8)


@sets
def test_indexed_png_round_trip(labels: LabelSet, tmp_path: Path):
    labelled = every_label(labels)
    image = palette.to_image(labelled, labels)
    assert image.mode == "P"
    image.save(tmp_path / "map.png")
    again = Image.open(tmp_path / "map.png")
    assert again.mode == "P"
    assert np.array_equal(np.asarray(again.convert("RGB")), palette.to_colors(labelled, labels))
    assert np.array_equal(palette.read(tmp_path / "map.png", labels), labelled)


@sets
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
def test_other_modes_round_trip(labels: LabelSet, mode: str, tmp_path: Path):
    labelled = every_label(labels)
    if mode in ("L", "I;16"):
        image = Image.fromarray(labelled.astype(np.uint16) if mode == "I;16" else labelled)
    else:
        image = Image.fromarray(palette.to_colors(labelled, labels)).convert(mode)
    image.save(tmp_path / "map.png")
    assert np.array_equal(palette.read(tmp_path / "map.png", labels), labelled)


@sets
def test_reordered_palette_is_read_by_color(labels: LabelSet):
    labelled = every_label(labels)
    painted = Image.fromarray(palette.to_colors(labelled, labels))
    reordered = painted.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    if set(np.unique(np.asarray(reordered.convert("RGB")))) == set(np.unique(np.asarray(painted))):
        assert np.array_equal(palette.read(reordered, labels), labelled)


def test_palette_in_another_order():
    labels = label_set("faces")
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8))
    image.putpalette([*labels.colors[13], *labels.colors[1]])
    assert palette.read(image, labels).tolist() == [[13, 1], [1, 13]]


def test_foreign_palette_is_read_by_number():
    image = Image.fromarray(np.array([[0, 18]], dtype=np.uint8))
    image.putpalette([value for index in range(256) for value in (index, 7, 9)])
    assert palette.read(image, label_set("faces")).tolist() == [[0, 18]]


def test_smoothed_edges_become_no_third_class():
    labels = label_set("faces")
    size = (128, 128)
    painted = Image.new("RGB", (512, 512), labels.colors[13])
    ImageDraw.Draw(painted).ellipse((100, 60, 400, 470), fill=labels.colors[1])
    smooth = np.asarray(painted.resize(size, Image.Resampling.BILINEAR))
    found = palette.from_colors(smooth, labels)
    assert set(np.unique(found).tolist()) == {1, 13}
    sharp = np.asarray(painted.resize(size, Image.Resampling.NEAREST))
    assert (found != palette.from_colors(sharp, labels)).mean() < 0.01


def test_photo_is_no_label_map():
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="no label map of street"):
        palette.from_colors(photo, label_set("street"))


def test_wrong_labels_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="labels 0 to 11, got 12"):
        palette.to_image(np.array([[12]]), label_set("facades"))
    Image.fromarray(np.array([[200]], dtype=np.uint8)).save(tmp_path / "map.png")
    with pytest.raises(ValueError, match="got 200"):
        palette.read(tmp_path / "map.png", label_set("facades"))
    Image.new("RGB", (4, 4)).save(tmp_path / "map.jpg")
    with pytest.raises(ValueError, match="JPEG"):
        palette.read(tmp_path / "map.jpg", label_set("facades"))


@settings(deadline=None)
@given(st.lists(st.integers(0, 18), min_size=1, max_size=40))
def test_any_row_survives(row: list[int]):
    labels = label_set("faces")
    labelled = np.array([row], dtype=np.uint8)
    assert np.array_equal(palette.read(palette.to_image(labelled, labels), labels), labelled)
    assert np.array_equal(
        palette.from_colors(palette.to_colors(labelled, labels), labels), labelled
    )
