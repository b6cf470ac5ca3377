"""Which picture is scored with which hole: fixed, hashed, saved, so that anybody scores the same.

By default the n-th picture gets mask n modulo the number of masks, both sorted by name; or masks
are drawn with a seed. The manifest is a JSON file with the sha256 of every picture's and mask's
file, so a pair that has changed is noticed.
"""

import hashlib
import io
import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch.data import sources
from retouch.data.sources import Entry
from retouch.evaluation.protocols import Bin, MaskRule, Preparation, bin_of

__all__ = [
    "CENTRE_SQUARE",
    "EvaluationError",
    "Manifest",
    "Pair",
    "PairSet",
    "make",
    "rebuild",
    "sorted_entries",
]

CENTRE_SQUARE = "centre-square"
"""Name of the mask that is no file: the centred square of half the side."""

_FORMAT = "retouch-pairs-1"
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class EvaluationError(ValueError):
    """An evaluation cannot be set up as asked; the message says what to change."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One picture and its mask."""

    picture: str
    """Key: the name without folder and suffix."""
    picture_sha256: str
    """Of the file's bytes."""
    mask: str
    mask_sha256: str
    hole_share: float
    """After preparation, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The pairs of an evaluation, in order."""

    rule: str
    """How masks were given to pictures."""
    preparation: str
    """What was done to the files, in words."""
    pairs: tuple[Pair, ...]

    @property
    def sha256(self) -> str:
        """Identifies the pairs."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Write as JSON."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Manifest":
        """Read what `to_json` wrote.

        Raises:
            EvaluationError: If it is something else.
        """
        try:
            raw = json.loads(text)
            if raw.pop("format") != _FORMAT:
                raise EvaluationError(f"{where} is not a manifest of the format {_FORMAT}")
            pairs = tuple(Pair(**pair) for pair in raw.pop("pairs"))
            return cls(pairs=pairs, **raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, EvaluationError):
                raise
            raise EvaluationError(f"{where} is not a manifest of pairs: {error}") from None

    def save(self, path: Path) -> None:
        """Write to a file, at once or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        temporary.write_text(self.to_json())
        temporary.replace(path)


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """A manifest together with the places of its files."""

    manifest: Manifest
    preparation: Preparation
    pictures: Mapping[str, Entry]
    masks: Mapping[str, Entry]

    def __len__(self) -> int:
        return len(self.manifest.pairs)

    def shown(
        self, number: int, truth: NDArray[np.uint8], mask: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """What a method sees of a pair: the picture with an empty hole.

        Args:
            number: Of the pair.
            truth: (h, w, 3), as `open` gives it.
            mask: (h, w), likewise.
        """
        return np.where(mask[..., None], np.uint8(0), truth)

    def group(self, number: int, bins: tuple[Bin, ...]) -> str:
        """Name the bin of a pair's hole share."""
        return bin_of(self.manifest.pairs[number].hole_share, bins)

    def open(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Decode and prepare one pair.

        Returns:
            (h, w, 3) uint8 RGB and (h, w) bool, True = hole.

        Raises:
            DataError: If a file is broken.
            EvaluationError: If picture and mask differ in size and the protocol resizes no masks.
        """
        pair = self.manifest.pairs[number]
        truth = prepare_picture(sources.decode(self.pictures[pair.picture]), self.preparation)
        if pair.mask == CENTRE_SQUARE:
            return truth, centre_square(truth.shape[:2])
        entry = self.masks[pair.mask]
        return truth, prepare_mask(entry, truth.shape[:2], self.preparation.mask)


def prepare_picture(image: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
    """Crop and resize as the protocol says.

    Args:
        image: (h, w, 3) uint8.
        preparation: What to do.
    """
    if preparation.side is None:
        return image
    if preparation.crop:
        h, w = image.shape[:2]
        side = min(h, w)
        top, left = (h - side) // 2, (w - side) // 2
        image = image[top : top + side, left : left + side]
    size = (preparation.side, preparation.side)
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, _FILTERS[preparation.filter]))


def prepare_mask(entry: Entry, size: tuple[int, ...], rule: MaskRule) -> NDArray[np.bool_]:
    """Decode a mask, bring it to the picture's size and threshold it, as the protocol says.

    Args:
        entry: The file.
        size: (h, w) of the picture.
        rule: What to do.
    """
    try:
        picture = Image.open(io.BytesIO(entry.read())).convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise sources.DataError(f"{entry.path}: {entry.key} cannot be decoded: {error}") from None
    if picture.size != (size[1], size[0]):
        if rule.resize is None:
            raise EvaluationError(
                f"mask {entry.key} is {picture.width}x{picture.height} px, its picture "
                f"{size[1]}x{size[0]}; this protocol resizes no masks"
            )
        picture = picture.resize((size[1], size[0]), _FILTERS[rule.resize])
    grey = np.asarray(picture)
    return {"from-128": grey >= 128, "nonzero": grey > 0, "all-255": grey == 255}[rule.hole]


def centre_square(size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Make the centred hole of half the height and width.

    Args:
        size: (h, w).
    """
    h, w = size
    mask = np.zeros((h, w), dtype=bool)
    mask[h // 4 : h // 4 + h // 2, w // 4 : w // 4 + w // 2] = True
    return mask


def make(
    pictures: Sequence[str | Path],
    masks: Sequence[str | Path] | None,
    preparation: Preparation,
    *,
    seed: int | None = None,
    limit: int | None = None,
) -> PairSet:
    """Pair pictures with masks, both sorted by name.

    Args:
        pictures: Folders, file lists, tar shards, pictures or patterns.
        masks: The same, or None for the centred square.
        preparation: How files become truth and hole.
        seed: Draw each picture's mask with this seed; None takes mask n modulo their number.
        limit: Only the first so many pictures.

    Raises:
        DataError: If a source is missing, empty or broken.
        EvaluationError: If two pictures or two masks have the same name.
    """
    chosen = sorted_entries(pictures, "picture")[:limit]
    holes = [] if masks is None else sorted_entries(masks, "mask")
    draw = random.Random(seed)
    hashes: dict[str, str] = {}
    shares: dict[tuple[str, tuple[int, ...]], float] = {}
    pairs: list[Pair] = []
    for number, entry in enumerate(chosen):
        content = entry.read()
        size = _size(entry, content, preparation)
        mask = None
        if holes:
            mask = holes[draw.randrange(len(holes)) if seed is not None else number % len(holes)]
        name = CENTRE_SQUARE if mask is None else mask.key
        if (name, size) not in shares:
            hole = centre_square(size)
            if mask is not None:
                hole = prepare_mask(mask, size, preparation.mask)
                hashes[name] = hashlib.sha256(mask.read()).hexdigest()
            shares[name, size] = float(hole.mean())
        pairs.append(
            Pair(
                picture=entry.key,
                picture_sha256=hashlib.sha256(content).hexdigest(),
                mask=name,
                mask_sha256=hashes.get(name, ""),
                hole_share=shares[name, size],
            )
        )
    rule = f"mask drawn for each picture, seed {seed}"
    if seed is None:
        rule = "n-th picture with mask n modulo the number of masks, both sorted by name"
    manifest = Manifest(rule=rule, preparation=str(preparation), pairs=tuple(pairs))
    return _set(manifest, preparation, chosen, holes)


def _size(entry: Entry, content: bytes, preparation: Preparation) -> tuple[int, int]:
    """Height and width after preparation, from the file's header alone."""
    if preparation.side is not None:
        return preparation.side, preparation.side
    try:
        width, height = Image.open(io.BytesIO(content)).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise sources.DataError(f"{entry.path}: {entry.key} cannot be decoded: {error}") from None
    return height, width


def rebuild(
    path: Path,
    pictures: Sequence[str | Path],
    masks: Sequence[str | Path] | None,
    preparation: Preparation,
    *,
    limit: int | None = None,
) -> PairSet:
    """Find the files of a saved manifest again and check each by its hash.

    Args:
        path: The manifest.
        pictures: Where the pictures are.
        masks: Where the masks are; None if the manifest has only centred squares.
        preparation: Must be the manifest's.
        limit: Only the first so many pairs.

    Raises:
        EvaluationError: If a file is missing or has changed, or the preparation differs.
    """
    manifest = Manifest.from_json(path.read_text(), str(path))
    if manifest.preparation != str(preparation):
        raise EvaluationError(
            f"{path} was made for: {manifest.preparation}; this protocol has: {preparation}"
        )
    if limit is not None:
        pairs = manifest.pairs[:limit]
        manifest = Manifest(rule=manifest.rule, preparation=manifest.preparation, pairs=pairs)
    chosen = sorted_entries(pictures, "picture")
    holes = [] if masks is None else sorted_entries(masks, "mask")
    found = _set(manifest, preparation, chosen, holes)
    checked: dict[tuple[str, str], str] = {}
    for pair in manifest.pairs:
        wanted = [("picture", pair.picture, pair.picture_sha256, found.pictures)]
        if pair.mask != CENTRE_SQUARE:
            wanted.append(("mask", pair.mask, pair.mask_sha256, found.masks))
        for kind, key, digest, entries in wanted:
            if key not in entries:
                raise EvaluationError(f"{path} asks for {kind} {key}, which is not there")
            if (kind, key) not in checked:
                checked[kind, key] = hashlib.sha256(entries[key].read()).hexdigest()
            if checked[kind, key] != digest:
                raise EvaluationError(f"{kind} {key} is not the file that {path} was made with")
    return found


def sorted_entries(given: Sequence[str | Path], kind: str) -> list[Entry]:
    """List entries by key.

    Args:
        given: Folders, file lists, tar shards, pictures or patterns.
        kind: `picture` or `mask`, for the message.

    Raises:
        EvaluationError: If a key occurs twice.
    """
    entries = sorted(sources.entries(given), key=lambda entry: entry.key)
    twice = [key for key, count in Counter(entry.key for entry in entries).items() if count > 1]
    if twice:
        raise EvaluationError(
            f"{len(twice)} {kind} names occur more than once, the first is {twice[0]}: scores are "
            "kept by name"
        )
    return entries


def _set(
    manifest: Manifest, preparation: Preparation, pictures: list[Entry], masks: list[Entry]
) -> PairSet:
    return PairSet(
        manifest=manifest,
        preparation=preparation,
        pictures={entry.key: entry for entry in pictures},
        masks={entry.key: entry for entry in masks},
    )
