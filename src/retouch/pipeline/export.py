"""Writes the pipeline for one crop as an ONNX or a torch.export file, checked before it appears."""

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from retouch import models
from retouch.pipeline.graph import CropGraph, DeblurGraph
from retouch.weights.files import Header

_NEEDED = {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"}
_TOLERANCE = 1
"""How far a file's result may lie from torch's [of 255]."""


class ExportError(ValueError):
    """A network cannot be exported as asked, or the file does not do what the network does."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A written file."""

    path: Path
    bytes: int
    inputs: str
    """Names, types and shapes of the inputs, as text; letters are free."""
    difference: int
    """Largest difference to torch that the check found [of 255]."""
    checked: tuple[tuple[int, int, int], ...]
    """Batch, height and width of the inputs it was checked with."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The pipeline for one crop of a network, ready to be written.

    Raises:
        ExportError: If the size does not go with the network.
    """

    header: Header
    network: nn.Module
    size: tuple[int, int] | None = None
    """(h, w) of all crops [px]; None leaves it free where the network allows."""
    labels: bool = False
    """A label map is a third input."""

    def __post_init__(self) -> None:
        card = models.card(self.header.network)
        if self.labels and not card.labels:
            raise ExportError(f"network {self.header.network!r} takes no label map")
        if self.size is None:
            return
        if card.fixed_size and self.size != (card.fixed_size, card.fixed_size):
            raise ExportError(
                f"network {self.header.network!r} takes {card.fixed_size}x{card.fixed_size} px"
                f" only, got {self.size[0]}x{self.size[1]}"
            )
        if min(self.size) < self.smallest:
            raise ExportError(
                f"sides must be at least {self.smallest} px for network"
                f" {self.header.network!r}, got {self.size[0]}x{self.size[1]}"
            )

    @property
    def smallest(self) -> int:
        """Shortest side of a crop [px]."""
        card = models.card(self.header.network)
        return max(card.min_size, card.multiple_of, 2)

    @property
    def deblurs(self) -> bool:
        """Whether the network takes a picture alone."""
        return self.header.config.get("task", "inpaint") == "deblur"

    @property
    def is_free(self) -> bool:
        """Whether height and width are left free."""
        card = models.card(self.header.network)
        return self.size is None and card.fixed_size is None and not card.one_size_graph

    @property
    def side(self) -> tuple[int, int]:
        """(h, w) that is traced [px]."""
        card = models.card(self.header.network)
        if self.size is not None:
            return self.size
        side = card.fixed_size or (card.working_size if card.one_size_graph else 2 * self.smallest)
        # A free side that were a multiple of anything might be taken for one that always is.
        return (side + 3, side + 5) if self.is_free else (side, side)

    def graph(self) -> CropGraph:
        """Build the module."""
        card = models.card(self.header.network)
        if self.deblurs:
            return DeblurGraph(self.network, card).eval()
        return CropGraph(self.network, card).eval()

    def example(self, count: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, ...]:
        """Make a picture of soft blobs, a mask and, if wanted, a label map."""
        rng = np.random.default_rng(seed)
        h, w = size
        coarse = torch.from_numpy(rng.random((count, 3, 6, 7), np.float32))
        soft = nn.functional.interpolate(coarse, (h, w), mode="bicubic", align_corners=True)
        grain = torch.from_numpy(rng.normal(0, 0.02, (count, 3, h, w)).astype(np.float32))
        picture = ((soft + grain).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1)
        mask = torch.zeros(count, h, w, dtype=torch.uint8)
        for index in range(count):
            mask[index, h // 4 : h // 2 + index, w // 3 : w // 3 + max(2, w // 4)] = 255
        if self.deblurs:
            return (picture.contiguous(),)
        if not self.labels:
            return picture.contiguous(), mask
        label = torch.zeros(count, h, w, dtype=torch.uint8)
        label[:, h // 2 :] = 1
        return picture.contiguous(), mask, label


def to_onnx(crop: Crop, path: Path) -> Exported:
    """Write an ONNX file and check it in ONNX Runtime against torch.

    Args:
        crop: What to write.
        path: The file; it appears whole, after the check, or not at all.

    Raises:
        ExportError: If a package is missing, the network cannot be exported, or the file's result
            differs from torch by more than 1/255.
    """
    _need(*_NEEDED)
    import onnxruntime

    def write(graph: CropGraph, draft: Path) -> None:
        with _quiet(), _told("ONNX"):
            program = torch.onnx.export(
                graph,
                crop.example(2, crop.side),
                dynamo=True,
                verbose=False,
                dynamic_shapes=_shapes(crop),
            )
        if program is None:
            raise ExportError("the ONNX exporter returned nothing")
        program.model.metadata_props.update(_facts(crop))
        program.save(str(draft), external_data=False)

    def load(draft: Path) -> Callable[..., NDArray[np.uint8]]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(draft), options, providers=["CPUExecutionProvider"]
        )
        names = [given.name for given in session.get_inputs()]

        def run(*given: Tensor) -> NDArray[np.uint8]:
            feed = {name: value.numpy() for name, value in zip(names, given, strict=True)}
            return np.asarray(session.run(None, feed)[0])

        return run

    return _checked(crop, path, write, load)


def to_torch(crop: Crop, path: Path) -> Exported:
    """Write a `torch.export` file (.pt2) and check it against the network it was made from.

    Args:
        crop: What to write.
        path: The file; it appears whole, after the check, or not at all.

    Raises:
        ExportError: If the network cannot be exported, or the file's result differs.
    """

    def write(graph: CropGraph, draft: Path) -> None:
        with _quiet(), _told("torch.export"):
            program = torch.export.export(
                graph,
                crop.example(2, crop.side),
                dynamic_shapes=_shapes(crop),
            )
            torch.export.save(program, draft, extra_files={"retouch.txt": str(_facts(crop))})

    def load(draft: Path) -> Callable[..., NDArray[np.uint8]]:
        with _quiet():
            module = torch.export.load(draft).module()
        return lambda *given: module(*given).numpy()

    return _checked(crop, path, write, load)


def _checked(
    crop: Crop,
    path: Path,
    write: Callable[[CropGraph, Path], None],
    load: Callable[[Path], Callable[..., NDArray[np.uint8]]],
) -> Exported:
    """Write beside the target, compare with torch on several inputs, then give it its name."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise ExportError(f"{path} cannot be written: name a file in a folder that exists")
    graph, (h, w) = crop.graph(), crop.side
    cases = [(2, h, w), (1, h, w)]
    if crop.is_free:
        cases.append((1, h + 2 * crop.smallest + 1, w + crop.smallest - 1))
    with torch.inference_mode(), _told("torch"):
        graph(*crop.example(1, (h, w)))  # a network that cannot run says so before any export
    with tempfile.TemporaryDirectory(prefix=".retouch-", dir=path.resolve().parent) as folder:
        draft = Path(folder) / f"draft{path.suffix}"
        write(graph, draft)
        run, worst = load(draft), 0
        for seed, (count, *size) in enumerate(cases):
            given = crop.example(count, (size[0], size[1]), seed)
            with torch.inference_mode():
                want = graph(*given).numpy()
            worst = max(worst, _difference(run(*given), want, given))
        if worst > _TOLERANCE:
            raise ExportError(f"{path} was not written: it differs from torch by {worst}/255")
        del run
        draft.chmod(0o644)
        size = draft.stat().st_size
        draft.replace(path)
    return Exported(
        path=path,
        bytes=size,
        inputs=_described(crop),
        difference=worst,
        checked=tuple((n, a, b) for n, a, b in cases),
    )


def _difference(found: NDArray[np.uint8], want: NDArray[np.uint8], given: Sequence[Tensor]) -> int:
    """Largest difference of two results; infinite if known pixels were touched."""
    if found.shape != want.shape or found.dtype != np.uint8:
        raise ExportError(f"the file returns {found.dtype} {found.shape}, expected {want.shape}")
    if len(given) > 1:
        known = given[1].numpy() < 128
        if not np.array_equal(found[known], given[0].numpy()[known]):
            raise ExportError("the file changes known pixels")
    return int(np.abs(found.astype(np.int16) - want.astype(np.int16)).max())


def _shapes(crop: Crop) -> tuple[dict[int, Any], ...]:
    """Free axes of each input."""
    free = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC} if crop.is_free else {0: Dim.DYNAMIC}
    return tuple(dict(free) for _ in crop.example(1, (8, 8)))


def _described(crop: Crop) -> str:
    sides = "h,w" if crop.is_free else f"{crop.side[0]},{crop.side[1]}"
    names = ["picture", "mask", "labels"][: len(crop.example(1, (8, 8)))]
    shapes = [f"{n} uint8 (b,{sides}{',3' if n == 'picture' else ''})" for n in names]
    least = f"; h and w from {crop.smallest} px" if crop.is_free else ""
    return ", ".join(shapes) + least


def _facts(crop: Crop) -> dict[str, str]:
    """What a file says about itself."""
    return {
        "retouch.network": crop.header.network,
        "retouch.weights": crop.header.name,
        "retouch.license": crop.header.license,
        "retouch.inputs": _described(crop),
    }


def _need(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"ONNX files need {', '.join(missing)}: pip install 'retouch[export]'")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what exporters raise into one line."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = [line for line in lines if line.startswith("<class")] or lines or [repr(error)]
        raise ExportError(f"{what} refuses this network: {cause[-1][:300]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' own notes, which are about their insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
