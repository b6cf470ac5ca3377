"""Pictures in memory: replacing, cropping, and the door to arrays and Pillow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retouch.pictures import Picture, PictureError, from_array, from_pil, to_pil
from retouch.pictures.picture import luma

_RNG = np.random.default_rng(0)
_RGB = _RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)


def test_replace_changes_only_the_hole_and_leaves_the_original():
    picture = from_array(_RGB.copy())
    hole = np.eye(4, 5, dtype=bool)
    filled = picture.replace(np.full((4, 5, 3), 7, np.uint8), hole, top=2, left=3)
    expected = _RGB.copy()
    expected[2:6, 3:8][hole] = 7
    np.testing.assert_array_equal(filled.pixels, expected)
    np.testing.assert_array_equal(picture.pixels, _RGB)
    in_place = picture.replace(np.full((4, 5, 3), 7, np.uint8), hole, top=2, left=3, copy=False)
    assert in_place.pixels is picture.pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_floats_are_scaled_to_the_type(dtype: type):
    picture = from_array(np.zeros((2, 2, 3), dtype=dtype))
    filled = picture.replace(np.array([[[0.0, 0.5, 1.0]]]))
    white = np.iinfo(dtype).max
    assert filled.pixels[0, 0].tolist() == [0, round(white / 2), white]


def test_grey_takes_colour_as_luma_and_colour_takes_grey():
    grey = from_array(np.zeros((2, 2), dtype=np.uint8))
    assert grey.replace(np.full((1, 1, 3), 90, np.uint8)).pixels[0, 0] == 90
    colour = from_array(np.zeros((2, 2, 3), dtype=np.uint8))
    assert colour.replace(np.full((1, 1), 90, np.uint8)).pixels[0, 0].tolist() == [90] * 3


def test_luma_of_grey_is_exact():
    grey = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(luma(np.stack([grey] * 3, axis=1)), grey)


def test_luma_is_pillows():
    expected = np.asarray(Image.fromarray(_RGB).convert("L"))
    np.testing.assert_array_equal(luma(_RGB), expected)


def test_rgb_and_crop():
    grey = from_array(_RGB[..., 0])
    assert grey.rgb.shape == (9, 12, 3)
    crop = grey.crop(1, 2, 3, 4)
    assert crop.flags.c_contiguous
    assert crop.flags.writeable
    np.testing.assert_array_equal(crop[..., 2], _RGB[1:4, 2:6, 0])
    picture = from_array(_RGB)
    crop = picture.crop(0, 0, 2, 2)
    crop[:] = 0
    np.testing.assert_array_equal(picture.pixels, _RGB)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda p: p.crop(8, 0, 2, 2), "leaves the picture"),
        (lambda p: p.crop(-1, 0, 2, 2), "leaves the picture"),
        (lambda p: p.crop(0, 0, 0, 2), "leaves the picture"),
        (lambda p: p.replace(np.zeros((2, 2, 3), np.uint8), left=11), "leaves the picture"),
        (lambda p: p.replace(np.zeros((2, 2, 3), np.uint16)), "must be uint8 or float"),
        (lambda p: p.replace(np.full((2, 2, 3), 1.5)), r"\[0, 1\]"),
        (lambda p: p.replace(np.full((2, 2, 3), np.nan)), r"\[0, 1\]"),
        (lambda p: p.replace(np.zeros((2, 2, 3)), np.ones((2, 2))), "hole must be bool"),
        (lambda p: p.replace(np.zeros((2, 2, 3)), np.ones((3, 2), bool)), "hole must be bool"),
        (lambda p: Picture(pixels=p.pixels, alpha=np.zeros((1, 1), np.uint8)), "alpha must"),
        (lambda _: Picture(pixels=np.zeros((2, 2, 4), np.uint8)), "shape"),
        (lambda _: Picture(pixels=np.zeros((0, 2), np.uint8)), "shape"),
        (lambda _: from_array(np.zeros((2, 2, 3))), "uint8 or uint16"),
        (lambda _: from_array(np.zeros((2, 2, 5), np.uint8)), "shape"),
        (lambda _: from_array(np.zeros((1, 3, 2, 2), np.uint8)), "shape"),
        (lambda _: from_pil(Image.new("F", (2, 2))), "mode F"),
    ],
)
def test_wrong_use_is_refused(call: object, reason: str):
    with pytest.raises(PictureError, match=reason):
        call(from_array(_RGB))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_come_in_as_they_are(channels: int, dtype: type):
    array = _RNG.integers(0, 256, (5, 6, channels)).astype(dtype)
    picture = from_array(array)
    np.testing.assert_array_equal(
        picture.rgb, np.broadcast_to(array[..., : 1 if channels < 3 else 3], (5, 6, 3))
    )
    assert (picture.alpha is not None) == (channels in (2, 4))
    assert picture.metadata.bits == 8 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pillow_pictures_go_in_and_out(mode: str):
    image = Image.fromarray(_RGB).convert("RGB" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(_RGB[..., 0].astype(np.uint16) * 257)
    image.info["dpi"] = (300, 300)
    out = to_pil(from_pil(image))
    assert out.mode == mode
    np.testing.assert_array_equal(np.asarray(out), np.asarray(image))
    if mode != "I;16":
        assert out.info["dpi"] == (300, 300)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr"])
def test_other_pillow_modes_come_in_as_grey_or_rgb(mode: str):
    image = Image.fromarray(_RGB).convert(mode)
    picture = from_pil(image)
    np.testing.assert_array_equal(picture.rgb, np.asarray(image.convert("RGB")))


def test_pillow_has_no_sixteen_bit_colour():
    with pytest.raises(PictureError, match="16-bit colour"):
        to_pil(from_array(_RGB.astype(np.uint16)))


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = Path(__file__).parents[2] / "docs" / "pictures.md"
    example = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    monkeypatch.chdir(tmp_path)
    Image.fromarray(_RGB).save("photo.jpg")
    Image.fromarray(np.eye(9, 12) > 0).save("mask.png")
    exec(example[1], {})
    with Image.open("repaired.jpg") as image:
        assert image.size == (12, 9)
