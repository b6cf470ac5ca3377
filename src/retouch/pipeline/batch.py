"""Fills many pictures: reading, the network and writing overlap; nothing is left half-written."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch import pictures
from retouch.pictures import Picture, PictureError
from retouch.pipeline.devices import OptionError
from retouch.pipeline.holes import Mask
from retouch.pipeline.inpainter import FillOptions, Inpainter
from retouch.segmentation import palette
from retouch.segmentation.labels import LabelSet

_AHEAD = 2
"""Pictures read before their turn."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to fill."""

    picture: Path
    mask: Path | None
    """None: the picture's transparent part is the hole."""
    output: Path
    labels: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How masks are understood and pictures written."""

    invert_mask: bool = False
    """Black is the hole."""
    resize_mask: bool = False
    """Bring a mask of another size to the picture's."""
    lossless: bool = False
    """Write PNG or TIFF where the picture's own format loses."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job."""

    job: Job
    written: Path | None = None
    error: str | None = None
    """One line, or None if all went well."""


Labels = NDArray[np.uint8]
Opened = tuple[Picture, Mask, Labels | None]
"""Picture, mask and label map of a job."""


def fill_all(
    inpainter: Inpainter,
    jobs: Iterable[Job],
    options: FillOptions = FillOptions(),
    reading: ReadOptions = ReadOptions(),
) -> Iterator[Outcome]:
    """Fill pictures one by one; while one is filled, the next is read and the last written.

    Yields:
        One outcome per job, in order; a picture that fails stops nothing.
    """
    label_set: LabelSet | None = inpainter.network.label_set if inpainter.card.labels else None
    with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(1) as writers:
        waiting = iter(jobs)
        opened: deque[tuple[Job, Future[Opened]]] = deque()
        writing: deque[tuple[Job, Future[Path]]] = deque()
        while True:
            while len(opened) < _AHEAD and (job := next(waiting, None)) is not None:
                opened.append((job, readers.submit(open_job, job, reading, label_set)))
            if not opened:
                break
            job, future = opened.popleft()
            try:
                picture, mask, labels = future.result()
                filled = inpainter.fill_picture(picture, mask, options, labels=labels)
            except (ValueError, OSError, MemoryError) as error:
                yield from _written(writing, 0)
                yield Outcome(job=job, error=_line(error))
                continue
            writing.append((job, writers.submit(_save, job, filled, reading.lossless)))
            yield from _written(writing, 1)
        yield from _written(writing, 0)


def open_job(job: Job, reading: ReadOptions, label_set: LabelSet | None = None) -> Opened:
    """Read picture, mask and label map of a job.

    Raises:
        PictureError: If one of them cannot be used; the message names the file.
    """
    picture = pictures.read(job.picture)
    if job.mask is None:
        return picture, pictures.mask_from_alpha(picture), _labels(job.labels, picture, label_set)
    mask = pictures.read_mask(job.mask, invert=reading.invert_mask)
    if mask.shape != picture.size:
        if not reading.resize_mask:
            raise PictureError(
                f"{job.mask} is {mask.shape[1]}x{mask.shape[0]} px, but {job.picture} is"
                f" {picture.width}x{picture.height} px; --resize-mask enlarges or shrinks it"
            )
        mask = resize_mask(mask, picture.size)
    return picture, mask, _labels(job.labels, picture, label_set)


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Bring a mask to another size; a pixel that is partly hole becomes hole.

    Args:
        mask: True = hole.
        size: (h, w) of the result [px].
    """
    shrinks = size[0] <= mask.shape[0] and size[1] <= mask.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    share = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=method)
    return share > (1e-4 if shrinks else 0.5)


def _labels(path: Path | None, picture: Picture, label_set: LabelSet | None) -> Labels | None:
    if path is None:
        return None
    if label_set is None:
        raise OptionError(f"{path} is a label map, but the network takes none")
    labels = palette.read(path, label_set)
    if labels.shape != picture.size:
        raise PictureError(
            f"{path} is {labels.shape[1]}x{labels.shape[0]} px, the picture"
            f" {picture.width}x{picture.height} px; a label map must have the picture's size"
        )
    return labels


def _save(job: Job, picture: Picture, lossless: bool) -> Path:
    job.output.parent.mkdir(parents=True, exist_ok=True)
    return pictures.write(job.output, picture, lossless=lossless)


def _written(writing: "deque[tuple[Job, Future[Path]]]", left: int) -> Iterator[Outcome]:
    while len(writing) > left:
        job, future = writing.popleft()
        try:
            yield Outcome(job=job, written=future.result())
        except (ValueError, OSError, MemoryError) as error:
            yield Outcome(job=job, error=_line(error))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
