"""A dry run: what a recipe reads, how large it is and how long it takes, without writing a file."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from retouch.data.batch import Batch
from retouch.training import feed
from retouch.training.learner import Learner
from retouch.training.loop import Run

STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a dry run found."""

    device: str
    counts: Mapping[str, int]
    """Pictures and masks by use."""
    overlaps: Mapping[str, list[tuple[str, str]]]
    """Training pictures that are also in another set, by content: pairs of keys by set."""
    parameters: Mapping[str, int]
    """Of the network (all, and those that learn) and of the critics."""
    memory: Mapping[str, int]
    """Estimated need of one process, by purpose [bytes]."""
    step: float
    """Median time of a step [s]."""
    reading: float
    """Median share of it that waits for data, in [0, 1]."""
    terms: Mapping[str, float]
    """Unweighted terms of the last rehearsed step."""


def rehearse(run: Run) -> Rehearsal:
    """Train five steps of a fresh run, with the critics at work.

    The measured steps change the run's weights: it cannot be trained afterwards.
    """
    learner, config = run.learner, run.config
    start = min(config.optim.critic_from, max(0, config.steps - STEPS))
    stream = feed.batches(run.material.sampler, config, run.fabric, learner.objective, start)
    times: list[tuple[float, float]] = []
    terms: dict[str, Tensor] = {}
    activations = 0
    before = time.perf_counter()
    for number, batches in enumerate(islice(stream, STEPS + 1)):
        read = time.perf_counter()
        if number == 0:  # the first pass warms up and is not timed
            activations = _activations(learner, batches[0])
        terms = learner.step(start + number, batches)
        if run.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        after = time.perf_counter()
        if number or config.steps == 1:
            times.append((after - before, read - before))
        before = after
    times.sort()
    step, reading = times[len(times) // 2]
    return Rehearsal(
        device=str(run.fabric.device),
        counts=run.material.counts,
        overlaps=run.material.overlaps,
        parameters=_parameters(learner),
        memory=_memory(learner, activations),
        step=step,
        reading=reading / step,
        terms={key: float(value) for key, value in terms.items()},
    )


def _parameters(learner: Learner) -> dict[str, int]:
    found = list(learner.network.parameters())
    return {
        "network": sum(p.numel() for p in found),
        "learning": sum(p.numel() for p in found if p.requires_grad),
        "critics": sum(p.numel() for p in learner.critics.parameters()),
    }


def _memory(learner: Learner, activations: int) -> dict[str, int]:
    learning = [p for p in learner.network.parameters() if p.requires_grad]
    learning += list(learner.critics.parameters())
    averages = _bytes(learner.ema.network) if learner.ema else 0
    return {
        "weights": _bytes(learner.network) + _bytes(learner.objective) + averages,
        "gradients and Adam": 3 * sum(p.nbytes for p in learning),
        "activations": activations,
    }


def _bytes(module: nn.Module) -> int:
    return sum(t.nbytes for t in (*module.parameters(), *module.buffers()))


def _activations(learner: Learner, batch: Batch) -> int:
    """What one micro-batch keeps for the backward pass [bytes]."""
    weights = {p.untyped_storage().data_ptr() for p in learner.network.parameters()}
    weights |= {p.untyped_storage().data_ptr() for p in learner.objective.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = learner.outputs(batch)
        with learner.fabric.autocast():
            learner.objective.generator_terms(outputs, batch)
    return sum(kept.values())
