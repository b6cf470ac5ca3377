"""Retouch: image inpainting. Known pixels stay as they are, bit for bit.

>>> import retouch
>>> retouch.names()  # doctest: +ELLIPSIS
(...'isnet'...)
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Inpainter", "__version__", "build", "card", "fill", "load", "names"]
_HOMES = {
    "Inpainter": "retouch.pipeline.inpainter",
    "fill": "retouch.pipeline.quick",
    "names": "retouch.models",
    "card": "retouch.models",
    "build": "retouch.models",
    "load": "retouch.weights.named",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line starts without torch (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
