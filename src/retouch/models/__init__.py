"""The networks. This folder is the registry: `<name>.py` defines `CARD`, nothing else to edit."""

import importlib
import pkgutil

from torch import nn

from retouch.models._card import Card, Official

__all__ = ["Card", "Official", "build", "card", "names"]


def names() -> tuple[str, ...]:
    """List the networks without importing them."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def card(name: str) -> Card:
    """Import one network and return its card.

    Raises:
        KeyError: If there is no such network; the message lists those there are.
    """
    if name not in names():
        raise KeyError(f"no network {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").CARD


def build(name: str, **config: object) -> nn.Module:
    """Create a network with random weights; `config` overrides fields of its config class."""
    facts = card(name)
    return facts.model(facts.config(**config))
