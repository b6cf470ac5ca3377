"""Damaged and odd files: each gives one clear line or a right result, and never half a file."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from retouch import pictures


def _encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _tiff(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, metadata=None, **options)
    return file.getvalue()


def _sound() -> dict[str, bytes]:
    """Encode one sound file of many kinds, 24 x 37 px."""
    rng = np.random.default_rng(0)
    rgb = np.kron(rng.integers(0, 256, (3, 5, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))[
        :, :37
    ]
    image = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    deep = rgb.astype(np.uint16) * 257
    return {
        "rgb.jpg": _encoded(image, "JPEG", exif=exif, dpi=(72, 72)),
        "progressive.jpg": _encoded(image, "JPEG", progressive=True, icc_profile=b"\0" * 200),
        "grey.jpg": _encoded(image.convert("L"), "JPEG"),
        "cmyk.jpg": _encoded(image.convert("CMYK"), "JPEG"),
        "rgb.png": _encoded(image, "PNG", exif=exif, dpi=(72, 72)),
        "palette.png": _encoded(image.quantize(7), "PNG", transparency=b"\0\x80"),
        "bilevel.png": _encoded(image.convert("1"), "PNG"),
        "deep.png": bytes(imagecodecs.png_encode(deep)),
        "rgb.tif": _encoded(image, "TIFF", exif=exif),
        "lzw.tif": _tiff(deep, photometric="rgb", compression="lzw", predictor=2),
        "tiled.tif": _tiff(rgb, photometric="rgb", compression="deflate", tile=(16, 16)),
        "fax.tif": _encoded(image.convert("1"), "TIFF", compression="group4"),
        "lossy.webp": _encoded(image, "WEBP", exif=exif),
        "lossless.webp": _encoded(image.convert("RGBA"), "WEBP", lossless=True),
        "rgb.bmp": _encoded(image, "BMP"),
        "palette.bmp": _encoded(image.quantize(7), "BMP"),
    }


def _damaged() -> Iterator[tuple[str, bytes]]:
    """Cut, flip, shift and overwrite sound files, and name them wrongly: 18 of each kind."""
    rng = np.random.default_rng(1)
    suffixes = [".jpg", ".png", ".tif", ".webp", ".bmp", ".heic", ".avif"]
    for name, data in _sound().items():
        size = len(data)
        for end in (5, 20, *rng.integers(21, size, 4)):
            yield f"cut-{end}-{name}", data[:end]
        for number in range(4):
            copy = np.frombuffer(data, np.uint8).copy()
            places = rng.integers(0, size, 1 + 2 * number)
            copy[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
            yield f"flip-{number}-{name}", copy.tobytes()
        for place in rng.integers(0, min(size, 80), 3):
            yield f"head-{place}-{name}", data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]
        for place in rng.integers(0, size, 2):
            yield f"insert-{place}-{name}", data[:place] + rng.bytes(9) + data[place:]
        for place in rng.integers(0, size, 2):
            yield f"delete-{place}-{name}", data[:place] + data[place + 9 :]
        suffix = str(rng.choice([s for s in suffixes if s != Path(name).suffix]))
        yield f"wrong-{Path(name).stem}-{Path(name).suffix[1:]}{suffix}", data


DAMAGED = dict(_damaged())


def _try(path: Path) -> pictures.PictureError | None:
    """Read and write again; return the one clear line, if that is what comes."""
    try:
        picture = pictures.read(path)
        assert picture.pixels.size
        pictures.write(path.with_name(f"out{path.suffix}"), picture)
    except pictures.PictureError as error:
        return error
    return None


def _is_one_line(error: pictures.PictureError, path: Path) -> bool:
    text = str(error)
    return "\n" not in text and path.parent.name in text and len(text) < 500


def test_there_are_many_damaged_files():
    assert len(DAMAGED) >= 280


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_gives_one_line_or_a_picture(
    name: str, tmp_path: Path, names: Callable[[], list[str]]
):
    path = tmp_path / name
    path.write_bytes(DAMAGED[name])
    error = _try(path)
    assert error is None or _is_one_line(error, path)
    assert names() in ([name], sorted([name, f"out{path.suffix}"]))
    if name.startswith("cut-5-"):
        assert error is not None


@pytest.mark.parametrize("name", _sound())
def test_a_sound_file_is_read_whatever_its_extension(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data = _sound()[name]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "wrong.xyz").write_bytes(data)
    expected = pictures.read(tmp_path / name)
    assert "whatever its extension" not in caplog.text
    found = pictures.read(tmp_path / "wrong.xyz")
    assert "whatever its extension" in caplog.text
    np.testing.assert_array_equal(found.pixels, expected.pixels)


def _png(width: int, height: int, body: bytes, bits: int = 8, colour: int = 2) -> bytes:
    def chunk(kind: bytes, payload: bytes) -> bytes:
        crc = zlib.crc32(kind + payload)
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def _animation(name: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    return _encoded(frames[0], name, save_all=True, append_images=frames[1:])


_GREY = np.full((4, 6), 90, dtype=np.uint8)
_RGB = np.full((4, 6, 3), 90, dtype=np.uint8)
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "empty"),
    "text.jpg": (b"this is not a picture at all", "no picture"),
    "page.png": (b"<!doctype html><p>404", "web page"),
    "movie.heic": (b"\0\0\0\x20ftypisom" + bytes(50), "video"),
    "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "document.png": (b"%PDF-1.7", "PDF"),
    "layers.tif": (b"8BPS\0\1", "Photoshop"),
    "animated.gif": (_animation("GIF"), "GIF"),
    "animated.png": (_animation("PNG"), "animation"),
    "animated.webp": (_animation("WEBP"), "animation"),
    "bomb.png": (_png(60000, 60000, zlib.compress(bytes(10000))), "over the limit"),
    "hollow.png": (_png(20000, 20000, zlib.compress(bytes(10000))), "cannot hold"),
    "bomb.bmp": (
        b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 1, 1, 0, 0),
        "over the limit",
    ),
    "bomb.jpg": (
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3\1\x11\0\2\x11\0\3\x11\0\xff\xda\0\2",
        "over the limit",
    ),
    "bomb.webp": (
        b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
        "over the limit",
    ),
    "float.tif": (
        _tiff(_GREY.astype(np.float32) / 255, photometric="minisblack"),
        "floating-point",
    ),
    "nan.tif": (
        _tiff(np.full((4, 6), np.nan, np.float32), photometric="minisblack"),
        "floating-point",
    ),
    "signed.tif": (_tiff(_GREY.astype(np.int16), photometric="minisblack"), "signed"),
    "long.tif": (_tiff(_GREY.astype(np.uint32), photometric="minisblack"), "32 bits"),
    "pages.tif": (_tiff(np.stack([_GREY] * 3), photometric="minisblack"), "3 pages"),
    "five.tif": (
        _tiff(np.zeros((4, 6, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
        "5 samples",
    ),
    "lab.tif": (_tiff(_RGB, photometric="cielab"), "photometric 8"),
    "raw.tif": (
        _tiff(_RGB, photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0", True)]),
        "camera raw",
    ),
    "loop.tif": (b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0", "size is 0 x 0"),
    "palette.jpg": (b"\xff\xd8\xff\xfe\xff\xff", "ends before"),
    "twelve.jpg": (
        b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(60),
        "cannot be decoded",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_file_is_refused_with_its_reason(
    name: str, tmp_path: Path, names: Callable[[], list[str]]
):
    data, reason = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    error = _try(tmp_path / name)
    assert error is not None
    assert reason in str(error)
    assert _is_one_line(error, tmp_path / name)
    assert names() == [name]


@pytest.mark.parametrize("shape", [(1, 1), (1, 65000), (65000, 1)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
def test_the_thinnest_pictures_pass(shape: tuple[int, int], suffix: str, tmp_path: Path):
    picture = pictures.from_array(np.full((*shape, 3), 77, dtype=np.uint8))
    pictures.write(tmp_path / f"a{suffix}", picture)
    again = pictures.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again.pixels, picture.pixels)


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16384), (".jpg", 65501)])
def test_too_long_for_the_format_is_refused(
    suffix: str, side: int, tmp_path: Path, names: Callable[[], list[str]]
):
    picture = pictures.from_array(np.zeros((1, side), dtype=np.uint8))
    with pytest.raises(pictures.PictureError, match=r"name the output \.png"):
        pictures.write(tmp_path / f"a{suffix}", picture)
    assert names() == []


def test_the_limit_can_be_set(tmp_path: Path):
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    assert pictures.read(tmp_path / "a.png", max_pixels=10_000).size == (100, 100)
    with pytest.raises(pictures.PictureError, match="over the limit"):
        pictures.read(tmp_path / "a.png", max_pixels=9_999)


@pytest.mark.parametrize("name", _sound())
def test_large_pictures_raise_no_bomb_alarm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Pillow would warn from 89 and fail from 179 megapixels on; the limit here is ours alone."""
    (tmp_path / name).write_bytes(_sound()[name])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert pictures.read(tmp_path / name).pixels.size


