"""What a run sees: the stream of training samples and the fixed validation set."""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from retouch.data import blur, crops, sources
from retouch.data.batch import Batch
from retouch.data.batches import Sample, Sampler
from retouch.data.config import DataConfig
from retouch.data.decoded import Decoded, overlap
from retouch.data.sources import Entry
from retouch.segmentation.labels import label_set
from retouch.training.config import TrainConfig
from retouch.training.errors import about

Decode = Callable[[Entry], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Material:
    """All data of a run."""

    sampler: Sampler
    validation: tuple[Sample, ...]
    """Fixed pictures with fixed masks; sizes may differ."""
    counts: dict[str, int]
    """Pictures and masks by use."""
    overlaps: dict[str, list[tuple[str, str]]]
    """Training pictures whose pixels are also in another set: pairs of keys by set."""


def read(config: TrainConfig, *, multiple: int = 64, labels: str | None = None) -> Material:
    """Read, check and split the data of a recipe.

    Args:
        config: The recipe.
        multiple: Validation sizes are multiples of this [px].
        labels: Label set whose left and right change places in mirrored pictures.

    Raises:
        TrainingError: If sources are missing or empty; the recipe's key is named.
        DataError: If pictures are broken.
    """
    data = config.data
    training, held = _split(data)
    with about("data.masks"):
        shapes = _masks(data.masks, data.threads)
    pictures = _decoded(training, data)
    label_maps = _decoded(training, data, sources.decode_labels) if data.labels else None
    paired = data.blur is None and all(e.blurred for e in training)
    sampler = Sampler(
        pictures,
        shapes,
        data,
        config.seed,
        labels=label_maps,
        mirror=_mirror(labels) if labels and data.labels else None,
        blurred=_decoded(training, data, sources.decode_blurred) if paired else None,
    )
    stride = max(1, len(held) // max(1, data.validation))
    chosen = held[::stride][: data.validation]
    judged = _decoded(chosen, data)
    with about("data.validation_masks"):
        fixed_masks = _masks(data.validation_masks, data.threads)
    validation = _validation(chosen, judged, sampler, fixed_masks, multiple)
    others = {"validation": (chosen, judged.fingerprints)}
    counts = {"training": len(training), "validation": len(chosen), "masks": len(shapes)}
    if data.test_pictures:
        with about("data.test_pictures"):
            tested = sources.entries(data.test_pictures)
        marks = Decoded(tested, budget=0, check=data.check, threads=data.threads).fingerprints
        others["test"] = (tested, marks)
        counts["test"] = len(tested)
    mine = _marked(training, pictures.fingerprints)
    overlaps = {name: overlap(mine, _marked(*other)) for name, other in others.items()}
    return Material(
        sampler=sampler,
        validation=validation,
        counts=counts,
        overlaps={name: pairs for name, pairs in overlaps.items() if pairs},
    )


def to_batch(sample: Sample, device: torch.device, *, channels_last: bool = False) -> Batch:
    """Bring stacked samples to a device, as floats in [0, 1]."""

    def picture(pixels: np.ndarray) -> torch.Tensor:
        moved = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255)
        return moved if channels_last else moved.contiguous()

    mask = torch.from_numpy(sample.hole).to(device).unsqueeze(1).float()
    labels = sample.labels
    return Batch(
        image=picture(sample.image),
        mask=mask,
        hole_share=mask.mean(),
        labels=None if labels is None else torch.from_numpy(labels).to(device).long(),
        source=None if sample.source is None else picture(sample.source),
    )


def _split(data: DataConfig) -> tuple[list[Entry], list[Entry]]:
    with about("data.pictures"):
        found = sources.entries(data.pictures)
    keys = [entry.key for entry in found]
    unused = {key for pattern in data.leave_out for key in fnmatch.filter(keys, pattern)}
    for pattern in data.leave_out:
        if not fnmatch.filter(keys, pattern):
            raise sources.DataError(f"data.leave_out: {pattern} matches no picture")
    found = [entry for entry in found if entry.key not in unused]
    if not found:
        raise sources.DataError("data.leave_out leaves no picture")
    if data.validation_pictures:
        with about("data.validation_pictures"):
            return found, sources.entries(data.validation_pictures)
    training, held = sources.split(found, part=0)
    if not held and len(found) > 1:  # a small set of one's own
        training, held = found[:-1], found[-1:]
    return training, held


def _decoded(found: list[Entry], data: DataConfig, decode: Decode = sources.decode) -> Decoded:
    return Decoded(
        found,
        decode,
        budget=data.cache_gb * 1e9,
        check=data.check,
        threads=max(4, data.threads),
    )


def _masks(places: tuple[str, ...], threads: int) -> list[np.ndarray]:
    return sources.each(sources.decode_mask, sources.entries(places), max(4, threads))


def _validation(
    entries: list[Entry],
    pictures: Decoded,
    sampler: Sampler,
    fixed_masks: list[np.ndarray],
    multiple: int,
) -> tuple[Sample, ...]:
    data = sampler.config
    rng = np.random.default_rng([sampler.seed, 2])
    samples: list[Sample] = []
    for index, (entry, picture) in enumerate(zip(entries, pictures, strict=True)):
        crop = crops.fixed(picture.shape[:2], data, multiple)
        size = (crop.side, crop.side)
        if fixed_masks:
            hole = _resized(fixed_masks[index % len(fixed_masks)], size)
        elif data.modes == {"mixed": 1.0} and sampler.masks.shapes:
            shape = sampler.masks.shapes[int(rng.integers(len(sampler.masks.shapes)))]
            hole = _resized(shape, size)
        else:
            hole = sampler.masks.draw(rng, size, index)
        image = np.ascontiguousarray(crop.cut(picture, data.resample))
        samples.append(
            Sample(
                image=image,
                hole=hole,
                labels=_cut(sources.decode_labels, entry, crop) if data.labels else None,
                source=_validation_source(sampler, entry, crop, image, rng),
            )
        )
    return tuple(samples)


def _validation_source(
    sampler: Sampler,
    entry: Entry,
    crop: crops.Crop,
    image: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray | None:
    if sampler.blurred is not None and entry.blurred is not None:
        return _cut(sources.decode_blurred, entry, crop)
    blur_config = sampler.config.blur
    return None if blur_config is None else blur.shaken(rng, image, blur_config)


def _cut(decode: Decode, entry: Entry, crop: crops.Crop) -> np.ndarray:
    return np.ascontiguousarray(crop.cut(decode(entry), "area"))


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)


def _marked(found: list[Entry], marks: list[bytes]) -> list[tuple[str, bytes]]:
    return [(entry.key, mark) for entry, mark in zip(found, marks, strict=False)]


def _mirror(name: str) -> np.ndarray:
    """Label -> label in the mirrored picture."""
    names = label_set(name).names
    table = np.arange(256, dtype=np.uint8)
    for index, label in enumerate(names):
        for one, other in (("left ", "right "), ("right ", "left ")):
            if label.startswith(one) and other + label.removeprefix(one) in names:
                table[index] = names.index(other + label.removeprefix(one))
    return table
