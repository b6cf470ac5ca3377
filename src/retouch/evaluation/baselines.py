"""Fillers that need no training, and MI-GAN: what a network must beat.

Each baseline takes a `uint8` RGB picture (h, w, 3) and a Boolean mask (h, w), True = hole, and
returns a picture of the same kind whose known pixels are the input's, bit for bit. Packages beside
the core ones (`pip install "retouch[baselines]"`) are imported when a baseline runs.
"""

import functools
import hashlib
import importlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from retouch.weights import store

__all__ = ["BASELINES", "Baseline", "MissingPackageError", "available", "fill"]

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class MissingPackageError(ImportError):
    """A baseline needs a package that is not installed; the message says which extra has it."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One filler."""

    what: str
    """Method, source and settings, for the report."""
    run: Callable[[Image, Mask], Image]
    """Fills; need not respect the known pixels."""
    package: str
    """Distribution whose version goes into reports and cache names; `|` between alternatives."""
    module: str
    """What must be importable."""
    needs: str | None = None
    """A name in the weight store."""

    @property
    def version(self) -> str:
        """`opencv-contrib-python-headless 5.0.0`, or the weight file's hash; empty if missing."""
        if self.needs is not None:
            entry = next(entry for entry in store.manifest() if entry.name == self.needs)
            return f"{self.needs} {entry.files[0].sha256[:8]}"
        for name in self.package.split("|"):
            try:
                return f"{name} {version(name)}"
            except PackageNotFoundError:
                continue
        return ""


def _module(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingPackageError(
            f'this baseline needs {package}: pip install "retouch[baselines]"'
        ) from None


def _telea(image: Image, mask: Mask) -> Image:
    return np.asarray(cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA), np.uint8)


def _navier_stokes(image: Image, mask: Mask) -> Image:
    return np.asarray(cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_NS), np.uint8)


def _fsr_fast(image: Image, mask: Mask) -> Image:
    photo: Any = _module("cv2.xphoto", "opencv-contrib-python-headless")
    result = image.copy()
    known = np.where(mask, 0, 255).astype(np.uint8)
    photo.inpaint(image, known, result, photo.INPAINT_FSR_FAST)
    return result


def _biharmonic(image: Image, mask: Mask) -> Image:
    restoration = _module("skimage.restoration", "scikit-image")
    filled: Any = restoration.inpaint_biharmonic(
        image / 255, mask, split_into_regions=True, channel_axis=-1
    )
    return _bytes(filled * 255)


def _harmonic(image: Image, mask: Mask) -> Image:
    """Solve Laplace's equation in the hole: values at its rim given, no flux over the border."""
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    count = int(mask.sum())
    diagonal = np.zeros(count)
    right = np.zeros((count, 3))
    rows: list[NDArray[np.intp]] = []
    columns: list[NDArray[np.intp]] = []
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        here = [slice(None)] * 2
        there = [slice(None)] * 2
        here[axis] = slice(None, -1) if step > 0 else slice(1, None)
        there[axis] = slice(1, None) if step > 0 else slice(None, -1)
        own, other = number[tuple(here)], number[tuple(there)]
        colours = image[tuple(there)]
        inside = own >= 0
        np.add.at(diagonal, own[inside], 1)
        linked, rim = inside & (other >= 0), inside & (other < 0)
        rows.append(own[linked])
        columns.append(other[linked])
        np.add.at(right, own[rim], colours[rim].astype(np.float64))
    row, column = np.concatenate(rows), np.concatenate(columns)
    links = sparse.coo_array((np.ones(len(row)), (row, column)), shape=(count, count))
    matrix = sparse.csc_array(sparse.diags_array(diagonal) - links)
    result = image.copy()
    result[mask] = _bytes(np.asarray(spsolve(matrix, right)).reshape(count, 3))
    return result


def _mean(image: Image, mask: Mask) -> Image:
    result = image.copy()
    result[mask] = _bytes(image[~mask].mean(axis=0))
    return result


def _nearest(image: Image, mask: Mask) -> Image:
    transform: Any = ndimage.distance_transform_edt
    rows, columns = transform(mask, return_distances=False, return_indices=True)
    return image[rows, columns]


def _patchmatch(image: Image, mask: Mask) -> Image:
    module = _module("patchmatch.patch_match", "PyPatchMatch 2.2 or later")
    return np.asarray(module.inpaint(image, mask), np.uint8)