def test_high_dynamic_range_is_refused_and_ten_bits_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pytest.importorskip("PIL._avif", reason="this Pillow has no AVIF")
    data = bytearray(_encoded(Image.new("RGB", (32, 32), "red"), "AVIF"))
    place = data.index(b"colrnclx") + 10
    data[place : place + 2] = b"\0\x10"  # PQ
    (tmp_path / "pq.avif").write_bytes(data)
    with pytest.raises(pictures.PictureError, match="high dynamic range"):
        pictures.read(tmp_path / "pq.avif")
    deep = np.full((32, 32, 3), 700, dtype=np.uint16)
    (tmp_path / "ten.avif").write_bytes(imagecodecs.avif_encode(deep, bitspersample=10))
    assert pictures.read(tmp_path / "ten.avif").pixels.dtype == np.uint8
    assert "rounded to 8" in caplog.text


def test_giant_metadata_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("retouch.pictures.png.MAX_METADATA", 1 << 20)
    payload = b"Comment\0" + b"x" * (2 << 20)
    chunk = struct.pack(">I", len(payload)) + b"tEXt" + payload
    chunk += struct.pack(">I", zlib.crc32(b"tEXt" + payload))
    data = _encoded(Image.new("RGB", (8, 8)), "PNG")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    pictures.write(tmp_path / "b.png", pictures.read(tmp_path / "a.png"))
    assert "2 MiB of metadata are left out" in caplog.text
    assert (tmp_path / "b.png").stat().st_size < 1000


