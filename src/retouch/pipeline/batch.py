"""Fills many pictures: reading, the network and writing overlap; nothing is left half-written."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from operator import length_hint
from threading import Event, Semaphore

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from retouch import pictures
from retouch.pictures import Picture, PictureError
from retouch.pipeline import places
from retouch.pipeline.devices import OptionError
from retouch.pipeline.holes import Mask
from retouch.pipeline.inpainter import Inpainter
from retouch.pipeline.openvino import OpenVINO
from retouch.pipeline.options import FillOptions
from retouch.pipeline.places import Place, UnreachableError
from retouch.segmentation import palette
from retouch.segmentation.guest import WithSegmenter
from retouch.segmentation.labels import LabelSet

_BESIDE = 3
"""Pictures that are read or written while others are filled."""


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
    *,
    together: int | None = None,
) -> Iterator[Outcome]:
    """Fill pictures side by side, while others are read and written.

    On a CPU as many are filled at once as torch has threads, and these are shared out: two crops
    on a thread each are done sooner than one after the other on two. A GPU takes one at a time.

    Args:
        inpainter: Fills them.
        jobs: Taken one by one, a few ahead of the outcomes.
        options: How holes are filled.
        reading: How masks are understood and pictures written.
        together: Most pictures to fill at once; None for what suits the device.

    Yields:
        One outcome per job, in order; a picture that fails stops nothing.

    Raises:
        OptionError: If `together` is below 1.
    """
    if together is not None and together < 1:
        raise OptionError(f"at least one picture must be filled at a time, got {together}")
    together = together or _together(inpainter)
    together = min(together, max(1, length_hint(jobs, together)))
    network, turns = inpainter.network, Semaphore(together)
    label_set = network.label_set if isinstance(network, WithSegmenter) else None

    def do(job: Job) -> Place:
        picture, mask, labels = open_job(job, reading, label_set)
        with turns:
            filled = inpainter.fill_picture(picture, mask, options, labels=labels, consume=True)
        return places.write(job.output, filled, lossless=reading.lossless, run=reading.run)

    with _threads(network, together) as pool:
        doing: deque[tuple[Job, Future[Place]]] = deque()
        for job in jobs:
            doing.append((job, pool.submit(do, job)))
            if len(doing) == together + _BESIDE:
                yield _outcome(*doing.popleft())
        while doing:
            yield _outcome(*doing.popleft())


def _together(inpainter: Inpainter) -> int:
    """How many pictures are best filled at once. No network draws random numbers, all can share."""
    shared = inpainter.device.type != "cpu" or isinstance(inpainter.passes, OpenVINO)
    return 1 if shared else torch.get_num_threads()


@contextmanager
def _threads(network: nn.Module, together: int) -> Iterator[ThreadPoolExecutor]:
    """Threads, each with its share of torch's while so many compute.

    Passes that still run when this is left, after an interruption, end at their next layer.
    """
    left, own = Event(), torch.get_num_threads()
    share = max(1, own // together)

    def step(*_: object) -> None:
        if left.is_set():
            raise InterruptedError("nobody waits for this picture any more")

    hooks = [module.register_forward_pre_hook(step) for module in network.modules()]
    count = together + _BESIDE
    try:
        with ThreadPoolExecutor(count, "retouch-fill", torch.set_num_threads, (share,)) as pool:
            try:
                yield pool
            finally:
                left.set()
    finally:
        torch.set_num_threads(own)  # new threads begin with what was set last, wherever
        for hook in hooks:
            hook.remove()


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


def _outcome(job: Job, future: Future[Place]) -> Outcome:
    try:
        return Outcome(job=job, written=future.result())
    except (ValueError, OSError, MemoryError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        transient = isinstance(error, OSError | UnreachableError)
        return Outcome(job=job, error=line, transient=transient)


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
