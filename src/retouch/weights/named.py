"""Finds weights by the name a person types: a file, a weight's name, or a network's name."""

from pathlib import Path

from torch import nn

from retouch import models
from retouch.weights import files, segmenters, store
from retouch.weights.files import Header, WeightsError

DEFAULT = "dilated-photos"
"""What fills if nobody asks for anything else."""
_ASKED = ("-photos", "-scenes", "-faces")
"""How names of weights end that are asked for most, the first before the others."""


def available(task: str = "") -> dict[str, Path]:
    """List the weight files at hand that work on pictures, by name; segmenters are none.

    Args:
        task: `inpaint` or `deblur`: only weights for that.
    """
    found: dict[str, Path] = {}
    for name, path in sorted(store.own().items()):
        header = files.read_header(path)
        fits = task in ("", header.config.get("task", "inpaint"))
        if header.network in models.names() and fits:
            found[name] = path
    return found


def find(name: str, task: str = "inpaint") -> Path:
    """Find a weight file.

    Args:
        name: A path to a `.safetensors` file, the name of weights (`dilated-photos`) or of a
            network (`isnet`: its weights for the task before others, and among them those that
            know pictures of many kinds before those for faces, then those for facades).
        task: `inpaint` or `deblur`.

    Raises:
        WeightsError: If there is none; the message lists what there is.
    """
    if name.endswith(".safetensors") or "/" in name:
        return Path(name)
    at_hand = available()
    if name in at_hand:
        return at_hand[name]
    fits = available(task)
    of_network = [key for key in at_hand if key.startswith(f"{name}-")]
    if of_network:
        others = {key: tuple(not key.endswith(end) for end in _ASKED) for key in of_network}
        rank = {key: (key not in fits, others[key]) for key in of_network}
        return at_hand[min(of_network, key=rank.__getitem__)]
    listed = ", ".join(sorted(at_hand)) or "none"
    if name in models.names():
        raise WeightsError(
            f"no weights of network {name!r} are at hand (there are: {listed}); train some,"
            " or bring in an official checkpoint: retouch weights import FILE"
        )
    raise WeightsError(f"no weights and no network named {name!r}; weights at hand: {listed}")


def load(name: str | Path) -> tuple[Header, nn.Module]:
    """Load a network with its weights, in evaluation mode, float32, its segmenter attached.

    Args:
        name: A file, or as in `find`.

    Raises:
        WeightsError: If there are no such weights or they do not fit.
    """
    header, network = files.load(name if isinstance(name, Path) else find(name))
    segmenters.attach(network)
    return header, network