def test_a_missing_file_a_folder_and_a_pipe_are_named(tmp_path: Path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in (
        ("missing.png", "no such file"),
        ("folder.png", "folder"),
        ("pipe.png", "no regular file"),
        ("a" * 300 + ".png", "cannot be opened"),
        ("zero\0byte.png", "cannot be opened"),
    ):
        with pytest.raises(pictures.PictureError, match=reason) as caught:
            pictures.read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_permission_errors_become_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    picture = pictures.read(path)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(pictures.PictureError, match="not permitted"):
        pictures.read(path)
    with pytest.raises(pictures.PictureError, match="Permission denied"):
        pictures.write(tmp_path / "b.png", picture)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("b.xyz", "no format has this extension"),
        ("b", "no format has this extension"),
        ("missing/b.png", "folder does not exist"),
        ("folder.png", "this is a folder"),
    ],
)
def test_a_bad_target_is_named(target: str, reason: str, tmp_path: Path):
    (tmp_path / "folder.png").mkdir()
    picture = pictures.from_array(_RGB)
    with pytest.raises(pictures.PictureError, match=reason):
        pictures.write(tmp_path / target, picture)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Callable[[], list[str]]
):
    pictures.write(tmp_path / "a.png", pictures.from_array(_RGB))
    before = (tmp_path / "a.png").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("retouch.pictures.png._chunk", full)
    with pytest.raises(pictures.PictureError, match="No space left"):
        pictures.write(tmp_path / "a.png", pictures.from_array(_RGB + 1))
    assert names() == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Callable[[], list[str]]
):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("retouch.pictures.png._chunk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pictures.write(tmp_path / "a.png", pictures.from_array(_RGB))
    assert names() == []


def test_a_file_may_be_written_over_itself(tmp_path: Path, names: Callable[[], list[str]]):
    path = tmp_path / "a.png"
    Image.fromarray(_RGB).save(path)
    path.chmod(0o640)
    (tmp_path / "link.png").symlink_to(path)
    picture = pictures.read(path)
    pictures.write(tmp_path / "link.png", picture.replace(np.zeros((2, 2, 3), np.uint8)))
    assert names() == ["a.png", "link.png"]
    assert (tmp_path / "link.png").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert not pictures.read(path).pixels[:2, :2].any()
