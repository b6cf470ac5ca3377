"""Fills many pictures: reading, the network and writing overlap; nothing is left half-written."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch import pictures
from retouch.pictures import Picture, PictureError
from retouch.pipeline import places
from retouch.pipeline.devices import OptionError
from retouch.pipeline.holes import Mask
from retouch.pipeline.inpainter import FillOptions, Inpainter
from retouch.pipeline.places import Place, UnreachableError
from retouch.segmentation import palette
from retouch.segmentation.guest import WithSegmenter
from retouch.segmentation.labels import LabelSet

_AHEAD = 2
"""Pictures read before their turn, each in a thread of its own."""
_BEHIND = 2
"""Pictures written while the next is filled: a PNG may take longer to encode than its holes."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to fill."""

    picture: Place
    mask: Place | None
    """None: the picture's transparent part is the hole."""
    output: Place
    labels: Place | None = None


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How masks are understood and pictures written."""

    invert_mask: bool = False
    """Black is the hole."""
    resize_mask: bool = False
    """Bring a mask of another size to the picture's."""
    lossless: bool = False
    """Write PNG or TIFF where the picture's own format loses."""
    run: str = ""
    """Name of the run in drafts, so that what killed writers leave can be swept; see `places`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job."""

    job: Job
    written: Place | None = None
    error: str | None = None
    """One line, or None if all went well."""
    transient: bool = False
    """Whether another try may mend the error."""
    worker: str = ""
    """Who filled it, on a cluster."""


Labels = NDArray[np.uint8]
Opened = tuple[Picture, Mask, Labels | None]
"""Picture, mask and label map of a job."""


def fill_all(
    inpainter: Inpainter,
    jobs: Iterable[Job],
    options: FillOptions = FillOptions(),
    reading: ReadOptions = ReadOptions(),
) -> Iterator[Outcome]:
    """Fill pictures one by one, while the next two are read and the last two written.

    Yields:
        One outcome per job, in order; a picture that fails stops nothing.
    """
    network = inpainter.network
    label_set = network.label_set if isinstance(network, WithSegmenter) else None
    with ThreadPoolExecutor(_AHEAD) as readers, ThreadPoolExecutor(_BEHIND) as writers:
        waiting = iter(jobs)
        opened: deque[tuple[Job, Future[Opened]]] = deque()
        writing: deque[tuple[Job, Future[Place]]] = deque()
        while True:
            while len(opened) < _AHEAD and (job := next(waiting, None)) is not None:
                opened.append((job, readers.submit(open_job, job, reading, label_set)))
            if not opened:
                break
            job, future = opened.popleft()
            try:
                picture, mask, labels = future.result()
                filled = inpainter.fill_picture(picture, mask, options, labels=labels, consume=True)
            except (ValueError, OSError, MemoryError) as error:
                yield from _written(writing, 0)
                yield _failure(job, error)
                continue
            writing.append((job, writers.submit(_save, job, filled, reading)))
            yield from _written(writing, _BEHIND)
        yield from _written(writing, 0)


def open_job(job: Job, reading: ReadOptions, label_set: LabelSet | None = None) -> Opened:
    """Read picture, mask and label map of a job.

    Raises:
        PictureError: If one of them cannot be used; the message names the file.
    """
    with places.at_hand(job.picture) as file:
        picture = pictures.read(file)
    if job.mask is None:
        if picture.alpha is None:
            raise PictureError(f"{job.picture} has no transparency to mark a hole; give a mask")
        return picture, pictures.mask_from_alpha(picture), _labels(job.labels, picture, label_set)
    with places.at_hand(job.mask) as file:
        mask = pictures.read_mask(file, invert=reading.invert_mask)
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


def _labels(path: Place | None, picture: Picture, label_set: LabelSet | None) -> Labels | None:
    if path is None:
        return None
    if label_set is None:
        raise OptionError(f"{path} is a label map, but the network takes none")
    with places.at_hand(path) as file:
        labels = palette.read(file, label_set)
    if labels.shape != picture.size:
        raise PictureError(
            f"{path} is {labels.shape[1]}x{labels.shape[0]} px, the picture"
            f" {picture.width}x{picture.height} px; a label map must have the picture's size"
        )
    return labels


def _save(job: Job, picture: Picture, reading: ReadOptions) -> Place:
    return places.write(job.output, picture, lossless=reading.lossless, run=reading.run)


def _written(writing: "deque[tuple[Job, Future[Place]]]", left: int) -> Iterator[Outcome]:
    while len(writing) > left:
        job, future = writing.popleft()
        try:
            yield Outcome(job=job, written=future.result())
        except (ValueError, OSError, MemoryError) as error:
            yield _failure(job, error)


def _failure(job: Job, error: BaseException) -> Outcome:
    line = " ".join(str(error).split()) or type(error).__name__
    return Outcome(job=job, error=line, transient=isinstance(error, OSError | UnreachableError))


def undone(jobs: Iterable[Job], reading: ReadOptions) -> list[Job]:
    """Leave out jobs whose output is there; outputs take their names only when they are complete.

    Args:
        jobs: Any jobs; each folder is listed once.
        reading: With `lossless`, the PNG or TIFF that stands for another format counts, too.
    """
    listed: dict[Place, set[str]] = {}
    left: list[Job] = []
    for job in jobs:
        folder, wanted = places.parent(job.output), [job.output]
        if folder not in listed:
            listed[folder] = {places.name_of(found) for found in places.contents(folder)}
        if reading.lossless:
            wanted += [places.with_suffix(job.output, suffix) for suffix in (".png", ".tif")]
        if not any(places.name_of(output) in listed[folder] for output in wanted):
            left.append(job)
    return left
