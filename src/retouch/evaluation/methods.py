"""The things that are compared: networks, baselines, and folders of pictures other tools made."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retouch.data.sources import PICTURE_SUFFIXES
from retouch.evaluation import baselines, wiener
from retouch.evaluation.blurred import BlurSet
from retouch.evaluation.pairs import EvaluationError, Manifest, PairSet
from retouch.evaluation.pixels import Picture
from retouch.weights import files, named, store

__all__ = ["Fill", "Method", "baseline", "folder", "loaded", "network"]

Task = Literal["fill", "deblur"]

Fill = Callable[[NDArray[np.uint8], NDArray[np.bool_], str], Picture]
"""(picture with an empty hole, mask, key of the picture) -> prediction."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table; small, so that it travels to other processes."""

    name: str
    kind: Literal["network", "baseline", "folder"]
    source: str
    """Weight file, baseline's name or folder."""
    what: str
    """For the report."""
    identity: str
    """Changes when its results may change: hash of the weights, version of the package."""


def network(name: str | Path, label: str | None = None, *, task: Task = "fill") -> Method:
    """Name a network by a weight file, a weight's name or a network's name.

    Raises:
        WeightsError: If there is none.
        EvaluationError: If it was trained for the other task.
    """
    path = name if isinstance(name, Path) else named.find(name)
    header = files.read_header(path)
    deblurs = header.config.get("task") == "deblur"
    if deblurs != (task == "deblur"):
        kind, wanted = ("takes blur away", "") if deblurs else ("fills holes", "another than ")
        raise EvaluationError(f"{header.name or path} {kind}: it needs {wanted}--protocol deblur")
    digest = store.sha256(path)
    trained = f", trained on {', '.join(header.data)}" if header.data else ""
    return Method(
        name=label or header.name or path.stem,
        kind="network",
        source=str(path),
        what=f"network {header.network}{trained}; weights sha256 {digest[:12]}",
        identity=digest,
    )


def baseline(name: str, *, task: Task = "fill") -> Method:
    """Name a baseline that can run here.

    Raises:
        EvaluationError: If there is none, or what it needs is missing.
    """
    if task == "deblur":
        if name not in wiener.BASELINES:
            known = ", ".join(wiener.BASELINES)
            raise EvaluationError(
                f"no baseline {name!r} for deblurring; there are {known}, and all"
            )
        what = wiener.BASELINES[name]
        return Method(name=name, kind="baseline", source=name, what=what, identity=what)
    if name not in baselines.BASELINES:
        known = ", ".join(baselines.BASELINES)
        raise EvaluationError(f"no baseline {name!r}; there are {known}, and all")
    reason = baselines.available(name)
    if reason:
        raise EvaluationError(reason)
    facts = baselines.BASELINES[name]
    what = f"{facts.what}; {facts.version}"
    return Method(name=name, kind="baseline", source=name, what=what, identity=facts.version)


def folder(name: str, place: Path, manifest: Manifest) -> Method:
    """Name a folder of pictures that another tool made, one per pair, called like its picture.

    Args:
        name: For the table.
        place: Holds KEY.png (or another format) for every picture of the manifest.
        manifest: The pairs.

    Raises:
        EvaluationError: If the folder is missing or lacks pictures; all are counted at once.
    """
    if not place.is_dir():
        raise EvaluationError(f"{place} is not a folder")
    found = [_picture(place, pair.picture) for pair in manifest.pairs]
    missing = [p.picture for p, path in zip(manifest.pairs, found, strict=True) if path is None]
    if missing:
        raise EvaluationError(
            f"{place} lacks {len(missing)} of {len(manifest.pairs)} pictures, the first is "
            f"{missing[0]}.png"
        )
    what = f"pictures made by another tool, from the folder {place.name}"
    content = hashlib.sha256()
    for path in found:
        if path is not None:
            content.update(hashlib.sha256(path.read_bytes()).digest())
    identity = content.hexdigest()
    return Method(name=name, kind="folder", source=str(place), what=what, identity=identity)


