"""An open picture: the file's own samples, and the fills that lie over them."""

import io
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch import pictures
from retouch.pictures import Metadata, Picture, PictureError
from retouch.pipeline.holes import Box

if TYPE_CHECKING:
    from retouch.pipeline.selecting import Scene  # imports torch

SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "TIFF": ".tif",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "HEIF": ".heic",
    "AVIF": ".avif",
}
MEDIA = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".heic": "image/heic",
    ".avif": "image/avif",
}


_SCENES = 2
"""States of a picture that stay encoded for clicks."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A fill: the samples that replace others."""

    box: Box
    pixels: NDArray[Any]
    """(h, w, 3) or (h, w), of the picture's type."""
    hole: NDArray[np.bool_]
    """(h, w), where they count."""

    @property
    def nbytes(self) -> int:
        """What it takes [byte]."""
        return self.pixels.nbytes + self.hole.nbytes


@dataclass(eq=False)
class OpenPicture:
    """A picture with its fills by key; states are lists of keys, so undoing costs nothing."""

    picture: Picture
    name: str
    patches: dict[str, Patch] = field(default_factory=dict[str, Patch])
    scenes: "dict[tuple[str, ...], Scene]" = field(default_factory=dict[tuple[str, ...], Any])
    """States as MobileSAM encoded them, by device and fills; the oldest first."""
    _state: tuple[tuple[str, ...], Picture] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def nbytes(self) -> int:
        """What the picture takes, with one filled copy [byte]."""
        arrays = (self.picture.pixels, self.picture.alpha, self.picture.native)
        whole = sum(array.nbytes for array in arrays if array is not None)
        return whole + self.picture.pixels.nbytes

    @property
    def suffix(self) -> str:
        """The extension of the picture's own format."""
        return SUFFIXES[self.picture.metadata.format]

    @property
    def scenes_nbytes(self) -> int:
        """What the encoded states take [byte]."""
        return sum(scene.nbytes for scene in list(self.scenes.values()))

    def keep_scene(self, key: tuple[str, ...], scene: "Scene") -> None:
        """Keep an encoded state; older ones go."""
        with self._lock:
            self.scenes[key] = scene
            while len(self.scenes) > _SCENES:
                del self.scenes[next(iter(self.scenes))]

    def state(self, keys: tuple[str, ...]) -> Picture:
        """Lay fills over the picture.

        Args:
            keys: Fills, the lowest first.

        Raises:
            KeyError: If there is no such fill here.
        """
        with self._lock:
            if self._state is not None and self._state[0] == keys:
                return self._state[1]
            result = self.picture
            for key in keys:
                patch = self.patches[key]
                box, first = patch.box, result is self.picture
                result = result.replace(
                    patch.pixels, patch.hole, top=box.top, left=box.left, copy=first
                )
            self._state = (keys, result)
            return result


def read(data: Path, name: str, max_pixels: int) -> OpenPicture:
    """Open an uploaded picture; its content decides what it is, its name is only shown.

    Raises:
        PictureError: If it cannot be read; the message speaks of `name`.
    """
    try:
        picture = pictures.read(data, max_pixels=max_pixels)
    except PictureError as error:
        raise PictureError(str(error).replace(str(data), name)) from None
    return OpenPicture(picture, name)


def read_mask(data: Path, *, invert: bool, max_pixels: int) -> NDArray[np.bool_]:
    """Open an uploaded mask.

    Raises:
        PictureError: If it cannot be read or is none.
    """
    try:
        return pictures.read_mask(data, invert=invert, max_pixels=max_pixels)
    except PictureError as error:
        raise PictureError(str(error).replace(str(data), "the mask")) from None


def read_patch(data: Path, opened: OpenPicture, top: int, left: int, max_pixels: int) -> Patch:
    """Take a fill back that `encode` had given out.

    Raises:
        PictureError: If it is no such picture, or leaves its picture.
    """
    fill = read(data, "the fill", max_pixels).picture
    if fill.alpha is None:
        raise PictureError("a fill must have transparency")
    box = Box(top, left, fill.height, fill.width)
    picture = opened.picture
    if box.bottom > picture.height or box.right > picture.width or top < 0 or left < 0:
        raise PictureError("the fill leaves the picture")
    pixels = fill.pixels
    if pixels.dtype != picture.pixels.dtype:
        raise PictureError(f"the fill is {pixels.dtype}, the picture {picture.pixels.dtype}")
    return Patch(box=box, pixels=pixels, hole=fill.alpha > 0)


def cut(filled: Picture, hole: NDArray[np.bool_]) -> Patch:
    """Take the filled part out of a picture.

    Args:
        filled: The whole picture.
        hole: (h, w), what was filled.

    Raises:
        PictureError: If nothing was.
    """
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    if not len(rows):
        raise PictureError("the mask is empty: paint over what should go")
    top, left = int(rows[0]), int(columns[0])
    box = Box(top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)
    inside = hole[box.slices].copy()
    pixels = filled.pixels[box.slices].copy()
    pixels[~inside] = 0
    return Patch(box=box, pixels=pixels, hole=inside)


def encode_patch(patch: Patch, metadata: Metadata) -> bytes:
    """Write a fill as PNG, transparent outside the hole, with the picture's colour profile."""
    white = np.iinfo(patch.pixels.dtype).max
    alpha = patch.hole.astype(patch.pixels.dtype) * white
    icc = None if metadata.mode == "cmyk" else metadata.icc
    if patch.pixels.dtype == np.uint8:  # somebody waits for it: quick rather than small
        samples = np.dstack([patch.pixels, alpha])
        if icc is None:
            quick = imagecodecs.PNG.FILTER.SUB
            return bytes(imagecodecs.png_encode(samples, level=1, filter=quick))
        stream = io.BytesIO()
        image = Image.fromarray(samples)
        image.save(stream, "PNG", compress_level=1, icc_profile=icc)
        return stream.getvalue()
    mode = "grey" if patch.pixels.ndim == 2 else "rgb"
    own = Metadata(mode=mode, bits=8 * patch.pixels.dtype.itemsize, icc=icc)
    return encode(Picture(pixels=patch.pixels, alpha=alpha, metadata=own), ".png")[0]


def view(picture: Picture) -> bytes:
    """Write a picture as PNG that any browser shows: 8 bit, with its colour profile."""
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
        alpha = None if alpha is None else (alpha >> 8).astype(np.uint8)
    icc = None if picture.metadata.mode == "cmyk" else picture.metadata.icc
    own = Metadata(mode="grey" if pixels.ndim == 2 else "rgb", icc=icc)
    return encode(Picture(pixels=pixels, alpha=alpha, metadata=own), ".png")[0]


def encode(picture: Picture, suffix: str, *, lossless: bool = False) -> tuple[bytes, str]:
    """Write a picture with its metadata.

    Args:
        picture: The picture.
        suffix: `.png`, `.jpg` ...
        lossless: See `retouch.pictures.write`.

    Returns:
        The file's bytes and its extension, which `lossless` may have changed.

    Raises:
        PictureError: If the format cannot hold the picture.
    """
    with tempfile.TemporaryDirectory(prefix="retouch-") as folder:
        target = Path(folder) / f"picture{suffix}"
        try:
            written = pictures.write(target, picture, lossless=lossless)
        except PictureError as error:
            raise PictureError(str(error).replace(str(target), "the result")) from None
        return written.read_bytes(), written.suffix


def plain_name(name: str | None) -> str:
    """Reduce a client's file name to its last part, printable and short."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    kept = "".join(c for c in last if c.isprintable() and c not in '"<>|?*:')
    return kept[-120:] or "picture"
