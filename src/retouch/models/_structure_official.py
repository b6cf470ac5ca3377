"""Checkpoints of the structure network's authors: TensorFlow 1 variables, renamed and turned."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from torch import Tensor
from torch.nn import functional

_NORM = {"gamma": "weight", "beta": "bias"}


def _converted(
    variables: Mapping[str, Tensor], root: str, scopes: Mapping[str, str]
) -> dict[str, Tensor]:
    """Convert the variables below `root`; Adam's slots are dropped.

    Kernels (k, k, in, out) become (out, in, k, k), transposed ones (k, k, out, in) become
    (in, out, k, k): the same turn. A spectral `u` (1, out) also gives the `v` of its next step.

    Args:
        variables: Name -> tensor.
        root: First scope, such as `inpaint_net`.
        scopes: The scope of every layer below `root` -> the name of our module.

    Returns:
        A state dict.

    Raises:
        KeyError: If a variable lies in no known scope.
    """
    state: dict[str, Tensor] = {}
    for key, value in variables.items():
        scope, _, name = key.removeprefix(f"{root}/").rpartition("/")
        if not key.startswith(f"{root}/") or name.startswith("Adam"):
            continue
        if scope not in scopes:
            raise KeyError(f"no layer for the TensorFlow variable {key!r}")
        if name == "kernel":
            state[f"{scopes[scope]}.weight"] = value.permute(3, 2, 0, 1).contiguous()
        elif name == "u":
            state[f"{scopes[scope]}.u"] = value[0]
        else:
            is_norm = "InstanceNorm" in scope
            state[f"{scopes[scope]}.{_NORM[name] if is_norm else name}"] = value
    for key in [key for key in state if key.endswith(".u")]:
        layer = key.removesuffix(".u")
        v = state[key] @ state[f"{layer}.weight"].flatten(1)
        state[f"{layer}.v"] = functional.normalize(v, dim=0)
    return state


def _scopes(blocks: int) -> Iterator[tuple[str, str]]:
    """TensorFlow's scope of each of our modules; nameless layers are counted as they are made."""
    convs = (f"conv2d_{n}" if n else "conv2d" for n in count())
    norms = (f"InstanceNorm_{n}" if n else "InstanceNorm" for n in count())
    units = [(f"encoder.{n}", "") for n in range(3)]
    for n in range(blocks):
        units += [(f"blocks.{n}.first", f"en_64_8_{n}0"), (f"blocks.{n}.second", f"en_64_8_{n}1")]
    units += [(f"levels.{n}.{m}", "") for n in range(3) for m in ("embed", "gradient", "image")]
    for ours, theirs in units:
        yield from ((theirs or next(convs), f"{ours}.conv"), (next(norms), f"{ours}.norm"))
    ups = {"de128_conv4_upsample": "ups.0", "de256_conv5_upsample": "ups.1"}
    for n, side in enumerate((64, 128, 256)):
        theirs, ours = f"attention_pooling_{side}", f"levels.{n}.attention"
        yield from ((theirs, ours), (f"{theirs}/conv2d", f"{ours}.down.conv"))
        yield f"{theirs}/InstanceNorm", f"{ours}.down.norm"
        for letter, part in (("f", "key"), ("g", "query"), ("h", "value")):
            yield f"{theirs}/{letter}_conv/conv2d", f"{ours}.{part}"
        ups[f"{theirs}/attention_down_upsample"] = f"{ours}.up"
    for theirs, ours in ups.items():
        yield f"{theirs}/conv2d_transpose", f"{ours}.conv"
        yield f"{theirs}/InstanceNorm", f"{ours}.norm"


def from_official(variables: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert `inpaint_net/...`; the critic, Adam's slots and counters are dropped."""
    blocks = sum(f"inpaint_net/en_64_8_{n}0/kernel" in variables for n in range(10))
    state = _converted(variables, "inpaint_net", dict(_scopes(blocks)))
    channels = len(state["encoder.0.conv.weight"])
    return {"channels": channels, "blocks": blocks, "guides": "whole"}, state


def critic_from_official(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert `discriminator256/...` of a training checkpoint."""
    scopes = {f"conv{n + 1}": f"layers.{n}" for n in range(5)}
    return _converted(variables, "discriminator256", scopes)
