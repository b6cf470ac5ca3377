"""What a picture is outside its file: samples, transparency, and all it takes to write it back."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from retouch.pictures.ifd import Entry

logger = logging.getLogger(__name__)

Samples = NDArray[Any]
"""An array of uint8 or uint16 samples."""

# ITU-R BT.601 luma in 16-bit fixed point: the weights that Pillow's convert("L") uses.
_LUMA = (19595, 38470, 7471)


class PictureError(ValueError):
    """A picture or mask cannot be read or written; the message is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class JpegDetails:
    """How a JPEG was encoded, so that it can be encoded the same way again."""

    tables: tuple[tuple[int, ...], ...]
    """Quantisation table of each component, 64 values in row order, for the upright picture."""
    subsampling: int
    """Chroma: 0 = 4:4:4, 1 = 4:2:2, 2 = 4:2:0."""
    progressive: bool = False
    stores_rgb: bool = False
    """The file holds RGB and not YCbCr."""
    density: tuple[int, int, int] | None = None
    """JFIF unit (0 none, 1 inch, 2 cm), x and y."""
    segments: tuple[tuple[int, bytes], ...] = ()
    """Marker and payload of the remaining APPn and comment segments."""


@dataclass(frozen=True, kw_only=True)
class PngDetails:
    """The parts of a PNG that are neither pixels nor shared with other formats."""

    colour: int
    """Colour type of the header (PNG, Sec. 11.2.1)."""
    chunks: tuple[tuple[int, bytes, bytes], ...] = ()
    """Place (0 before PLTE, 1 before IDAT, 2 after IDAT), type and payload of ancillary chunks."""


@dataclass(frozen=True, kw_only=True)
class TiffDetails:
    """How a TIFF was laid out, and its tags."""

    byteorder: Literal["<", ">"] = "<"
    big: bool = False
    compression: int = 8
    """Code of tag 259."""
    predictor: int = 1
    photometric: int = 1
    """Code of tag 262."""
    alpha_kind: int = 2
    """Code of tag 338 of the alpha channel: 1 premultiplied, 2 not."""
    tile: tuple[int, int] | None = None
    entries: tuple[Entry, ...] = ()
    """Tags that describe the picture but not its layout; sub-directories are inside their entry."""


@dataclass(frozen=True, kw_only=True)
class WebpDetails:
    """How a WebP was encoded."""

    lossless: bool
    quality: int = 90
    """Estimated from the quantiser of a lossy file [1, 100]."""


