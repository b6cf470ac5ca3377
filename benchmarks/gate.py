"""Regression gate: does a commit make any network slower or hungrier than another commit did?

Both commits run on this machine in turns (a, b, b, a, a, b, ...), so that whatever else the machine
does strikes both alike. Each run is a process of its own that fills one crop through the pipeline,
`Inpainter.predict`, on one thread with random weights. A pair of neighbouring runs gives one ratio
of CPU times; the gate closes on a network if the median ratio exceeds 1 + tolerance and at least
three quarters of the pairs agree on the direction. Peak memory is judged by its smallest values.

    python benchmarks/gate.py main~1 main
    python benchmarks/gate.py v0.1 HEAD --networks dilated isnet --pairs 9 --tolerance 0.03

Exit code: 0 nothing got slower, 1 something did.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

NETWORKS = ("dilated", "isnet", "structure", "semantic", "srpnet")
"""SEM-Net takes 50 times as long: ask for it."""
MEMORY = 1.10
"""How much more memory is let through: the allocator's luck."""

CELL = """
import json, sys, time
import numpy as np, torch
from pathlib import Path
from retouch import models
from retouch.pipeline.inpainter import Inpainter
from retouch.weights.files import Header
name, side, repeat = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
side = models.card(name).fixed_size or side
inpainter = Inpainter(models.build(name), Header(network=name, config={}, name=name))
image = np.random.default_rng(0).random((side, side, 3), np.float32)
mask = np.zeros((side, side), bool)
mask[side // 4 : side // 2, side // 4 : side // 2] = True
labels = np.zeros((side, side), np.uint8) if models.card(name).labels else None
inpainter.predict(image, mask, labels)
times = []
for _ in range(repeat):
    start = time.process_time()
    inpainter.predict(image, mask, labels)
    times.append(time.process_time() - start)
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"cpu": sorted(times)[len(times) // 2], "peak": peak}))
"""


def unpack(commit: str, folder: Path) -> Path:
    """Write a commit's package to a folder; the repository itself is only read."""
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "archive", commit, "src"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"gate: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def run(source: Path, name: str, side: int, repeat: int) -> dict[str, float]:
    """Measure one network with the package in `source`."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CELL, name, str(side), str(repeat)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"gate: {name} does not run in {source}: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(a: Path, b: Path, name: str, options: argparse.Namespace) -> bool:
    """Print one network's row; whether the second commit is no worse."""
    ratios: list[float] = []
    peaks: tuple[list[float], list[float]] = ([], [])
    cpu: list[float] = []
    for pair in range(options.pairs):
        turns = ((a, 0), (b, 1)) if pair % 2 == 0 else ((b, 1), (a, 0))
        found = {which: run(source, name, options.size, options.repeat) for source, which in turns}
        ratios.append(found[1]["cpu"] / found[0]["cpu"])
        cpu.append(found[1]["cpu"])
        for which in (0, 1):
            peaks[which].append(found[which]["peak"])
    middle = statistics.median(ratios)
    slower = middle > 1 + options.tolerance
    slower = slower and sum(ratio > 1 for ratio in ratios) >= 0.75 * len(ratios)
    memory = min(peaks[1]) / min(peaks[0])
    hungrier = memory > MEMORY
    verdict = ", ".join(word for word, said in (("SLOWER", slower), ("HUNGRIER", hungrier)) if said)
    print(
        f"| {name} | {statistics.median(cpu):.3f} | {middle:.3f}"
        f" | {min(ratios):.3f} to {max(ratios):.3f} | {memory:.3f} | {verdict or 'passes'} |",
        flush=True,
    )
    return not slower and not hungrier


def main() -> None:
    """Print a row per network and exit with the verdict."""
    parser = argparse.ArgumentParser(description="Compare the speed of two commits.")
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--size", type=int, default=256, help="side of the crop [px]")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3, help="passes per process")
    parser.add_argument("--tolerance", type=float, default=0.05)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / side for side in ("before", "after")]
        a, b = (
            unpack(commit, folder)
            for commit, folder in zip((options.before, options.after), folders, strict=True)
        )
        print(f"{options.after} against {options.before}, {options.size} px, one thread\n")
        print("| network | CPU s | ratio | pairs | peak memory | |")
        print("|---|---|---|---|---|---|")
        good = [compare(a, b, network, options) for network in options.networks]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
