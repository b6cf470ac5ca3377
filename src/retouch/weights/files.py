"""Weight files: safetensors whose header names network, config, data and licence."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from retouch import models, recipe, segmentation


class WeightsError(ValueError):
    """A weight file is missing, of another format, or does not fit its network."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a weight file says about itself."""

    network: str
    """Name of the network: `retouch models`."""
    config: dict[str, Any]
    """Fields of the network's config."""
    name: str = ""
    """Name of the weights: `<network>-<data>[-<size>]`."""
    license: str = "research-only"
    data: tuple[str, ...] = ()
    """What it was trained on."""
    metrics: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    """Where it comes from: recipe and step, or the official file and its sha256."""
    reach: int | None = None
    """Thickest hole that it learned to fill at full size [px]; None: that of the network's card."""


def save(path: Path, header: Header, state: Mapping[str, Tensor]) -> None:
    """Write a weight file: to a temporary name first, then in one move.

    Args:
        path: The `.safetensors` file.
        header: What it says about itself.
        state: The network's state dict.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().contiguous().cpu() for key, value in state.items()}
    metadata = {"format": "retouch-1", "retouch": json.dumps(recipe.plain(header))}
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata)
        os.chmod(temporary, 0o644)  # noqa: PTH101
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read a weight file; nothing in it is executed.

    Raises:
        WeightsError: If it is missing, not safetensors, or carries no Retouch header.
    """
    with _opened(path) as file:
        header = _header(file, path)
        # copied to where the allocator aligns it: sums in vectors depend on that in the last bit
        state = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    return header, state


def read_header(path: Path) -> Header:
    """Read only what a weight file says about itself.

    Raises:
        WeightsError: See `read`.
    """
    with _opened(path) as file:
        found = _header(file, path)
    return found  # noqa: RET504  (a return inside the block hides the error from the type checker)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise WeightsError(f"weight file {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from None


def _header(file: Any, path: Path) -> Header:
    text = (file.metadata() or {}).get("retouch")
    if text is None:
        raise WeightsError(
            f"{path} carries no Retouch header; official checkpoints are brought in by"
            f" `retouch weights import {path}`"
        )
    try:
        return recipe.structure(json.loads(text), Header, where=str(path))
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path} has a broken header: {error}") from None


def card_of(network: str, where: str) -> Any:
    """Return the card of an inpainting or a segmentation network.

    Raises:
        WeightsError: If there is no such network; the message lists those there are.
    """
    for kind in (models, segmentation):
        if network in kind.names():
            return kind.card(network)
    known = ", ".join((*models.names(), *segmentation.names()))
    raise WeightsError(f"{where} is of network {network!r}; there are {known}")


def build(header: Header, state: Mapping[str, Tensor], *, where: str) -> nn.Module:
    """Build the network of a header and load its weights strictly, as float32, in evaluation mode.

    Raises:
        WeightsError: If the network is unknown or keys or shapes do not fit.
    """
    card = card_of(header.network, where)
    with torch.device("meta"):
        network = card.model(recipe.structure(header.config, card.config, where=where))
    expected = network.state_dict()
    _check_keys(expected, state, where)
    tensors = {key: value.to(expected[key].dtype) for key, value in state.items()}
    network.load_state_dict(tensors, assign=True)
    if left := [key for key, value in network.named_buffers() if value.is_meta]:
        raise WeightsError(f"{where}: buffers {left[:3]} of {header.network} are not in its state")
    return network.eval()


def _check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        raise WeightsError(
            f"{where} does not fit its network: missing {missing[:3]}, unexpected {unexpected[:3]}"
        )
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise WeightsError(
                f"{where}: {key} is {tuple(value.shape)}, expected {tuple(expected[key].shape)}"
            )


def load(path: Path) -> tuple[Header, nn.Module]:
    """Read a weight file and build its network.

    Raises:
        WeightsError: See `read` and `build`.
    """
    header, state = read(path)
    return header, build(header, state, where=str(path))
