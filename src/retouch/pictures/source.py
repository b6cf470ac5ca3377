"""The bytes of one file, and the fences round decoders: limits, and one line for every failure."""

from __future__ import annotations

import logging
import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from retouch.pictures.picture import PictureError

MAX_PIXELS = 500_000_000
"""Pictures with more pixels are refused unless the caller allows more."""
MAX_METADATA = 64 << 20
"""Blocks of metadata larger than this are left out [byte]."""

# What decoders raise on damaged files. Our own errors would hide here: only decoders are fenced.
DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # the errors of imagecodecs
    SyntaxError,  # Pillow: "not a PNG file"
    TypeError,
    ValueError,
    Warning,  # where warnings are errors
    struct.error,
    zlib.error,
)

_inside: ContextVar[bool] = ContextVar("inside", default=False)


@dataclass(frozen=True)
class Source:
    """An open file to decode."""

    path: Path
    data: mmap.mmap
    max_pixels: int = MAX_PIXELS

    def file(self) -> IO[bytes]:
        """Rewind the data, for decoders that want a file."""
        self.data.seek(0)
        return cast("IO[bytes]", self.data)

    def refuse(self, problem: str) -> PictureError:
        """Make the error of this file: what is wrong, and what to do."""
        return PictureError(f"{self.path}: {problem}")

    def damaged(self, problem: str) -> PictureError:
        """Make the error of a damaged file."""
        return self.refuse(f"{problem}; the file is damaged, get another copy of it")

    def check_size(self, width: int, height: int, densest: float) -> None:
        """Refuse sizes that are empty, over the limit, or impossible for so few bytes.

        Args:
            width: Columns [px].
            height: Rows [px].
            densest: Most pixels that one byte of this format can encode.
        """
        if width < 1 or height < 1:
            raise self.damaged(f"its size is {width} x {height} px")
        pixels = width * height
        if pixels > self.max_pixels:
            raise self.refuse(
                f"{width} x {height} = {pixels / 1e6:.0f} megapixels is over the limit of "
                f"{self.max_pixels / 1e6:.0f}; scale it down, or raise max_pixels"
            )
        if pixels > densest * len(self.data):
            raise self.damaged(f"{len(self.data)} bytes cannot hold {width} x {height} px")


@contextmanager
def opened(path: Path, max_pixels: int) -> Iterator[Source]:
    """Map a file into memory.

    Raises:
        PictureError: If it is missing, empty, no regular file, or may not be read.
    """
    try:
        if path.is_dir():
            raise PictureError(f"{path}: this is a folder; name a picture in it")
        if path.exists() and not path.is_file():
            raise PictureError(f"{path}: this is no regular file; copy it to one")
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise PictureError(f"{path}: the file is empty; get another copy of it")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise PictureError(f"{path}: there is no such file; check the name") from None
    except PermissionError:
        raise PictureError(f"{path}: reading is not permitted; change its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise PictureError(
            f"{path}: cannot be opened ({one_line(error)}); check the name"
        ) from None
    try:
        yield Source(path, data, max_pixels)
    finally:
        with suppress(BufferError):  # a traceback may still hold a view
            data.close()


@contextmanager
def fenced(source: Source) -> Iterator[None]:
    """Turn whatever a decoder raises into one clear line, and keep tifffile's own log silent."""
    logging.getLogger("tifffile").addFilter(_is_outside)
    token = _inside.set(True)
    try:
        yield
    except PictureError:
        raise
    except MemoryError as error:
        raise source.refuse("not enough memory for it; scale it down") from error
    except DECODER_ERRORS as error:
        raise source.damaged(f"it cannot be decoded ({one_line(error)})") from error
    finally:
        _inside.reset(token)


def _is_outside(record: logging.LogRecord) -> bool:
    return not _inside.get()


def one_line(error: BaseException) -> str:
    """Shorten an error's message to one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
