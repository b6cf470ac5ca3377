"""What the papers' parts are worth at small scale: short runs with and without each, over seeds.

    python benchmarks/ablations.py -o runs/ablations [--only srpnet] [--seeds 1 2] [--steps 400]

Every run trains a narrow network from a recipe for a few hundred steps on one core and is validated
on held-out training pictures with fixed masks. A finished run is not repeated, a stopped one goes
on. The table gives means over seeds and how far the seeds lie apart.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from retouch.training import curves
from retouch.training.errors import TrainingError

RECIPES = Path(__file__).parents[1] / "recipes"
MEASURES = {"psnr_rgb": "PSNR [dB]", "lpips_alex": "LPIPS (AlexNet)"}
ALL = (
    'validate=["psnr_rgb", "lpips_alex"]', "data.validation=32", "sheets=0", "tensorboard=false",
    "ema=0.98", "optim.critic_from=100", "optim.warmup=20",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """One network, trained alike but for one part at a time."""

    recipe: str
    common: tuple[str, ...]
    """What makes every run of it small."""
    variants: dict[str, tuple[str, ...]]
    """Name of a row: what differs. The first differs in nothing."""


NO_STRUCTURE = tuple(
    f"objective.weights.{term}_{scale}=0.0"
    for term in ("edge", "gradient")
    for scale in ("quarter", "half", "full")
)
STUDIES = {
    "srpnet": Study(
        "srpnet-facades",
        ("data.size=128", "batch=8", "model.width=16", "objective.critic_width=16"),
        {
            "SRPNet": (),
            "without residual blocks": ("model.residual_blocks=0",),
            "without local critic": ("objective.local_critic=false",),
            "without both (PEN-Net's parts)": (
                "model.residual_blocks=0",
                "objective.local_critic=false",
            ),
        },
    ),
    "isnet": Study(
        "isnet-scenes",
        ("data.size=64", "batch=8"),
        {
            "ISNet, 2 blocks": (),
            "1 block": ("model.blocks=1",),
            "4 blocks": ("model.blocks=4",),
            "Base + FF": ('model.variant="base-ff"',),
            "Base": ('model.variant="base"',),
            "kernels start at random": ("model.isometric=false",),
        },
    ),
    "structure": Study(
        "structure-scenes",
        ("data.size=128", "batch=4", "model.channels=16", "model.blocks=2"),
        {"structure": (), "without structure loss": NO_STRUCTURE},
    ),
    "semantic": Study(
        "semantic-faces",
        ("batch=2", "model.channels=12", "model.hidden=24"),
        {"semantic, true maps": (), "without ESPA": ("model.espa=false",)},
    ),
}


@dataclass(frozen=True)
class Job:
    """One training run."""

    study: str
    variant: str
    seed: int
    folder: Path


def jobs(output: Path, only: list[str], seeds: list[int]) -> Iterator[Job]:
    """Yield the runs, all variants of one seed before the next seed."""
    for name in only:
        for seed in seeds:
            for number, variant in enumerate(STUDIES[name].variants):
                yield Job(name, variant, seed, output / f"{name}-{number}-{seed}")


def train(job: Job, steps: int) -> None:
    """Run one training in a process of its own, unless it is finished."""
    if reached(job) >= steps:
        return
    study = STUDIES[job.study]
    given = [*ALL, *study.common, *study.variants[job.variant]]
    given += [f"seed={job.seed}", f"steps={steps}", f"validate_every={steps}"]
    command = [sys.executable, "-m", "retouch", "train", str(RECIPES / f"{study.recipe}.toml")]
    command += [part for line in given for part in ("-s", line)]
    environment = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    done = subprocess.run(
        [*command, "-o", str(job.folder), "--plain"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{job.folder.name}: {done.stderr.strip()[-600:]}")
    print(f"{job.study}, {job.variant}, seed {job.seed}: done", flush=True)


def reached(job: Job) -> int:
    """Steps that a run has behind it."""
    try:
        return curves.read(job.folder).step
    except TrainingError:
        return 0


def table(name: str, done: list[Job]) -> None:
    """Print one study as Markdown: mean over the seeds, plus or minus half their span."""
    print(f"\n| {name} | " + " | ".join(MEASURES.values()) + " |\n|" + "---|" * (len(MEASURES) + 1))
    for variant in STUDIES[name].variants:
        runs = [
            curves.read(job.folder) for job in done if (job.study, job.variant) == (name, variant)
        ]
        cells: list[str] = []
        for measure in MEASURES:
            values = [run.curves[f"validation {measure}"][1][-1] for run in runs]
            digits = 2 if measure.startswith("psnr") else 4
            half = (max(values) - min(values)) / 2
            cells.append(f"{statistics.mean(values):.{digits}f} ± {half:.{digits}f}")
        print(f"| {variant} | " + " | ".join(cells) + " |")


def main() -> None:
    """Train what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only", nargs="*", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    todo = list(jobs(given.output, given.only, given.seeds))
    with ThreadPoolExecutor(given.processes) as pool:
        list(pool.map(lambda job: train(job, given.steps), todo))
    print(f"\n{given.steps} steps, seeds {given.seeds}")
    for name in given.only:
        table(name, [job for job in todo if job.study == name])


if __name__ == "__main__":
    main()
