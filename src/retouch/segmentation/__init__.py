"""Networks that propose label maps, the label sets they speak, and the palettes that show them."""

import importlib
from typing import TYPE_CHECKING

from retouch.segmentation.labels import LABEL_SETS, LabelSet, label_set

if TYPE_CHECKING:
    from torch import nn

    from retouch.segmentation._card import SegmenterCard

__all__ = ["LABEL_SETS", "LabelSet", "build", "card", "label_set", "names"]

_NETWORKS = ("bisenet", "outdoor")


def names() -> tuple[str, ...]:
    """List the segmentation networks without importing them."""
    return _NETWORKS


def card(name: str) -> "SegmenterCard":
    """Import one segmentation network and return its card.

    Raises:
        KeyError: If there is no such network; the message lists those there are.
    """
    if name not in _NETWORKS:
        raise KeyError(f"no segmentation network {name!r}; there are {', '.join(_NETWORKS)}")
    return importlib.import_module(f"{__name__}.{name}").CARD


def build(name: str, **config: object) -> "nn.Module":
    """Create a segmentation network with random weights; `config` overrides its config's fields."""
    facts = card(name)
    return facts.model(facts.config(**config))
