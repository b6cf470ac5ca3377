"""White is hole; what can only be a mistake is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from retouch import pictures
from retouch.pictures import PictureError, as_mask, mask_from_alpha, read_mask

_HOLE = np.zeros((6, 8), dtype=bool)
_HOLE[1:4, 2:7] = True
_WHITE = _HOLE.astype(np.uint8) * 255


def _save(array: np.ndarray, path: Path, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


_MODES = [
    (suffix, mode)
    for suffix in (".png", ".tif", ".bmp", ".webp")
    for mode in ("L", "RGB", "RGBA", "LA", "P", "1")
    if mode != "LA" or suffix in (".png", ".tif")
]


@pytest.mark.parametrize(("suffix", "mode"), _MODES)
def test_white_is_hole_in_every_file(suffix: str, mode: str, tmp_path: Path):
    path = tmp_path / f"mask{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(_WHITE).convert(mode).save(path, **options)
    np.testing.assert_array_equal(read_mask(path), _HOLE)
    np.testing.assert_array_equal(read_mask(path, invert=True), ~_HOLE)


def test_sixteen_bit_and_jpeg_masks(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tifffile.imwrite(tmp_path / "mask.tif", _WHITE.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), _HOLE)
    assert not caplog.text
    wide = np.kron(_WHITE, np.ones((8, 8), np.uint8))
    wide[5, 5] = 9
    Image.fromarray(wide).save(tmp_path / "mask.jpg", quality=95)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.jpg"), wide > 127)
    assert "are grey" in caplog.text


def test_greys_are_cut_at_half_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    ramp = np.array([[0, 127, 128, 255]], dtype=np.uint8)
    assert read_mask(_save(ramp, tmp_path / "a.png")).tolist() == [[False, False, True, True]]
    assert "50 % of the pixels are grey" in caplog.text
    assert as_mask(ramp).tolist() == [[False, False, True, True]]
    assert as_mask(ramp, invert=True).tolist() == [[True, True, False, False]]


def test_clean_masks_give_no_notice(caplog: pytest.LogCaptureFixture):
    as_mask(_WHITE)
    as_mask(_HOLE)
    as_mask(np.zeros((3, 3), dtype=np.uint8))
    as_mask(_HOLE.astype(np.float32))
    assert not caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.int16])
def test_integers_of_0_and_1_are_refused(dtype: type, tmp_path: Path):
    with pytest.raises(PictureError, match="only 0 and 1"):
        as_mask(_HOLE.astype(dtype))
    with pytest.raises(PictureError, match="only 0 and 1"):
        read_mask(_save(_HOLE.astype(np.uint8), tmp_path / "a.png"))


def test_eight_bits_in_sixteen_are_refused():
    with pytest.raises(PictureError, match="no value over 255"):
        as_mask(_WHITE.astype(np.uint16))


def test_a_one_bit_file_is_no_mistake(tmp_path: Path):
    Image.fromarray(_HOLE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), _HOLE)


@pytest.mark.parametrize(
    "mask",
    [
        _HOLE,
        _HOLE[..., None],
        _WHITE,
        _WHITE[..., None],
        np.stack([_WHITE] * 3, axis=2),
        _WHITE.astype(np.int64),
        _WHITE.astype(np.uint16) * 257,
        _HOLE.astype(np.float32),
        _HOLE.astype(np.float64)[..., None],
        Image.fromarray(_WHITE),
        Image.fromarray(_HOLE),
        Image.fromarray(_HOLE.astype(np.float32)),
        Image.fromarray(_WHITE).convert("RGBA"),
        pictures.from_array(_WHITE),
    ],
    ids=lambda mask: f"{type(mask).__name__}-{getattr(mask, 'dtype', getattr(mask, 'mode', ''))}",
)
def test_arrays_and_pillow_pictures_follow_the_same_rules(mask: np.ndarray):
    np.testing.assert_array_equal(as_mask(mask), _HOLE)
    np.testing.assert_array_equal(as_mask(mask, invert=True), ~_HOLE)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.full((4, 4), 2.0), r"\[0, 1\]"),
        (np.full((4, 4), np.nan), r"\[0, 1\]"),
        (np.full((4, 4), -1), "65535"),
        (np.full((4, 4), 70000), "65535"),
        (np.zeros((4, 4), dtype=complex), "bool, integer or float"),
        (np.zeros(4, dtype=np.uint8), "shape"),
        (np.zeros((4, 4, 7), dtype=np.uint8), "shape"),
        (np.zeros((0, 4), dtype=np.uint8), "empty"),
        (np.zeros((2, 4, 4), dtype=bool), "shape"),
    ],
)
def test_impossible_masks_are_refused(mask: np.ndarray, reason: str):
    with pytest.raises(PictureError, match=reason):
        as_mask(mask)


def test_a_colour_picture_is_no_mask(tmp_path: Path):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    with pytest.raises(PictureError, match="exchanged"):
        read_mask(_save(photo, tmp_path / "a.png"))
    with pytest.raises(PictureError, match="exchanged"):
        as_mask(photo)


def test_transparent_parts_of_a_mask_are_known():
    rgba = np.full((6, 8, 4), 255, dtype=np.uint8)
    rgba[..., 3] = _WHITE
    np.testing.assert_array_equal(as_mask(rgba), _HOLE)
    np.testing.assert_array_equal(as_mask(Image.fromarray(rgba)), _HOLE)


def test_transparency_marks_the_hole(tmp_path: Path):
    rgba = np.full((6, 8, 4), 200, dtype=np.uint8)
    rgba[..., 3] = 255 - _WHITE
    picture = pictures.read(_save(rgba, tmp_path / "a.png"))
    np.testing.assert_array_equal(mask_from_alpha(picture), _HOLE)
    filled = picture.replace(np.zeros((6, 8, 3), np.uint8), _HOLE, opaque=True)
    assert filled.alpha is not None
    assert filled.alpha.min() == 255
    with pytest.raises(PictureError, match="no transparency"):
        mask_from_alpha(pictures.from_array(_WHITE))


def test_half_transparency_is_known():
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = 0, 127, 128
    assert mask_from_alpha(pictures.from_array(rgba)).tolist() == [[True, True, False]]
