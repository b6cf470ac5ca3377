"""What the tests against official code share: weights, inputs and the measure of closeness."""

import importlib.util
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def relative_error(found: Tensor, truth: Tensor) -> float:
    """max|a-b| / max|b|."""
    truth = truth.double()
    return float((found.double() - truth).abs().max() / truth.abs().max())


def formula(key: str, shape: list[int], gain: float = 3) -> Tensor:
    """Float64 weights in official layout that no random generator can change."""
    index = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    noise = torch.sin(index * 12.9898 + zlib.crc32(key.encode()) % 1000) * 43758.5453
    values = (noise - noise.floor()) * 2 - 1
    fan = int(np.prod(shape[1:]))
    return (values * (gain / fan) ** 0.5 if len(shape) > 1 else values * 0.1).reshape(shape)


def count(network: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


class Parity:
    """Weights, inputs and outputs of the official networks, rebuilt by `../shared/parity`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("seeded", folder / "seeded.py")
        assert spec is not None
        assert spec.loader is not None
        self.recipe: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.recipe)

    def official(self, case: str, **renamed: str) -> dict[str, Tensor]:
        """The official state dict; `renamed` maps parts of keys to those that seed them."""
        state: dict[str, Tensor] = {}
        for key, shape in self.json(f"{case}.keys.json").items():
            seed = key
            for part, other in renamed.items():
                seed = seed.replace(part, other)
            state[key] = torch.from_numpy(self.recipe.seeded(seed, shape))
        return state

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def picture(self, *names: str, height: int, width: int) -> Tensor:
        """Pictures (b, 3, h, w) in [0, 1], float32."""
        found = [torch.from_numpy(self.recipe.picture(name, height, width)) for name in names]
        return torch.stack(found).permute(0, 3, 1, 2).float() / 255

    def holes(self, *names: str, height: int, width: int, share: float = 0.3) -> Tensor:
        """Masks (b, 1, h, w), 1 = hole."""
        found = [torch.from_numpy(self.recipe.holes(n, height, width, share=share)) for n in names]
        return torch.stack(found)[:, None]

    error = staticmethod(relative_error)
