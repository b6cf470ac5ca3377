"""The data path alone: samples with masks per second, stage by stage.

Reads the pictures and masks of a recipe, then makes the samples of a training stream at `--size` px
without any network: first with decoded pictures in memory, then decoding at every use. CPU time is
that of the whole process; `per core` is samples per CPU second, which other work on the machine
disturbs least.

    python benchmarks/data_path.py recipes/default.toml
    python benchmarks/data_path.py recipes/default.toml --threads 2 --size 256 --samples 2000
"""

import argparse
import datetime
import platform
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from retouch import recipe
from retouch.data import crops, sources
from retouch.data.batches import Sampler, stack
from retouch.data.decoded import Decoded
from retouch.training.config import TrainConfig
from retouch.training.material import to_batch

BATCH = 12


def timed(name: str, work: Callable[[int], Any], samples: int, threads: int) -> None:
    """Run `work` once per sample in threads; print samples per second."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(32)))
        wall, cpu = time.perf_counter(), time.process_time()
        list(pool.map(work, range(32, 32 + samples)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rates = f"{samples / wall:8.0f} {samples / cpu:8.0f} {1e3 * cpu / samples:8.2f}"
    print(f"{name:44} {rates}", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    config = recipe.load(options.recipe, TrainConfig)
    data = replace(config.data, size=options.size)
    entries = sources.entries(data.pictures)[:1000]
    shapes = sources.each(sources.decode_mask, sources.entries(data.masks))
    pictures = Decoded(entries)
    stages: dict[str, Callable[[int], Any]] = {
        "decode (JPEG of the shards)": lambda n: sources.decode(entries[n % len(entries)]),
    }
    for name, kept in (("in memory", pictures), ("decoded at each use", None)):
        held = kept if kept is not None else Decoded(entries, budget=0, check=False)
        sampler = Sampler(held, shapes, data, seed=0)
        stages[f"sample with mask, pictures {name}"] = partial(sampler.sample, batch=BATCH)
    sampler = Sampler(pictures, shapes, data, seed=0)
    stages |= {
        "  of which crop and flip": lambda n: crops.plan(
            np.random.default_rng([0, n]), pictures[n % len(pictures)].shape[:2], data
        ).cut(pictures[n % len(pictures)], data.resample),
        "  of which mask": lambda n: sampler.mask(np.random.default_rng([0, n]), n),
    }
    ready = stack([sampler.sample(n) for n in range(BATCH)])
    for mode in ("strokes", "boxes", "silhouettes", "block", "freeform", "files"):
        if shapes or mode not in ("silhouettes", "files"):
            single = Sampler(pictures, shapes, replace(data, modes={mode: 1.0}), seed=0)
            stages[f"  mask mode {mode}"] = partial(mask_of, single)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"commit {commit}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {platform.machine()}")
    print(f"{options.size} px, {options.threads} threads, {len(entries)} pictures")
    print(f"{'':44} {'/s':>8} {'per core':>8} {'CPU ms':>8}")
    for name, work in stages.items():
        timed(name, work, options.samples, options.threads)
    cpu = torch.device("cpu")
    timed(
        f"stack and floats, a batch of {BATCH}",
        lambda _: to_batch(ready, cpu, channels_last=True),
        options.samples // BATCH,
        1,
    )


def mask_of(sampler: Sampler, number: int) -> np.ndarray:
    """Draw the mask of a sample."""
    return sampler.mask(np.random.default_rng([0, number]), number)


if __name__ == "__main__":
    main()
