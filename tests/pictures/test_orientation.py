"""EXIF orientation is applied exactly once, in every format that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from retouch import pictures
from retouch.pictures import orientation

_STEPS = np.kron(
    np.array([[0, 60, 120], [180, 240, 30]], dtype=np.uint8), np.ones((16, 16), dtype=np.uint8)
)
_UPRIGHT = np.stack([_STEPS, 255 - _STEPS, np.flipud(_STEPS)], axis=2)


def _stored(value: int) -> np.ndarray:
    return np.ascontiguousarray(orientation.stored(_UPRIGHT, value))


def _write(path: Path, value: int) -> None:
    if path.suffix == ".tif":
        tags = [(274, 3, 1, value, True)]
        tifffile.imwrite(path, _stored(value), photometric="rgb", metadata=None, extratags=tags)
        return
    exif = Image.Exif()
    exif[274] = value
    exif.get_ifd(0x8769)[40962], exif.get_ifd(0x8769)[40963] = _stored(value).shape[1::-1]
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(_stored(value)).save(path, exif=exif, quality=95, subsampling=0, **options)


@pytest.mark.parametrize("value", range(1, 9))
def test_arrays_turn_as_pillow_turns_them(value: int):
    image = Image.fromarray(_stored(value))
    image.getexif()[274] = value
    np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(image)), _UPRIGHT)
    np.testing.assert_array_equal(orientation.upright(_stored(value), value), _UPRIGHT)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_orientation_is_applied_once(suffix: str, value: int, tmp_path: Path):
    tolerance = 6 if suffix == ".jpg" else 0
    _write(tmp_path / f"a{suffix}", value)
    picture = pictures.read(tmp_path / f"a{suffix}")
    assert picture.metadata.orientation == value
    assert np.abs(picture.pixels.astype(int) - _UPRIGHT).max() <= tolerance
    for target in (f"b{suffix}", "c.png", "c.tif", "c.jpg"):
        pictures.write(tmp_path / target, picture)
        again = pictures.read(tmp_path / target)
        assert again.metadata.orientation == 1
        limit = max(tolerance, 6 if target.endswith(".jpg") else 0)
        assert np.abs(again.pixels.astype(int) - _UPRIGHT).max() <= limit
        with Image.open(tmp_path / target) as image:
            assert image.getexif().get(274, 1) == 1
            assert image.size == (48, 32)
            if suffix != ".tif" and value >= 5:
                sides = image.getexif().get_ifd(0x8769)
                assert (sides[40962], sides[40963]) == (48, 32)


@pytest.mark.parametrize("value", [3, 6])
def test_avif_is_turned_as_its_boxes_say(value: int, tmp_path: Path):
    pytest.importorskip("PIL._avif", reason="this Pillow has no AVIF")
    exif = Image.Exif()
    exif[274] = value
    image = Image.fromarray(_stored(value))
    image.save(tmp_path / "a.avif", exif=exif, quality=100, subsampling="4:4:4")
    picture = pictures.read(tmp_path / "a.avif")
    assert np.abs(picture.pixels.astype(int) - _UPRIGHT).max() <= 8
    pictures.write(tmp_path / "b.avif", picture)
    again = pictures.read(tmp_path / "b.avif")
    assert np.abs(again.pixels.astype(int) - _UPRIGHT).max() <= 16


@pytest.mark.parametrize("value", [1, 3, 6, 7])
def test_heic_is_turned_by_its_decoder(value: int, tmp_path: Path):
    heif = pytest.importorskip("pillow_heif", reason="the extra 'heic' is not installed")
    exif = Image.Exif()
    exif[274] = value
    image = heif.from_pillow(Image.fromarray(_stored(value)))
    image.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=95)
    picture = pictures.read(tmp_path / "a.heic")
    upright = _UPRIGHT if picture.size == (32, 48) else None
    assert upright is not None
    pictures.write(tmp_path / "b.heic", picture)
    again = pictures.read(tmp_path / "b.heic")
    assert again.metadata.orientation == 1
    assert np.abs(again.pixels.astype(int) - picture.pixels).mean() <= 4


def test_a_mask_is_turned_like_its_picture(tmp_path: Path):
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[:5, :7] = 255
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(mask).save(tmp_path / "mask.png", exif=exif)
    hole = pictures.read_mask(tmp_path / "mask.png")
    assert hole.shape == (30, 20)
    assert hole[:7, -5:].all()
    assert hole.sum() == 35


def test_xmp_follows(tmp_path: Path):
    packet = b'<x tiff:Orientation="6"/><tiff:Orientation>6</tiff:Orientation>'
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(_stored(6)).save(tmp_path / "a.jpg", exif=exif, xmp=packet)
    pictures.write(tmp_path / "b.jpg", pictures.read(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info["xmp"] == packet.replace(b"6", b"1")
