"""Where a training step goes: the networks' own compute against everything around it.

Profiles steps of a recipe with critics at work (torch.profiler). `networks` are forward and
backward passes of the network, the critics and VGG-19; a backward operation belongs to the forward
operation that made it. Around them: waiting for data and bringing it to the device, the losses'
arithmetic forward and backward, Adam, clipping, the moving average, Python.

    python benchmarks/training_step.py recipes/default.toml
    python benchmarks/training_step.py recipes/isnet-scenes.toml -s 'data.pictures=["x.tar"]'
"""

import argparse
import datetime
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from retouch import recipe
from retouch.training import feed
from retouch.training.config import TrainConfig
from retouch.training.learner import Learner
from retouch.training.loop import Run

WARM = 2
OWN = "networks"
PARTS = {
    "data": "waiting for samples, bringing them to the device",
    "optimizer": "Adam of network and critics",
    "clip": "gradient norm and clipping",
    "average": "moving average of the weights",
}


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("-s", "--set", action="append", default=[])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    lines = [*options.set, "optim.critic_from=0", "tensorboard=false"]
    config = recipe.load(options.recipe, TrainConfig, lines)
    run = Run(config, Path("unused"), options.device, resume=False)
    learner = run.learner
    stream = feed.batches(run.material.sampler, config, run.fabric, learner.objective, 0)
    for number, batches in enumerate(islice(stream, WARM)):
        learner.step(number, batches)
    with watched(learner), profile(activities=[ProfilerActivity.CPU]) as found:
        for number in range(options.steps):
            with record_function("retouch::step"):
                with record_function("retouch::data"):
                    batches = next(stream)
                terms = learner.step(WARM + number, batches)
                float(next(iter(terms.values())))  # a log line waits for the device
    report(found.events(), config, str(run.fabric.device), options.steps)


@contextmanager
def watched(learner: Learner) -> Iterator[None]:
    """Name what the networks compute, and the parts around them, in the profile."""
    objective: Any = learner.objective
    networks: list[nn.Module] = [learner._predict, *learner.critics.values()]
    if getattr(objective, "features", None) is not None:
        networks.append(objective.features)
    wrapped: list[tuple[Any, str, Any]] = []

    def wrap(owner: Any, method: str, name: str) -> None:
        inner = getattr(owner, method)

        def outer(*values: Any, **named: Any) -> Any:
            with record_function(f"retouch::{name}"):
                return inner(*values, **named)

        wrapped.append((owner, method, inner))
        setattr(owner, method, outer)

    for network in networks:
        wrap(network, "forward", OWN)
    for optimizer in (learner.optimizer, learner.critic_optimizer):
        if optimizer is not None:
            wrap(optimizer, "step", "optimizer")
            wrap(optimizer, "zero_grad", "optimizer")
    wrap(nn.utils, "clip_grad_norm_", "clip")
    if learner.ema:
        wrap(learner.ema, "update", "average")
    try:
        yield
    finally:
        for owner, method, inner in wrapped:
            setattr(owner, method, inner)


def report(events: Any, config: TrainConfig, device: str, steps: int) -> None:
    """Add up the profile and print it."""
    times = dict.fromkeys(["step", OWN, *PARTS], 0.0)
    inside: set[int] = set()
    for event in events:
        if event.name.startswith("retouch::"):
            name = event.name.removeprefix("retouch::")
            if not (name == OWN and _within(event, OWN)):
                times[name] += event.time_range.elapsed_us()
        elif event.sequence_nr >= 0 and _within(event, OWN):
            inside.add(event.sequence_nr)
    backward = {True: 0.0, False: 0.0}
    prefix = "autograd::engine::evaluate_function: "
    for event in events:
        if event.name.startswith(prefix):
            own = event.sequence_nr in inside or "AccumulateGrad" in event.name
            backward[own] += event.time_range.elapsed_us()
    whole = times["step"]
    forward, own = times[OWN], times[OWN] + backward[True]
    parts = {
        "networks, forward": forward,
        "networks, backward": backward[True],
        "losses, backward": backward[False],
        **{PARTS[name]: times[name] for name in PARTS},
    }
    parts["losses, forward; Python"] = whole - sum(parts.values())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    print(
        f"commit {commit}, {now}, {platform.machine()}, {device}, {torch.get_num_threads()} threads"
    )
    print(f"{config.name}: batch {config.batch}, {config.data.size} px, {config.precision}")
    print(
        f"step {whole / steps / 1e3:.1f} ms; outside the networks {100 * (1 - own / whole):.1f} %"
    )
    for name, value in parts.items():
        print(f"  {name:50} {value / steps / 1e3:9.2f} ms {100 * value / whole:6.2f} %")


def _within(event: Any, name: str) -> bool:
    parent = event.cpu_parent
    while parent is not None:
        if parent.name == f"retouch::{name}":
            return True
        parent = parent.cpu_parent
    return False


if __name__ == "__main__":
    main()
