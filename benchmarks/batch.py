"""Filling folders: what `retouch fill` reaches of the network's own throughput.

The network's own throughput is that of `Inpainter` on pictures that are in memory already; a folder
adds decoding, encoding and the disk. Both run in the same process, by turns, so that other load on
the machine falls on both; the medians are compared. The network alone takes one picture after the
other on all threads; a folder's are filled side by side on a thread each, so more than 100 % is
possible. Beside them: the processor seconds of reading, filling and writing, one after the other.

    python benchmarks/batch.py                           # 12 photographs of 1, 6 and 24 megapixels
    python benchmarks/batch.py --megapixels 6 --count 8 --rounds 5 --threads 1
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from synthetic import photo

from retouch import pictures
from retouch.pipeline.batch import Job, fill_all
from retouch.pipeline.inpainter import Inpainter


def make(folder: Path, megapixels: float, count: int, suffix: str) -> list[Job]:
    """Write pictures and masks: two holes each, of 60 and of 150 px."""
    height = round((megapixels * 1e6 * 2 / 3) ** 0.5)
    width = round(megapixels * 1e6 / height)
    pixels = photo(height, width, seed=0)
    jobs: list[Job] = []
    for index in range(count):
        picture, mask = folder / f"{index:03}{suffix}", folder / f"{index:03}_mask.png"
        shifted = np.roll(pixels, 97 * index, axis=1)
        Image.fromarray(shifted).save(picture, quality=92)
        holes = np.zeros((height, width), bool)
        holes[height // 5 : height // 5 + 60, width // 6 : width // 6 + 60] = True
        holes[height // 2 : height // 2 + 150, width // 2 : width // 2 + 150] = True
        Image.fromarray(holes).save(mask)
        jobs.append(Job(picture=picture, mask=mask, output=folder / "out" / picture.name))
    return jobs


def alone(inpainter: Inpainter, jobs: list[Job]) -> Callable[[], None]:
    """Fill what is in memory."""
    picture, mask = pictures.read(jobs[0].picture), pictures.read_mask(jobs[0].mask)

    def run() -> None:
        for _ in jobs:
            inpainter.fill_picture(picture, mask)

    return run


def folder(inpainter: Inpainter, jobs: list[Job]) -> Callable[[], None]:
    """Fill from files to files, as the command does."""

    def run() -> None:
        for outcome in fill_all(inpainter, jobs):
            if outcome.error:
                raise RuntimeError(outcome.error)

    return run


def in_turn(inpainter: Inpainter, jobs: list[Job], stages: list[list[float]]) -> Callable[[], None]:
    """Read, fill, write, one after the other: what overlapping is compared with."""

    def run() -> None:
        for job in jobs:
            start = time.process_time()
            picture, mask = pictures.read(job.picture), pictures.read_mask(job.mask)
            read = time.process_time()
            filled = inpainter.fill_picture(picture, mask)
            fill = time.process_time()
            pictures.write(job.output, filled)
            stages.append([read - start, fill - read, time.process_time() - fill])

    return run


def timed(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each, by turns."""
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seen[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seen.items()}


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description="Time filling folders against the network alone.")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 6, 24])
    parser.add_argument("--formats", nargs="+", default=[".jpg", ".png"])
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--network", default="dilated-photos")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"Commit {commit}, {datetime.date.today()}, {platform.machine()}, {platform.platform()}")
    print(f"{options.network}, {options.threads} threads, {options.count} pictures\n")
    print("| picture | network alone s | folder s | one after the other s | share", end="")
    print(" | read, fill, write CPU s |")
    print("|---|---|---|---|---|---|")
    inpainter = Inpainter.load(options.network, device="cpu")
    for megapixels in options.megapixels:
        for suffix in options.formats:
            with tempfile.TemporaryDirectory() as name:
                jobs = make(Path(name), megapixels, options.count, suffix)
                (Path(name) / "out").mkdir()
                alone(inpainter, jobs[:1])()
                stages: list[list[float]] = []
                runs = {
                    "alone": alone(inpainter, jobs),
                    "folder": folder(inpainter, jobs),
                    "in turn": in_turn(inpainter, jobs, stages),
                }
                found = timed(runs, options.rounds)
            walls = [found[key] / options.count for key in ("alone", "folder", "in turn")]
            parts = [statistics.median(stage) for stage in zip(*stages, strict=True)]
            print(
                f"| {megapixels:g} MP {suffix} | {walls[0]:.3f} | {walls[1]:.3f} | {walls[2]:.3f}"
                f" | {walls[0] / walls[1]:.0%} | {', '.join(f'{part:.3f}' for part in parts)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
