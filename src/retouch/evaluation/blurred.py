"""Pairs of a sharp picture and its blurred twin, scored like pictures with holes.

Everything is hole here: nothing of the truth is known, and methods see the twin.
"""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retouch.data import sources
from retouch.evaluation import wiener
from retouch.evaluation.pairs import EvaluationError, Manifest, Pair, PairSet, sorted_entries
from retouch.evaluation.protocols import Bin, Preparation, bin_of
from retouch.evaluation.wiener import Blur

__all__ = ["BLURRED", "BlurSet", "make", "read_kernels", "rebuild"]

BLURRED = "blurred-twin"
"""Stands where other manifests name the mask; the hash beside it is the twin's."""
_RULE = "every picture with its blurred twin"


@dataclass(frozen=True, kw_only=True)
class BlurSet(PairSet):
    """Sharp pictures whose entries have blurred twins."""

    kernels: tuple[NDArray[np.floating], ...] = ()
    """What may have blurred them, for the upper bound."""

    def open(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Decode a sharp picture (h, w, 3); everything is hole."""
        truth = sources.decode(self.pictures[self.manifest.pairs[number].picture])
        return truth, np.ones(truth.shape[:2], dtype=bool)

    def shown(
        self, number: int, truth: NDArray[np.uint8], mask: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Decode the blurred twin.

        Raises:
            EvaluationError: If its size is not the sharp picture's.
        """
        key = self.manifest.pairs[number].picture
        blurred = sources.decode_blurred(self.pictures[key])
        if blurred.shape != truth.shape:
            raise EvaluationError(
                f"the blurred twin of {key} is {blurred.shape[1]}x{blurred.shape[0]} px, the sharp "
                f"picture {truth.shape[1]}x{truth.shape[0]}"
            )
        return blurred

    def group(self, number: int, bins: tuple[Bin, ...]) -> str:
        """Name the kind of a pair: the first part of its key, `other` if it has only one."""
        kind, slash, _ = self.manifest.pairs[number].picture.partition("/")
        return kind if slash else bin_of(1.0, ())

    def true_blur(self, key: str) -> Blur:
        """Find the kernel that blurred a picture among `kernels`."""
        truth = sources.decode(self.pictures[key])
        blurred = self.shown(self._numbers[key], truth, np.ones(truth.shape[:2], dtype=bool))
        return wiener.explain(truth, blurred, self.kernels)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {pair.picture: number for number, pair in enumerate(self.manifest.pairs)}


def make(
    pictures: Sequence[str | Path],
    kernels: Sequence[NDArray[np.floating]] = (),
    *,
    limit: int | None = None,
) -> BlurSet:
    """Collect sharp pictures with their blurred twins.

    Args:
        pictures: Folders, file lists or tar shards; twins are named as `retouch.data.sources` says.
        kernels: For the upper bound.
        limit: Only the first so many.

    Raises:
        DataError: If a source is missing or empty.
        EvaluationError: If pictures have no twin.
    """
    chosen = sorted_entries(pictures, "picture")[:limit]
    if alone := [entry.key for entry in chosen if entry.blurred is None]:
        raise EvaluationError(
            f"{len(alone)} of {len(chosen)} pictures have no blurred twin, the first is {alone[0]}:"
            f" {sources.TWINS}"
        )
    pairs = tuple(
        Pair(
            picture=entry.key,
            picture_sha256=hashlib.sha256(entry.read()).hexdigest(),
            mask=BLURRED,
            mask_sha256=hashlib.sha256(entry.blurred.read()).hexdigest() if entry.blurred else "",
            hole_share=1.0,
        )
        for entry in chosen
    )
    preparation = Preparation(blurred=True)
    return BlurSet(
        manifest=Manifest(rule=_RULE, preparation=str(preparation), pairs=pairs),
        preparation=preparation,
        pictures={entry.key: entry for entry in chosen},
        masks={},
        kernels=tuple(kernels),
    )


def rebuild(
    path: Path,
    pictures: Sequence[str | Path],
    kernels: Sequence[NDArray[np.floating]] = (),
    *,
    limit: int | None = None,
) -> BlurSet:
    """Find the files of a saved manifest again.

    Raises:
        EvaluationError: If the pairs found are not the manifest's, by their hashes.
    """
    wanted = Manifest.from_json(path.read_text(), str(path)).pairs[:limit]
    found = make(pictures, kernels)
    there = {pair.picture: pair for pair in found.manifest.pairs}
    for pair in wanted:
        if there.get(pair.picture) != pair:
            raise EvaluationError(
                f"{path} asks for {pair.picture}, which is not there or has changed"
            )
    manifest = Manifest(rule=_RULE, preparation=str(found.preparation), pairs=tuple(wanted))
    return BlurSet(
        manifest=manifest,
        preparation=found.preparation,
        pictures=found.pictures,
        masks={},
        kernels=found.kernels,
    )


def read_kernels(places: Sequence[Path]) -> list[NDArray[np.floating]]:
    """Read blur kernels: `.npy` files, folders of them, or tar files that hold some.

    Raises:
        EvaluationError: If a place holds none, or one is no kernel (square, odd side, sum about 1).
    """
    kernels: list[NDArray[np.floating]] = []
    for place in places:
        found = _arrays(place)
        if not found:
            raise EvaluationError(f"{place} holds no kernel (.npy)")
        for name, content in found:
            try:
                kernel = np.load(io.BytesIO(content), allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise EvaluationError(f"{name} is no array: {error}") from None
            square = kernel.ndim == 2 and kernel.shape[0] == kernel.shape[1]
            if not square or kernel.shape[0] % 2 == 0 or abs(float(kernel.sum()) - 1) > 0.01:
                raise EvaluationError(
                    f"{name} is no kernel: expected an odd square of sum 1, got {kernel.shape} of "
                    f"sum {float(kernel.sum()):.3g}"
                )
            kernels.append(kernel)
    return kernels


def _arrays(place: Path) -> list[tuple[str, bytes]]:
    if place.is_dir():
        return [(str(path), path.read_bytes()) for path in sorted(place.rglob("*.npy"))]
    if not place.is_file():
        raise EvaluationError(f"{place} does not exist")
    if place.suffix == ".npy":
        return [(str(place), place.read_bytes())]
    try:
        with tarfile.open(place) as tar:
            members = [member for member in tar if member.isfile()]
            opened = [(f"{place}: {m.name}", tar.extractfile(m)) for m in members]
            return [(n, f.read()) for n, f in opened if f is not None and n.endswith(".npy")]
    except tarfile.TarError as error:
        raise EvaluationError(f"{place} is not a readable tar file: {error}") from None
