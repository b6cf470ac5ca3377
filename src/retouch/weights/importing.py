"""Brings in the authors' checkpoints: recognise, convert, run once, write."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retouch import models, segmentation
from retouch.segmentation._card import SegmenterCard
from retouch.weights import files, official, store


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a checkpoint turned out to be."""

    what: str
    name: str
    path: Path
    parameters: int
    config: dict[str, Any]


def bring_in(file: Path, *, name: str | None = None, output: Path | None = None) -> Found:
    """Convert an official checkpoint into a weight file.

    Args:
        file: The checkpoint, see `retouch.weights.official`.
        name: Name of the weights; default `<network>-<file's stem>`.
        output: Where to write; default: into the store.

    Raises:
        CheckpointError: If the file cannot be read without running its code.
        WeightsError: If no network recognises it; the message shows its first keys.
    """
    if not file.is_file():
        raise files.WeightsError(f"{file} does not exist")
    state = _read(file)
    network, importer = recognise(state, where=str(file))
    config, tensors = importer.convert(state)
    card = files.card_of(network, str(file))
    chosen = name or f"{network}-{file.stem.lower()}"
    header = files.Header(
        network=network,
        config=config,
        name=chosen,
        license=card.license,
        source={"file": file.name, "sha256": store.sha256(file), "what": importer.what},
    )
    built = files.build(header, tensors, where=str(file))
    _run_once(built, card, config, where=str(file))
    path = output or store.folder() / f"{chosen}.safetensors"
    files.save(path, header, built.state_dict())
    count = sum(p.numel() for p in built.parameters())
    return Found(what=importer.what, name=chosen, path=path, parameters=count, config=config)


def recognise(state: Mapping[str, Tensor], *, where: str) -> tuple[str, Any]:
    """Find the network and the importer of a bare official state dict.

    Raises:
        WeightsError: If there is none; the message shows the first keys.
    """
    for network, importer in _importers():
        if importer.recognise(state):
            return network, importer
    known = "; ".join(importer.what for _, importer in _importers())
    raise files.WeightsError(
        f"{where} is of no known kind: its {len(state)} keys begin {list(state)[:3]}."
        f" Known: {known}"
    )


def _importers() -> Iterator[tuple[str, Any]]:
    for kind in (models, segmentation):
        for name in kind.names():
            for importer in kind.card(name).official.values():
                yield name, importer


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".index":
        from retouch.weights import tensorflow

        raw: Mapping[str, Any] = tensorflow.read(file)
    else:
        raw = official.read(file)
    return {key: torch.as_tensor(value) for key, value in raw.items()}


@torch.inference_mode()
def _run_once(network: torch.nn.Module, card: Any, config: dict[str, Any], *, where: str) -> None:
    image = torch.full((1, 3, *[_side(card)] * 2), 0.5)
    alone = isinstance(card, SegmenterCard) or config.get("task", "inpaint") != "inpaint"
    given = (image,) if alone else (image, torch.zeros_like(image[:, :1]))
    if not network(*given).isfinite().all():
        raise files.WeightsError(
            f"{where}: the converted network gives numbers that are not finite"
        )


def _side(card: Any) -> int:
    if isinstance(card, SegmenterCard):
        return 64
    return card.fixed_size or -(-max(64, card.min_size) // card.multiple_of) * card.multiple_of
