"""Measures by how much content and style weigh differently with the unit-mean VGG-19.

The papers' weights of content and style terms belong to torchvision's VGG-19. The file with each
channel scaled to unit mean activation gives other values, so a weight found with one is wrong with
the other. This takes each network as it is before the first step, computes its terms with both
files on the same pictures, and prints their quotients: `FACTORS` in `retouch.training.calibration`.

    python benchmarks/calibration.py "../shared/data/natural_scenes/train-*.tar"

Where the store does not hold torchvision's VGG-19 (`vgg19`), its VGG-16 (`vgg16`, the backbone of
LPIPS: same training, same widths, one convolution less in each of the last three stages) stands in
for it; the table says so.
"""

import argparse
import statistics
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch import models
from retouch.data.batch import Batch
from retouch.data.batches import stack
from retouch.data.config import DataConfig
from retouch.layers.vgg import VGG19
from retouch.training import material
from retouch.training.config import TrainConfig
from retouch.weights import official, store

_STAGES = (2, 2, 3, 3, 3)


class StandIn(nn.Module):
    """torchvision's VGG-16 under VGG-19's names; what it lacks is its stage's last map."""

    scaling = "torchvision"

    def __init__(self) -> None:
        super().__init__()
        raw = official.read(store.path("vgg16"))
        tensors = {key: torch.as_tensor(value) for key, value in raw.items()}
        self.layers = [
            (
                tensors[f"VGG16_0.Conv_{i}.kernel"].permute(3, 2, 0, 1).contiguous(),
                tensors[f"VGG16_0.Conv_{i}.bias"],
            )
            for i in range(sum(_STAGES))
        ]

    def forward(self, image: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """As `VGG19`."""
        found: dict[str, Tensor] = {}
        layers = iter(self.layers)
        x = image
        for stage, depth in enumerate(_STAGES, start=1):
            x = x if stage == 1 else functional.max_pool2d(x, 2)
            for index in range(1, depth + 1):
                x = functional.relu(functional.conv2d(x, *next(layers), padding=1))
                found[f"relu{stage}_{index}"] = x
            found[f"relu{stage}_4"] = x
        return {name: found[name] for name in names}


def reference() -> tuple[nn.Module, str]:
    """Give torchvision's VGG-19 where the store has it."""
    try:
        return VGG19.from_state(official.read(store.path("vgg19"))), "torchvision's VGG-19"
    except store.MissingWeightsError:
        return StandIn(), "torchvision's VGG-16 in its place"


def factors(name: str, batch: Batch, theirs: nn.Module, ours: nn.Module) -> Mapping[str, float]:
    """Quotients (theirs / ours) of the terms of an untrained network."""
    card = models.card(name)
    torch.manual_seed(0)
    network = card.model(card.config(**card.small))
    found = []
    for features in (theirs, ours):
        objective = card.objective(card.objective_config(), features)
        with torch.no_grad():
            found.append(objective.generator_terms(objective.predict(network, batch), batch))
    return {
        key: float(found[0][key] / found[1][key])
        for key in found[0]
        if key.endswith(("content", "style")) and key != "unit_content"
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Quotients of content and style terms.")
    parser.add_argument("pictures", nargs="+", help="folders, file lists or tar shards")
    parser.add_argument("--count", type=int, default=16, help="pictures")
    arguments = parser.parse_args()
    theirs, what = reference()
    ours = VGG19.from_state(official.read(store.path("vgg19-unit-mean")))
    data = DataConfig(pictures=tuple(arguments.pictures), size=256, validation=0, check=False)
    sampler = material.read(
        TrainConfig(network="isnet", name="isnet-calibration", data=data)
    ).sampler
    print(f"{what} / unit-mean VGG-19, {arguments.count} pictures of 256 px")
    for name in models.names():
        if name in ("dilated", "srpnet"):  # their weights were found with the unit-mean file
            continue
        rows: list[Mapping[str, float]] = []
        for index in range(arguments.count):
            samples = [sampler.sample(index, 1)]
            batch = material.to_batch(stack(samples), torch.device("cpu"))
            rows.append(factors(name, batch, theirs, ours))
        for key in rows[0]:
            values = [row[key] for row in rows]
            low, high = min(values), max(values)
            print(f"{name:10} {key:16} {statistics.median(values):10.4g} ({low:.4g} to {high:.4g})")


if __name__ == "__main__":
    main()
