"""EXIF, profiles, resolution, text and encoding survive; thumbnails of the old picture do not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin

from retouch import pictures
from retouch.pictures import exif as exif_blocks
from retouch.pictures import ifd

Smooth = Callable[..., np.ndarray]
_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_MAKER_NOTE = bytes(range(200))


def _exif(thumbnail: bytes | None = None) -> bytes:
    """Lay out an EXIF block as cameras do: big-endian, maker note, GPS, thumbnail behind."""
    form = ifd.Layout(">")
    date = b"2020:01:02 03:04:05\0"
    details = (
        ifd.Entry(0x9003, 2, len(date), date),
        ifd.Entry(0x927C, 7, len(_MAKER_NOTE), _MAKER_NOTE),
        ifd.Entry(0xA002, 4, 1, struct.pack(">I", 40)),
        ifd.Entry(0xA003, 4, 1, struct.pack(">I", 30)),
    )
    first = [
        ifd.Entry(271, 2, 6, b"Maker\0"),
        ifd.Entry(274, 3, 1, struct.pack(">H", 1)),
        ifd.Entry(34665, 4, 1, b"", children=details),
        ifd.Entry(34853, 4, 1, b"", children=(ifd.Entry(1, 2, 2, b"N\0"),)),
    ]
    length = len(ifd.serialise(first, form, 8))
    head = b"MM\0*" + struct.pack(">I", 8)
    if thumbnail is None:
        return head + ifd.serialise(first, form, 8)
    second_place = 8 + length
    second = [
        ifd.Entry(513, 4, 1, b"0000"),
        ifd.Entry(514, 4, 1, struct.pack(">I", len(thumbnail))),
    ]
    start = second_place + len(ifd.serialise(second, form, second_place))
    second[0] = ifd.Entry(513, 4, 1, struct.pack(">I", start))
    body = ifd.serialise(first, form, 8, following=second_place)
    return head + body + ifd.serialise(second, form, second_place) + thumbnail


def _fill(picture: pictures.Picture) -> pictures.Picture:
    return picture.replace(np.full((5, 6, 3), 0.4), top=3, left=2)


def _maker_note(path: Path) -> object:
    with Image.open(path) as image:
        return image.getexif().get_ifd(0x8769).get(0x927C)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_profile_and_xmp_survive_byte_for_byte(suffix: str, smooth: Smooth, tmp_path: Path):
    block, packet = _exif(), b"<x:xmpmeta>\xc3\xbc</x:xmpmeta>"
    options: dict[str, Any] = {"exif": b"Exif\0\0" + block, "icc_profile": _ICC}
    if suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        options["pnginfo"] = info
    else:
        options["xmp"] = packet
    Image.fromarray(smooth(30, 40)).save(tmp_path / f"a{suffix}", **options)
    pictures.write(tmp_path / f"b{suffix}", _fill(pictures.read(tmp_path / f"a{suffix}")))
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.info["exif"].removeprefix(b"Exif\0\0") == block
        assert image.info["icc_profile"] == _ICC
        assert image.info["xmp"] == packet


@pytest.mark.parametrize("target", [".jpg", ".png", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("source", [".jpg", ".png", ".tif", ".webp"])
def test_metadata_crosses_formats(source: str, target: str, smooth: Smooth, tmp_path: Path):
    Image.fromarray(smooth(30, 40)).save(
        tmp_path / f"a{source}", exif=b"Exif\0\0" + _exif(), icc_profile=_ICC, dpi=(300, 150)
    )
    pictures.write(tmp_path / f"b{target}", pictures.read(tmp_path / f"a{source}"))
    with Image.open(tmp_path / f"b{target}") as image:
        tags = image.getexif()
        assert tags[271] == "Maker"
        assert tags.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
        assert tags.get_ifd(0x8825)[1] == "N"
        assert image.info["icc_profile"] == _ICC
        if target in (".jpg", ".png", ".tif") and source != ".webp":
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.1)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_encoded_as_it_was(
    subsampling: int, progressive: bool, smooth: Smooth, tmp_path: Path
):
    tables = [[3 + (7 * i) % 50 for i in range(64)], [5 + (3 * i) % 70 for i in range(64)]]
    Image.fromarray(smooth(60, 80)).save(
        tmp_path / "a.jpg",
        qtables=tables,
        subsampling=subsampling,
        progressive=progressive,
        comment="a comment",
    )
    before = pictures.read(tmp_path / "a.jpg")
    pictures.write(tmp_path / "b.jpg", before)
    with Image.open(tmp_path / "a.jpg") as a, Image.open(tmp_path / "b.jpg") as b:
        assert isinstance(a, JpegImagePlugin.JpegImageFile)
        assert isinstance(b, JpegImagePlugin.JpegImageFile)
        assert b.quantization == a.quantization
        assert JpegImagePlugin.get_sampling(b) == JpegImagePlugin.get_sampling(a) == subsampling
        assert b.info.get("progressive") == a.info.get("progressive")
        assert b.info["comment"] == b"a comment"
    after = pictures.read(tmp_path / "b.jpg")
    assert np.abs(after.pixels.astype(int) - before.pixels).mean() < (
        1 if subsampling == 2 else 0.5
    )


def test_jpeg_density_survives_exactly(smooth: Smooth, tmp_path: Path):
    Image.fromarray(smooth(20, 30)).save(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    data[13:18] = struct.pack(">BHH", 2, 118, 59)
    (tmp_path / "a.jpg").write_bytes(data)
    picture = pictures.read(tmp_path / "a.jpg")
    assert picture.metadata.dpi == pytest.approx((118 * 2.54, 59 * 2.54))
    pictures.write(tmp_path / "b.jpg", picture)
    assert (tmp_path / "b.jpg").read_bytes()[13:18] == data[13:18]


def test_a_turned_jpeg_keeps_its_tables_in_the_new_direction(smooth: Smooth, tmp_path: Path):
    table = [1 + i for i in range(64)]
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(smooth(64, 96)).save(tmp_path / "a.jpg", qtables=[table], exif=exif)
    before = pictures.read(tmp_path / "a.jpg")
    pictures.write(tmp_path / "b.jpg", before)
    with Image.open(tmp_path / "b.jpg") as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        assert image.quantization[0] == np.reshape(table, (8, 8)).T.ravel().tolist()


def test_grey_and_rgb_jpegs_stay_so(smooth: Smooth, tmp_path: Path):
    Image.fromarray(smooth(20, 30, 1)).save(tmp_path / "grey.jpg")
    Image.fromarray(smooth(20, 30)).save(tmp_path / "rgb.jpg", keep_rgb=True, subsampling=0)
    for name in ("grey", "rgb"):
        pictures.write(tmp_path / f"{name}2.jpg", pictures.read(tmp_path / f"{name}.jpg"))
    with Image.open(tmp_path / "grey2.jpg") as image:
        assert image.mode == "L"
    with Image.open(tmp_path / "rgb2.jpg") as image:
        assert image.info["adobe_transform"] == 0


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_the_thumbnail_of_the_old_picture_is_gone(suffix: str, smooth: Smooth, tmp_path: Path):
    thumbnail = io.BytesIO()
    Image.fromarray(smooth(12, 16)).save(thumbnail, "JPEG")
    block = _exif(thumbnail.getvalue())
    Image.fromarray(smooth(30, 40)).save(tmp_path / f"a{suffix}", exif=b"Exif\0\0" + block)
    assert thumbnail.getvalue() in (tmp_path / f"a{suffix}").read_bytes()
    pictures.write(tmp_path / f"b{suffix}", pictures.read(tmp_path / f"a{suffix}"))
    assert thumbnail.getvalue()[20:] not in (tmp_path / f"b{suffix}").read_bytes()
    assert _maker_note(tmp_path / f"b{suffix}") == _MAKER_NOTE
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert not image.getexif().get_ifd(1)


def test_photoshop_thumbnails_are_removed_and_the_rest_is_kept(smooth: Smooth, tmp_path: Path):
    kept = b"8BIM\x04\x04\0\0\0\0\0\x05hello\0"
    thumbnail = b"8BIM\x04\x0c\0\0\0\0\0\x04face"
    segment = exif_blocks.PHOTOSHOP + thumbnail + kept
    extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    Image.fromarray(smooth(20, 30)).save(tmp_path / "a.jpg", extra=extra)
    pictures.write(tmp_path / "b.jpg", pictures.read(tmp_path / "a.jpg"))
    data = (tmp_path / "b.jpg").read_bytes()
    assert exif_blocks.PHOTOSHOP + kept in data
    assert b"face" not in data


def test_further_pictures_in_a_jpeg_are_left_out_and_told(
    smooth: Smooth, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    image = Image.fromarray(smooth(20, 30))
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image])
    picture = pictures.read(tmp_path / "a.jpg")
    assert "gain map" in caplog.text
    pictures.write(tmp_path / "b.jpg", picture)
    assert b"MPF\0" not in (tmp_path / "b.jpg").read_bytes()


def _chunk(kind: bytes, payload: bytes) -> bytes:
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


def test_png_chunks_survive_byte_for_byte(smooth: Smooth, tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Somebody")
    info.add_text("Long", "x" * 5000, zip=True)
    info.add_itxt("Title", "Über", "de", "Titel")
    Image.fromarray(smooth(20, 30)).save(
        tmp_path / "a.png", pnginfo=info, icc_profile=_ICC, dpi=(72, 36)
    )
    data = (tmp_path / "a.png").read_bytes()
    gamma = _chunk(b"gAMA", struct.pack(">I", 45455))
    private, unsafe = _chunk(b"prIv", b"copy me"), _chunk(b"prIV", b"not me")
    (tmp_path / "a.png").write_bytes(data[:33] + gamma + private + unsafe + data[33:])
    picture = pictures.read(tmp_path / "a.png")
    assert dict(picture.metadata.text) == {
        "Author": "Somebody",
        "Long": "x" * 5000,
        "Title": "Über",
    }
    assert picture.metadata.icc == _ICC
    pictures.write(tmp_path / "b.png", _fill(picture))
    result = (tmp_path / "b.png").read_bytes()
    assert gamma in result
    assert private in result
    assert unsafe not in result
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert isinstance(a, PngImagePlugin.PngImageFile)
        assert isinstance(b, PngImagePlugin.PngImageFile)
        assert b.text == a.text
        assert b.info["dpi"] == a.info["dpi"]
        assert b.info["icc_profile"] == _ICC


def test_a_promoted_palette_loses_what_depends_on_it(smooth: Smooth, tmp_path: Path):
    Image.fromarray(smooth(20, 30)).quantize(16).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    place = data.index(b"IDAT") - 4
    background = _chunk(b"bKGD", b"\3")
    (tmp_path / "a.png").write_bytes(data[:place] + background + data[place:])
    picture = pictures.read(tmp_path / "a.png")
    pictures.write(tmp_path / "same.png", picture)
    pictures.write(tmp_path / "new.png", _fill(picture))
    assert background in (tmp_path / "same.png").read_bytes()
    assert b"bKGD" not in (tmp_path / "new.png").read_bytes()


@pytest.mark.parametrize("big", [False, True])
def test_tiff_tags_survive(big: bool, smooth: Smooth, tmp_path: Path):
    tags = [
        (270, 2, 0, "a description", True),
        (33723, 7, 12, b"\x1c\2\5\0\7a title", True),
        (65000, 2, 0, "private", True),
        (33550, 12, 3, (1.0, 2.0, 3.0), True),
    ]
    tifffile.imwrite(
        tmp_path / "a.tif",
        smooth(20, 30, dtype=np.uint16),
        photometric="rgb",
        compression="lzw",
        predictor=2,
        bigtiff=big,
        metadata=None,
        iccprofile=_ICC,
        extratags=tags,
        resolution=(300, 150),
        byteorder=">",
    )
    pictures.write(tmp_path / "b.tif", _fill(pictures.read(tmp_path / "a.tif")))
    with tifffile.TiffFile(tmp_path / "a.tif") as a, tifffile.TiffFile(tmp_path / "b.tif") as b:
        assert (b.byteorder, b.is_bigtiff, len(b.pages)) == (a.byteorder, big, 1)
        first, second = a.pages[0].aspage(), b.pages[0].aspage()
        for code in (259, 270, 282, 283, 317, 33550, 33723, 34675, 65000):
            assert second.tags[code].value == first.tags[code].value, code


def test_tiff_exif_directories_survive(smooth: Smooth, tmp_path: Path):
    Image.fromarray(smooth(20, 30)).save(tmp_path / "a.tif", exif=b"Exif\0\0" + _exif())
    picture = pictures.read(tmp_path / "a.tif")
    pictures.write(tmp_path / "b.tif", _fill(picture))
    assert _maker_note(tmp_path / "b.tif") == _MAKER_NOTE
    pictures.write(tmp_path / "c.jpg", picture)
    assert _maker_note(tmp_path / "c.jpg") == _MAKER_NOTE


def test_photoshop_layers_and_previews_of_a_tiff_are_left_out(
    smooth: Smooth, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        layers = [(37724, 7, 9, b"old layer", True)]
        file.write(smooth(20, 30), photometric="rgb", metadata=None, extratags=layers)
        file.write(smooth(10, 15), photometric="rgb", metadata=None, subfiletype=1)
    picture = pictures.read(tmp_path / "a.tif")
    assert "layers" in caplog.text
    assert "preview" in caplog.text
    pictures.write(tmp_path / "b.tif", picture)
    assert b"old layer" not in (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize("quality", [40, 75, 90])
def test_webp_quality_is_estimated(quality: int, smooth: Smooth, tmp_path: Path):
    rng = np.random.default_rng(0)
    pixels = smooth(128, 160) // 2 + rng.integers(0, 60, (128, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.webp", quality=quality)
    picture = pictures.read(tmp_path / "a.webp")
    assert picture.metadata.details is not None
    assert abs(picture.metadata.details.quality - quality) <= 8  # pyright: ignore[reportAttributeAccessIssue]
    pictures.write(tmp_path / "b.webp", picture)
    sizes = [(tmp_path / name).stat().st_size for name in ("a.webp", "b.webp")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.3)


def test_bmp_resolution_survives(smooth: Smooth, tmp_path: Path):
    Image.fromarray(smooth(20, 30)).save(tmp_path / "a.bmp", dpi=(300, 150))
    pictures.write(tmp_path / "b.bmp", pictures.read(tmp_path / "a.bmp"))
    with Image.open(tmp_path / "b.bmp") as image:
        assert image.info["dpi"] == pytest.approx((300, 150), abs=0.1)


def test_nonsense_resolution_is_forgotten(smooth: Smooth, tmp_path: Path):
    Image.fromarray(smooth(20, 30)).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[38:42] = b"\xff\xff\xff\xff"
    (tmp_path / "a.bmp").write_bytes(data)
    picture = pictures.read(tmp_path / "a.bmp")
    assert picture.metadata.dpi is None
    pictures.write(tmp_path / "b.bmp", picture)


def test_bmp_alpha_survives(tmp_path: Path):
    rng = np.random.default_rng(0)
    picture = pictures.from_array(rng.integers(0, 256, (7, 9, 4), dtype=np.uint8))
    pictures.write(tmp_path / "a.bmp", picture)
    again = pictures.read(tmp_path / "a.bmp")
    assert again.alpha is not None
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    np.testing.assert_array_equal(again.alpha, picture.alpha)
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.bmp").pixels, picture.pixels)


def test_sixteen_bits_stay_sixteen_and_are_rounded_with_a_notice(
    smooth: Smooth, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    picture = pictures.from_array(smooth(20, 30, dtype=np.uint16))
    pictures.write(tmp_path / "a.png", picture)
    pictures.write(tmp_path / "a.tif", picture)
    for suffix in ("png", "tif"):
        np.testing.assert_array_equal(
            pictures.read(tmp_path / f"a.{suffix}").pixels, picture.pixels
        )
    assert not caplog.text
    pictures.write(tmp_path / "a.bmp", picture)
    assert "rounded to 8" in caplog.text
    expected = np.round(picture.pixels / 257).astype(np.uint8)
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.bmp").pixels, expected)


def test_transparency_does_not_vanish_into_a_jpeg(smooth: Smooth, tmp_path: Path):
    rgba = smooth(20, 30, 4)
    with pytest.raises(pictures.PictureError, match="transparency"):
        pictures.write(tmp_path / "a.jpg", pictures.from_array(rgba))
    rgba[..., 3] = 255
    pictures.write(tmp_path / "a.jpg", pictures.from_array(rgba))
