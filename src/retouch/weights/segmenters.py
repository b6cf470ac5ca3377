"""Segmentation networks that propose label maps: found by name, loaded, attached."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retouch import segmentation
from retouch.weights import files, official, store
from retouch.weights.files import Header

DEFAULTS = {
    "faces": ("bisenet-celebamask", "bisenet-celebamask-mini"),
    "facades": ("bisenet-cmp-facade",),
    "street": ("bisenet-camvid",),
    "outdoor": ("outdoor-scenes",),
}
"""Weights that label pictures, by label set, the best first; networks may name others."""


def default(labels: str) -> str:
    """Name the best weights at hand for a label set, or the best of all if none are at hand."""
    for name in DEFAULTS[labels]:
        with suppress(store.MissingWeightsError, store.StoreError):
            store.path(name)
            return name
    return DEFAULTS[labels][0]


def load(name: str, labels: str | None = None) -> nn.Module:
    """Load a segmentation network: our own file, or the authors'.

    Args:
        name: Name of the weights, such as `bisenet-celebamask`, or a file.
        labels: Label set that it must speak; None: any.

    Returns:
        The network in evaluation mode: image (b, 3, h, w) in [0, 1] -> logits.

    Raises:
        MissingWeightsError: If the store does not hold the file; the message says where to get it.
        WeightsError: If the file fits no segmentation network, or speaks of other labels.
    """
    path = Path(name) if Path(name).is_file() else store.path(name)
    header, state = _read(path)
    if header.network not in segmentation.names():
        raise files.WeightsError(f"{path} is of {header.network!r}, no segmentation network")
    built: Any = files.build(header, state, where=str(path))
    spoken = getattr(built.config, "labels", labels)
    if labels is not None and spoken != labels:
        raise files.WeightsError(f"{path} labels {spoken}, {labels} is needed")
    return built.requires_grad_(False)


def attach(network: nn.Module) -> None:
    """Give a network that is guided by label maps the segmenter it names, or the best at hand.

    Without one it fills by the maps that it is given only.

    Raises:
        WeightsError: If the segmenter's file does not fit.
    """
    guided: Any = network
    if getattr(guided, "label_set", None) is None or guided.segmenter is not None:
        return
    labels = guided.label_set.name
    for name in (guided.config.segmenter, default(labels)):
        with suppress(store.MissingWeightsError, store.StoreError):
            if name and guided.segmenter is None:
                guided.segmenter = load(name, labels)


def _read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    if path.suffix == ".safetensors":
        return files.read(path)
    state = {key: torch.as_tensor(value) for key, value in official.read(path).items()}
    for name in segmentation.names():
        for kind in segmentation.card(name).official.values():
            if kind.recognise(state):
                config, converted = kind.convert(state)
                return Header(network=name, config=config), converted
    raise files.WeightsError(f"no segmentation network recognises {path}")