@functools.cache
def _migan_session(path: Path) -> Any:
    runtime = _module("onnxruntime", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _migan(image: Image, mask: Mask) -> Image:
    """Run the pipeline with a hole grown by 2 px and pre-filled with its nearest known pixels.

    The pipeline resizes picture and hole together, so without this the colour under the mask
    bleeds into the rim.
    """
    session = _migan_session(store.path("migan-512-places2"))
    grown = np.asarray(ndimage.binary_dilation(mask, np.ones((5, 5), dtype=bool)), dtype=np.bool_)
    if grown.all():
        grown = mask
    planes = np.ascontiguousarray(_nearest(image, grown).transpose(2, 0, 1))[None]
    known = np.where(grown, 0, 255).astype(np.uint8)[None, None]
    (result,) = session.run(None, {"image": planes, "mask": known})
    return np.ascontiguousarray(result[0].transpose(1, 2, 0))


def _bytes(values: NDArray[np.floating]) -> Image:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


_CV = "opencv-contrib-python-headless|opencv-python-headless|opencv-contrib-python|opencv-python"

BASELINES: Mapping[str, Baseline] = {
    "telea": Baseline(
        what="fast marching (Telea 2004), OpenCV, radius 3",
        run=_telea,
        package=_CV,
        module="cv2",
    ),
    "navier-stokes": Baseline(
        what="Navier-Stokes (Bertalmio 2001), OpenCV, radius 3",
        run=_navier_stokes,
        package=_CV,
        module="cv2",
    ),
    "harmonic": Baseline(
        what="Laplace's equation, 4 neighbours, no flux over the border",
        run=_harmonic,
        package="scipy",
        module="scipy",
    ),
    "biharmonic": Baseline(
        what="biharmonic equation, scikit-image",
        run=_biharmonic,
        package="scikit-image",
        module="skimage.restoration",
    ),
    "fsr-fast": Baseline(
        what="frequency selective reconstruction, OpenCV xphoto, INPAINT_FSR_FAST",
        run=_fsr_fast,
        package=_CV,
        module="cv2.xphoto",
    ),
    "patchmatch": Baseline(
        what="PatchMatch (Barnes 2009), PyPatchMatch with its defaults (patch_size 15)",
        run=_patchmatch,
        package="PyPatchMatch",
        module="patchmatch.patch_match",
    ),
    "migan": Baseline(
        what="MI-GAN 512 Places2 (ICCV 2023), ONNX pipeline; hole grown by 2 px and pre-filled "
        "with the nearest known pixels",
        run=_migan,
        package="onnxruntime",
        module="onnxruntime",
        needs="migan-512-places2",
    ),
    "mean": Baseline(
        what="mean colour of the known pixels", run=_mean, package="numpy", module="numpy"
    ),
    "nearest": Baseline(what="nearest known pixel", run=_nearest, package="scipy", module="scipy"),
}


def fill(name: str, image: Image, mask: Mask, cache: Path | None = None) -> Image:
    """Fill a picture with a baseline.

    Args:
        name: A key of `BASELINES`.
        image: (h, w, 3) uint8 RGB.
        mask: (h, w) bool, True = hole. An empty one returns a copy; a full one mid-grey.
        cache: Folder of earlier results, by content of picture and mask and by the version of the
            baseline; read first, and written.

    Returns:
        (h, w, 3) uint8; known pixels are the input's.

    Raises:
        KeyError: If there is no such baseline; the message lists those there are.
        MissingPackageError: If its package is not installed.
        MissingWeightsError: If its weight file is not in the store.
    """
    baseline = _baseline(name)
    if not mask.any():
        return image.copy()
    if mask.all():
        return np.full_like(image, 128)
    hidden = np.where(mask[..., None], np.uint8(0), image)  # no baseline may peek at the truth
    place = None if cache is None else cache / _slug(name, baseline) / _content(hidden, mask)
    if place is not None and place.is_file():
        filled = cv2.cvtColor(np.asarray(cv2.imread(str(place))), cv2.COLOR_BGR2RGB)
    else:
        filled = baseline.run(hidden, mask)
        if place is not None:
            _keep(place, np.where(mask[..., None], filled, hidden))
    return np.where(mask[..., None], filled, image).astype(np.uint8)


def _slug(name: str, baseline: Baseline) -> str:
    return f"{name}@{baseline.version.replace(' ', '-')}"


def _content(hidden: Image, mask: Mask) -> str:
    """Name the pair by what the baseline sees of it."""
    digest = hashlib.sha256(f"{hidden.shape}".encode())
    digest.update(hidden.tobytes())
    digest.update(np.packbits(mask).tobytes())
    return f"{digest.hexdigest()[:32]}.png"


def _keep(place: Path, picture: Image) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"cannot encode {place}")
    handle, temporary = tempfile.mkstemp(dir=place.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(encoded.tobytes())
    Path(temporary).replace(place)


def _baseline(name: str) -> Baseline:
    if name not in BASELINES:
        raise KeyError(f"no baseline {name!r}; there are {', '.join(BASELINES)}")
    return BASELINES[name]


def available(name: str) -> str | None:
    """Say in one line why a baseline cannot run here; None if it can.

    Raises:
        KeyError: If there is no such baseline.
    """
    baseline = _baseline(name)
    try:
        _module(baseline.module, baseline.package.partition("|")[0])
        if baseline.needs is not None:
            store.path(baseline.needs)
    except (MissingPackageError, store.MissingWeightsError) as error:
        return f"{name}: {error}"
    return None
