"""TensorFlow 1 variables under PyTorch's names and in PyTorch's layout."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

_NORM = {"gamma": "weight", "beta": "bias"}


def from_tensorflow(
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
