"""Feeding the loop: each process makes its own share of every step ahead of time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from retouch.data.batch import Batch
from retouch.data.batches import Sample, Sampler, stack
from retouch.training import material
from retouch.training.config import TrainConfig
from retouch.training.errors import TrainingError


def batches(
    sampler: Sampler, config: TrainConfig, fabric: Fabric, objective: nn.Module, start: int
) -> Iterator[list[Batch]]:
    """Yield this process's micro-batches of each step from `start` to the last.

    Process r of n takes the r-th n-th of a batch, in `config.accumulate` parts. Whatever terms
    divide by (the hole share, and what the objective's `shares` returns) is the mean over all of
    them, so that averages of terms and gradients are those of one large batch.

    Raises:
        TrainingError: If the batch cannot be divided among the processes.
    """
    parts = fabric.world_size * config.accumulate
    if config.batch % parts:
        raise TrainingError(
            f"batch must be a multiple of processes x accumulate = {fabric.world_size} x"
            f" {config.accumulate}, got {config.batch}"
        )
    mine = config.batch // fabric.world_size
    with ThreadPoolExecutor(config.data.threads) as pool:

        def order(step: int) -> list[Future[Sample]]:
            first = step * config.batch + fabric.global_rank * mine
            return [
                pool.submit(sampler.sample, first + index, config.batch) for index in range(mine)
            ]

        ahead = order(start) if start < config.steps else []
        for step in range(start, config.steps):
            samples = [future.result() for future in ahead]
            if step + 1 < config.steps:
                ahead = order(step + 1)
            yield _shared(_micro(samples, config, fabric.device), fabric, objective)


def _micro(samples: Sequence[Sample], config: TrainConfig, device: torch.device) -> list[Batch]:
    size = len(samples) // config.accumulate
    return [
        material.to_batch(
            stack(samples[at : at + size]), device, channels_last=config.channels_last
        )
        for at in range(0, len(samples), size)
    ]


def _shared(found: list[Batch], fabric: Fabric, objective: Any) -> list[Batch]:
    if len(found) == 1 and fabric.world_size == 1:
        return found
    shares: list[dict[str, Tensor]] = [{"": batch.hole_share} for batch in found]
    if hasattr(objective, "shares"):
        shares = [own | objective.shares(batch) for own, batch in zip(shares, found, strict=True)]
    means = {key: mean(fabric, [own[key] for own in shares]) for key in shares[0]}
    share = means.pop("")
    return [replace(batch, hole_share=share, shares=means) for batch in found]


def mean(fabric: Fabric, values: Sequence[Tensor]) -> Tensor:
    """Mean of scalars over the micro-batches of all processes."""
    here = torch.stack([value.detach().float() for value in values]).mean()
    if fabric.world_size == 1:
        return here
    return fabric.all_reduce(here, reduce_op="mean")  # pyright: ignore[reportReturnType]