Details = JpegDetails | PngDetails | TiffDetails | WebpDetails


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """All that a file says beside its samples."""

    format: str = "PNG"
    """JPEG, PNG, TIFF, WEBP, BMP, HEIF or AVIF."""
    mode: str = "rgb"
    """How the file stores colour: grey, rgb, palette or cmyk."""
    bits: int = 8
    """Bits of one sample (of one palette index for palettes): 1, 2, 4, 8, 10, 12 or 16."""
    orientation: int = 1
    """EXIF orientation that the file asked for [1, 8]; it is already applied to the samples."""
    exif: bytes | None = None
    """EXIF as a TIFF structure, already set upright and without its thumbnail."""
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Resolution across and down [pixels per inch]; None where the file says nonsense."""
    text: tuple[tuple[str, str], ...] = ()
    """Comments as (keyword, text)."""
    palette: NDArray[np.uint8] | None = None
    """(n, 4) RGBA colours of a palette picture."""
    details: Details | None = None
    """What only this format knows."""

    def __post_init__(self) -> None:
        if self.dpi is not None and not all(0 < value < 1e6 for value in self.dpi):
            object.__setattr__(self, "dpi", None)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Picture:
    """A picture the right way up, with everything needed to write it back.

    The arrays belong to the picture: change a copy (`replace`), not them.
    """

    pixels: Samples
    """(h, w, 3) RGB or (h, w) grey, uint8 or uint16, as the picture is seen."""
    alpha: Samples | None = None
    """(h, w) opacity in the same type, or None."""
    metadata: Metadata = Metadata()
    native: NDArray[np.uint8] | None = None
    """(h, w, 4) samples of a CMYK file, of which `pixels` is a rendition; else None."""

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
            raise PictureError(f"pixels must have shape (h, w) or (h, w, 3), got {shape}")
        if dtype not in (np.uint8, np.uint16):
            raise PictureError(f"pixels must be uint8 or uint16, got {dtype}")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise PictureError(
                f"alpha must have shape {shape[:2]} and type {dtype}, "
                f"got {self.alpha.shape} and {self.alpha.dtype}"
            )

    def __repr__(self) -> str:
        alpha = " with alpha" if self.alpha is not None else ""
        return (
            f"Picture({self.width} x {self.height} px, {self.metadata.mode} of "
            f"{self.metadata.bits} bits{alpha}, {self.metadata.format})"
        )

    @property
    def height(self) -> int:
        """Rows [px]."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns [px]."""
        return self.pixels.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) [px]."""
        return self.height, self.width

    @property
    def is_grey(self) -> bool:
        """Whether the picture has one channel."""
        return self.pixels.ndim == 2

    @property
    def white(self) -> int:
        """The largest sample: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)

    @property
    def rgb(self) -> Samples:
        """(h, w, 3) for networks: no copy; grey is repeated in a read-only view (`crop` copies)."""
        if self.is_grey:
            return np.broadcast_to(self.pixels[..., None], (*self.size, 3))
        return self.pixels

    def crop(self, top: int, left: int, height: int, width: int) -> Samples:
        """Copy a box as a contiguous (height, width, 3) RGB array.

        Raises:
            PictureError: If the box leaves the picture.
        """
        self._check_box(top, left, height, width)
        return np.array(self.rgb[top : top + height, left : left + width], order="C")

    def replace(
        self,
        pixels: NDArray[Any],
        hole: NDArray[np.bool_] | None = None,
        *,
        top: int = 0,
        left: int = 0,
        opaque: bool = False,
        copy: bool = True,
    ) -> Picture:
        """Put filled pixels into the hole; every other sample stays as it is, bit for bit.

        Args:
            pixels: (h, w, 3) RGB or (h, w) grey of the picture's type, or floats in [0, 1].
            hole: (h, w), True where `pixels` count; None takes all of them.
            top: Row of the picture where `pixels` begins [px].
            left: Column of the picture where `pixels` begins [px].
            opaque: Make the hole opaque (for holes that were marked by transparency).
            copy: Leave this picture's arrays alone; False writes into them and saves memory.

        Raises:
            PictureError: If the box leaves the picture, or type or range are wrong.
        """
        height, width = pixels.shape[:2]
        self._check_box(top, left, height, width)
        if hole is None:
            hole = np.ones((height, width), dtype=bool)
        if hole.shape != (height, width) or hole.dtype != np.bool_:
            raise PictureError(
                f"hole must be bool of shape {(height, width)}, got {hole.dtype} {hole.shape}"
            )
        box = (slice(top, top + height), slice(left, left + width))
        result = self.pixels.copy() if copy else self.pixels
        flat = pixels.reshape(height * width, *pixels.shape[2:])
        result[box][hole] = self._samples(np.take(flat, np.flatnonzero(hole), axis=0))
        alpha = self.alpha
        if alpha is not None and opaque:
            alpha = alpha.copy() if copy else alpha
            alpha[box][hole] = self.white
        return replace(self, pixels=result, alpha=alpha)

    def save(self, path: str | os.PathLike[str], *, lossless: bool = False) -> Path:
        """Write it with its metadata; see `retouch.pictures.write`."""
        from retouch.pictures.writing import write  # writing needs this module

        return write(path, self, lossless=lossless)

    def _check_box(self, top: int, left: int, height: int, width: int) -> None:
        if min(top, left, height - 1, width - 1) < 0 or (
            top + height > self.height or left + width > self.width
        ):
            raise PictureError(
                f"the box at row {top}, column {left} of {height} x {width} px leaves the picture "
                f"of {self.height} x {self.width} px"
            )

    def _samples(self, values: NDArray[Any]) -> Samples:
        """Bring n values, (n, 3) or (n,), to the picture's type and number of channels."""
        dtype = self.pixels.dtype
        if np.issubdtype(values.dtype, np.floating):
            if values.size and not (values.min() >= 0 and values.max() <= 1):
                raise PictureError(
                    f"float pixels must lie in [0, 1], got {values.min()} to {values.max()}"
                )
            values = np.rint(values * values.dtype.type(self.white)).astype(dtype)
        if values.dtype != dtype:
            raise PictureError(f"pixels must be {dtype} or float, got {values.dtype}")
        if self.is_grey and values.ndim == 2:
            return luma(values)
        if not self.is_grey and values.ndim == 1:
            return np.repeat(values[:, None], 3, axis=1)
        return values


def luma(rgb: Samples) -> Samples:
    """Turn (..., 3) RGB samples to grey of the same type (BT.601, rounded; grey stays exact)."""
    weighted = np.full(rgb.shape[:-1], 32768, dtype=np.uint32)  # at most 65535 * 65536 + 32768
    for channel, weight in enumerate(_LUMA):
        weighted += rgb[..., channel].astype(np.uint32) * np.uint32(weight)
    return (weighted >> np.uint32(16)).astype(rgb.dtype)


def notice(text: str) -> None:
    """Tell of something that the user may want to know: one line to the log."""
    logger.warning("%s", text)