def _picture(place: Path, key: str) -> Path | None:
    candidates = (place / f"{key}{suffix}" for suffix in PICTURE_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def loaded(
    method: Method,
    *,
    device: str = "auto",
    prediction: Literal["pipeline", "network"] = "pipeline",
    cache: Path | None = None,
    pairs: PairSet | None = None,
) -> Fill:
    """Make the function that fills.

    Args:
        method: What to run.
        device: For networks.
        prediction: For networks: what `retouch fill` gives (8 bit), or the bare prediction in
            [0, 1].
        cache: Where baselines keep their results, None for nowhere.
        pairs: What will be scored; a `BlurSet` asks for deblurring.

    Raises:
        EvaluationError: If `wiener-true` is asked for and the pairs have no kernels.
    """
    if isinstance(pairs, BlurSet) and method.kind != "folder":
        return _sharpen(method, device, pairs)
    if method.kind == "network":
        return _network_fill(Path(method.source), device, prediction)
    if method.kind == "baseline":
        return lambda image, mask, _: baselines.fill(method.source, image, mask, cache)
    return _folder_fill(Path(method.source))


def _network_fill(path: Path, device: str, prediction: Literal["pipeline", "network"]) -> Fill:
    from retouch.pipeline.inpainter import Inpainter

    inpainter = Inpainter.load(path, device=device)

    def fill(image: NDArray[np.uint8], mask: NDArray[np.bool_], _: str) -> Picture:
        if prediction == "pipeline":
            return np.asarray(inpainter.fill(image, mask), dtype=np.uint8)
        paint = inpainter.predict if inpainter.context is None else inpainter.paint
        return paint(image.astype(np.float32) / np.float32(255), mask)

    return fill


def _sharpen(method: Method, device: str, pairs: BlurSet) -> Fill:
    if method.kind == "network":
        from retouch.pipeline.deblurrer import Deblurrer

        deblurrer = Deblurrer.load(Path(method.source), device=device)
        return lambda image, _, __: np.asarray(deblurrer.sharpen(image), dtype=np.uint8)
    if method.source == "blurred":
        return lambda image, _, __: image
    if method.source == "wiener-gaussian":
        return lambda image, _, __: wiener.fixed(image)
    check_kernels(pairs)
    return lambda image, _, key: wiener.deconvolve(image, pairs.true_blur(key), wiener.TRUE_RATIO)


def check_kernels(pairs: PairSet) -> None:
    """Refuse `wiener-true` without kernels.

    Raises:
        EvaluationError: If the pairs have none.
    """
    if not isinstance(pairs, BlurSet) or not pairs.kernels:
        raise EvaluationError("wiener-true needs --kernels: .npy files, or a folder or tar of them")


def _folder_fill(place: Path) -> Fill:
    def fill(image: NDArray[np.uint8], _: NDArray[np.bool_], key: str) -> Picture:
        path = _picture(place, key)
        if path is None:
            raise EvaluationError(f"{place} lacks {key}.png")
        try:
            picture = np.asarray(Image.open(path).convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise EvaluationError(f"{path} cannot be decoded: {error}") from None
        if picture.shape != image.shape:
            raise EvaluationError(
                f"{path} is {picture.shape[1]}x{picture.shape[0]} px, the truth "
                f"{image.shape[1]}x{image.shape[0]}"
            )
        return picture

    return fill


def chosen_baselines(names: Sequence[str], pairs: PairSet) -> tuple[list[Method], list[str]]:
    """Collect baselines by name; `all` takes those that can run here.

    Args:
        names: Names, or `all`.
        pairs: What will be scored: a `BlurSet` has baselines of its own.

    Returns:
        The methods, and a line for each that `all` had to leave out.

    Raises:
        EvaluationError: If there is no such baseline, or what it needs is missing.
    """
    if isinstance(pairs, BlurSet):
        chosen = [name for name in wiener.BASELINES if pairs.kernels or name != "wiener-true"]
        left = [] if pairs.kernels else ["wiener-true: it needs --kernels"]
        if list(names) == ["all"]:
            return [baseline(name, task="deblur") for name in chosen], left
        if "wiener-true" in names:
            check_kernels(pairs)
        return [baseline(name, task="deblur") for name in names], []
    if list(names) != ["all"]:
        return [baseline(name) for name in names], []
    reasons = {name: baselines.available(name) for name in baselines.BASELINES}
    methods = [baseline(name) for name, reason in reasons.items() if reason is None]
    return methods, [reason for reason in reasons.values() if reason is not None]
