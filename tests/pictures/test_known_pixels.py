"""Known pixels of lossless formats are bit-identical after a fill: all sizes, types, formats."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from retouch import pictures


def _pil(array: NDArray[np.uint8], path: Path, mode: str | None = None, **options: Any) -> None:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)


def _few(array: NDArray[np.uint8], path: Path, colors: int, **options: Any) -> None:
    Image.fromarray(array).quantize(colors).save(path, **options)


def _tiff(array: NDArray[np.generic], path: Path, **options: Any) -> None:
    tifffile.imwrite(path, array, metadata=None, **options)


def _grey(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array[..., 0])


def _deep(array: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return array.astype(np.uint16) * 251 + 3


WRITERS: dict[str, Callable[[NDArray[np.uint8], Path], object]] = {
    "rgb.png": lambda a, p: _pil(a[..., :3], p),
    "rgba.png": lambda a, p: _pil(a, p),
    "grey.png": lambda a, p: _pil(_grey(a), p),
    "grey-alpha.png": lambda a, p: _pil(a, p, "LA"),
    "bilevel.png": lambda a, p: _pil(a[..., :3], p, "1"),
    "palette-2bit.png": lambda a, p: _few(a[..., :3], p, 4, bits=2),
    "palette.png": lambda a, p: _few(a[..., :3], p, 250),
    "palette-alpha.png": lambda a, p: _few(a[..., :3], p, 50, transparency=bytes([0, 99, 255])),
    "colour-key.png": lambda a, p: _pil(a[..., :3], p, transparency=tuple(a[0, 0, :3].tolist())),
    "rgb16.png": lambda a, p: p.write_bytes(imagecodecs.png_encode(_deep(a[..., :3]))),
    "rgba16.png": lambda a, p: p.write_bytes(imagecodecs.png_encode(_deep(a))),
    "grey16.png": lambda a, p: p.write_bytes(imagecodecs.png_encode(_deep(_grey(a)))),
    "rgb.tif": lambda a, p: _tiff(a[..., :3], p, photometric="rgb"),
    "rgba-lzw.tif": lambda a, p: _tiff(
        a, p, photometric="rgb", compression="lzw", predictor=2, extrasamples=(2,)
    ),
    "premultiplied.tif": lambda a, p: _tiff(a, p, photometric="rgb", extrasamples=(1,)),
    "grey.tif": lambda a, p: _tiff(_grey(a), p, photometric="minisblack"),
    "white-is-zero.tif": lambda a, p: _tiff(_deep(_grey(a)), p, photometric="miniswhite"),
    "bilevel.tif": lambda a, p: _pil(a[..., :3], p, "1", compression="group4"),
    "palette.tif": lambda a, p: _few(a[..., :3], p, 200),
    "rgb16-big-endian.tif": lambda a, p: _tiff(
        _deep(a[..., :3]), p, photometric="rgb", byteorder=">", compression="deflate", tile=(16, 32)
    ),
    "planar16.tif": lambda a, p: _tiff(
        np.moveaxis(_deep(a[..., :3]), 2, 0), p, photometric="rgb", planarconfig="separate"
    ),
    "big.tif": lambda a, p: _tiff(a[..., :3], p, photometric="rgb", bigtiff=True),
    "rgb.bmp": lambda a, p: _pil(a[..., :3], p),
    "grey.bmp": lambda a, p: _pil(_grey(a), p),
    "bilevel.bmp": lambda a, p: _pil(a[..., :3], p, "1"),
    "palette.bmp": lambda a, p: _few(a[..., :3], p, 60),
    "rgb.webp": lambda a, p: _pil(a[..., :3], p, lossless=True, exact=True),
    "rgba.webp": lambda a, p: _pil(a, p, lossless=True, exact=True),
}

_sides = st.integers(1, 40)
_arrays = st.tuples(_sides, _sides, st.integers(0, 2**32 - 1))


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=12, deadline=None)
@given(recipe=_arrays)
def test_a_fill_changes_the_hole_and_nothing_else(kind: str, recipe: tuple[int, int, int]):
    height, width, seed = recipe
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    hole = rng.random((height, width)) < rng.random()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / kind
        WRITERS[kind](array, source)
        before = pictures.read(source)
        filled = before.replace(rng.random((height, width, 3)), hole)
        target = pictures.write(Path(name) / f"out-{kind}", filled)
        after = pictures.read(target)
    assert after.pixels.dtype == before.pixels.dtype
    assert after.is_grey == before.is_grey
    np.testing.assert_array_equal(after.pixels[~hole], before.pixels[~hole])
    assert (after.alpha is None) == (before.alpha is None)
    if before.alpha is not None and after.alpha is not None:
        np.testing.assert_array_equal(after.alpha, before.alpha)
    if before.metadata.bits >= 8:
        np.testing.assert_array_equal(after.pixels, filled.pixels)
    if not hole.any():
        assert (after.metadata.mode, after.metadata.bits) == (
            before.metadata.mode,
            before.metadata.bits,
        )


@pytest.mark.parametrize("kind", sorted(WRITERS.keys() - {"premultiplied.tif"}))
def test_pixels_are_read_as_other_libraries_read_them(kind: str, tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 256, (13, 17, 4), dtype=np.uint8)
    WRITERS[kind](array, tmp_path / kind)
    picture = pictures.read(tmp_path / kind)
    if picture.pixels.dtype == np.uint16:
        expected = _deep(_grey(array) if picture.is_grey else array[..., :3])
        if kind == "white-is-zero.tif":
            expected = 65535 - expected
        np.testing.assert_array_equal(picture.pixels, expected)
    else:
        with Image.open(tmp_path / kind) as image:
            np.testing.assert_array_equal(picture.rgb, np.asarray(image.convert("RGBA"))[..., :3])
            if picture.alpha is not None:
                alpha = np.asarray(image.convert("RGBA"))[..., 3]
                np.testing.assert_array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("at_once", [0, 1 << 27])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (1, 9, 3), (33, 20, 3)])
@pytest.mark.parametrize("transparent", [False, True])
def test_other_libraries_read_the_png_that_was_written(
    shape: tuple[int, ...],
    dtype: type,
    at_once: int,
    transparent: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("retouch.pictures.png._AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    pixels, alpha = (
        rng.integers(0, np.iinfo(dtype).max, s).astype(dtype) for s in (shape, shape[:2])
    )
    picture = pictures.Picture(pixels=pixels, alpha=alpha if transparent else None)
    written = pictures.write(tmp_path / "a.png", picture)
    expected = [pixels.reshape(*shape[:2], -1)] + [alpha[..., None]] * transparent
    read = imagecodecs.png_decode(written.read_bytes())
    assert read.dtype == dtype
    assert np.array_equal(read.reshape(*shape[:2], -1), np.concatenate(expected, axis=2))
    with Image.open(written) as image:
        image.load()
        assert image.size == (shape[1], shape[0])


def test_a_filled_palette_keeps_its_palette_when_the_colours_are_in_it(tmp_path: Path):
    _few(
        np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8),
        tmp_path / "a.png",
        9,
    )
    picture = pictures.read(tmp_path / "a.png")
    filled = picture.replace(picture.pixels[5:10, 5:10], top=0, left=0)
    pictures.write(tmp_path / "b.png", filled)
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "P"
    np.testing.assert_array_equal(pictures.read(tmp_path / "b.png").pixels, filled.pixels)


def test_a_palette_without_room_becomes_rgb_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    _few(
        np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8),
        tmp_path / "a.png",
        9,
    )
    picture = pictures.read(tmp_path / "a.png")
    filled = picture.replace(np.full((2, 2, 3), 77, dtype=np.uint8))
    pictures.write(tmp_path / "b.png", filled)
    assert "stored as RGB" in caplog.text
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "RGB"


def test_one_bit_stays_one_bit(tmp_path: Path):
    Image.new("1", (30, 20), 1).save(tmp_path / "a.png")
    picture = pictures.read(tmp_path / "a.png")
    grey = np.full((4, 4, 3), 0.2)
    pictures.write(tmp_path / "b.png", picture.replace(grey))
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "1"
        assert not np.asarray(image)[:4, :4].any()


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_keeps_its_samples_outside_the_hole(suffix: str, tmp_path: Path):
    rng = np.random.default_rng(0)
    native = np.kron(rng.integers(0, 256, (3, 4, 4), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    Image.fromarray(native, "CMYK").save(tmp_path / f"a{suffix}")
    picture = pictures.read(tmp_path / f"a{suffix}")
    filled = picture.replace(np.full((8, 8, 3), 200, dtype=np.uint8), top=8, left=8)
    pictures.write(tmp_path / f"b{suffix}", filled)
    with Image.open(tmp_path / f"a{suffix}") as a, Image.open(tmp_path / f"b{suffix}") as b:
        assert b.mode == "CMYK"
        before, after = np.asarray(a).astype(int), np.asarray(b).astype(int)
    changed = np.abs(before - after).max(axis=2)
    known = np.ones(changed.shape, dtype=bool)
    known[8:16, 8:16] = False
    assert changed[known].max() <= (2 if suffix == ".jpg" else 0)
    result = pictures.read(tmp_path / f"b{suffix}")
    assert np.abs(result.pixels[8:16, 8:16].astype(int) - 200).max() <= 2


def test_premultiplied_alpha_is_divided_out_for_other_formats(tmp_path: Path):
    pixels = np.array([[[50, 20, 0, 100], [0, 0, 0, 0], [9, 8, 7, 255]]], dtype=np.uint8)
    _tiff(pixels, tmp_path / "a.tif", photometric="rgb", extrasamples=(1,))
    picture = pictures.read(tmp_path / "a.tif")
    after = pictures.read(pictures.write(tmp_path / "b.png", picture))
    assert after.pixels.tolist() == [[[128, 51, 0], [0, 0, 0], [9, 8, 7]]]
    assert after.alpha is not None
    assert after.alpha.tolist() == [[100, 0, 255]]


def test_a_lossy_format_can_be_left_for_a_lossless_one(tmp_path: Path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    picture = pictures.read(tmp_path / "a.jpg")
    target = pictures.write(tmp_path / "b.jpg", picture, lossless=True)
    assert target == tmp_path / "b.png"
    np.testing.assert_array_equal(pictures.read(target).pixels, picture.pixels)


def test_a_lossy_webp_becomes_lossless_when_asked(tmp_path: Path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "a.webp")
    picture = pictures.read(tmp_path / "a.webp")
    target = pictures.write(tmp_path / "b.webp", picture, lossless=True)
    np.testing.assert_array_equal(pictures.read(target).pixels, picture.pixels)
