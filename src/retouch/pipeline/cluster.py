"""Fills many pictures on a Ray cluster with Ray Data: what `fill_all` does, on many machines.

Rows of jobs go to actors that each hold the network. Promises:
  - every output is written once, whole: drafts take their names in one move, and a ledger that
    outlives workers keeps an attempt that is repeated from writing again what its forerunner wrote;
  - a killed worker costs the pictures it had in hand, which others do again; a picture that kills
    every worker it meets is given up after `ATTEMPTS`, and the rest goes on;
  - a killed run is resumed by running it again without the outputs that are there (`undone`).
"""

import importlib
import importlib.util
import logging
import os
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retouch.pipeline import places
from retouch.pipeline.batch import Job, Outcome, ReadOptions, fill_all
from retouch.pipeline.devices import OptionError, Precision
from retouch.pipeline.inpainter import Inpainter
from retouch.pipeline.options import FillOptions
from retouch.weights.files import Header

ATTEMPTS = 3
"""How often a picture is begun before it is given up."""
_ROWS = 16
"""Pictures that a worker takes at a time, at most."""
_FIELDS = ("picture", "mask", "output", "labels")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all workers share."""

    network: nn.Module
    header: Header
    device: str = "auto"
    precision: Precision = "auto"
    options: FillOptions = FillOptions()
    reading: ReadOptions = ReadOptions()
    workers: int | None = None
    """None: one for each GPU of the cluster, or else for each processor."""


def fill_on_ray(task: Task, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Fill pictures on the cluster at `RAY_ADDRESS`, or on one started here for the purpose.

    Args:
        task: Network and options.
        jobs: Places that all machines of the cluster see.

    Yields:
        One outcome per job, in the order in which they are done.

    Raises:
        OptionError: If Ray is not installed, or the cluster has no room for the workers.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        raise OptionError("--engine ray needs Ray Data: pip install 'retouch[ray]'")
    ray = _ray()
    Inpainter(task.network, task.header, device="cpu")  # mistakes show here, not on a worker
    mine = not ray.is_initialized()
    if mine:
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 would starve beside other work
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    run = secrets.token_hex(4)
    task = replace(task, reading=replace(task.reading, run=run))
    try:
        yield from _outcomes(task, jobs)
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise OptionError(f"the cluster gave up: {lines[-1][:300]}") from error
    finally:
        for folder in {places.parent(job.output) for job in jobs}:
            places.sweep(folder, run)
        if mine:
            ray.shutdown()


def _outcomes(task: Task, jobs: Sequence[Job]) -> Iterator[Outcome]:
    ray = _ray()
    workers, gpus = _room(task, ray.cluster_resources())
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors reach us as exceptions
    ledger = ray.remote(_Ledger).options(num_cpus=0).remote()
    rows = [_row(index, job) for index, job in enumerate(jobs)]
    shared = ray.put(task)  # stays in this frame: workers that are started again fetch it again
    size = max(1, min(_ROWS, len(rows) // (4 * workers)))
    data = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size))
    done = data.map_batches(
        _Worker,
        fn_constructor_args=(shared, ledger),
        batch_size=None,  # a block at a time
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=0 if gpus else 1,
        num_gpus=gpus,
        max_restarts=-1,
        max_task_retries=-1,
    )
    for row in done.iter_rows():
        job = jobs[int(row["index"])]
        written = places.place(str(row["written"])) if row["written"] else None
        error = str(row["error"]) or None
        yield Outcome(job=job, written=written, error=error, worker=str(row["worker"]))


def _ray() -> Any:
    """Ray with Ray Data, an extra that is not there when types are checked."""
    for part in ("ray.data", "ray.exceptions"):
        importlib.import_module(part)
    return importlib.import_module("ray")


def _room(task: Task, resources: Mapping[str, float]) -> tuple[int, float]:
    """Number of workers, and GPUs for each."""
    on_gpu = task.device.startswith("cuda") or (task.device == "auto" and resources.get("GPU", 0))
    unit = "GPU" if on_gpu else "CPU"
    there = int(resources.get(unit, 0))
    workers = there if task.workers is None else task.workers
    if not 0 < workers <= there:
        raise OptionError(
            f"the cluster has room for {there} workers ({unit}s), {workers} were asked for"
        )
    return workers, 1.0 if on_gpu else 0.0


def _row(index: int, job: Job) -> dict[str, Any]:
    """A job as Ray Data carries it; empty text stands for nothing."""
    parts = {"picture": job.picture, "mask": job.mask, "output": job.output, "labels": job.labels}
    # Workers start elsewhere: paths must not depend on the folder this was started in.
    texts = {key: "" if value is None else _absolute(value) for key, value in parts.items()}
    return {"index": index, **texts}


def _absolute(where: places.Place) -> str:
    return str(where.absolute()) if isinstance(where, Path) else where


class _Ledger:
    """Counts attempts and remembers what is written, whatever happens to workers."""

    def __init__(self) -> None:
        self.attempts: dict[int, int] = {}
        self.written: dict[int, str] = {}

    def state(self, indices: list[int]) -> list[tuple[int, str]]:
        """How often each row was begun, and what came of it."""
        return [(self.attempts.get(i, 0), self.written.get(i, "")) for i in indices]

    def begin(self, index: int) -> None:
        """Count an attempt."""
        self.attempts[index] = self.attempts.get(index, 0) + 1

    def finish(self, index: int, written: str) -> None:
        """Remember an output."""
        self.written[index] = written


class _Worker:
    """Holds the network; fills one block of rows after the other."""

    def __init__(self, shared: Any, ledger: Any) -> None:
        torch.set_num_threads(1)
        task: Task = _ray().get(shared)
        self.task, self.ledger = task, ledger
        self.inpainter = Inpainter(
            task.network, task.header, device=task.device, precision=task.precision
        )
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    def __call__(self, block: dict[str, Any]) -> dict[str, list[Any]]:
        count = len(block["index"])
        jobs = {
            int(block["index"][i]): _job({key: str(block[key][i]) for key in _FIELDS})
            for i in range(count)
        }
        results = self._fill(jobs)
        return {
            "index": list(results),
            "written": [str(outcome.written or "") for outcome in results.values()],
            "error": [outcome.error or "" for outcome in results.values()],
            "worker": [self.name] * count,
        }

    def _fill(self, jobs: dict[int, Job]) -> dict[int, Outcome]:
        """Fill with reading and writing alongside; what was begun before, one by one."""
        results: dict[int, Outcome] = {}
        attempts: dict[int, int] = {}
        for index, (count, written) in zip(jobs, self._ask("state", list(jobs)), strict=True):
            attempts[index] = count
            if written:
                results[index] = Outcome(job=jobs[index], written=places.place(written))
        # A worker died of one of these, or beside it. Alone, each has its own death on its account.
        repeated = any(attempts.values())
        if not repeated:
            results |= dict(zip(jobs, self._run(jobs), strict=True))
            attempts = dict.fromkeys(jobs, 1)
        for index, job in jobs.items():
            while index not in results or results[index].transient:
                if attempts[index] >= ATTEMPTS:
                    error = f"{job.picture}: given up, {ATTEMPTS} workers died of it"
                    results.setdefault(index, Outcome(job=job, error=error))
                    break
                attempts[index] += 1
                (results[index],) = self._run({index: job})
        return results

    def _run(self, jobs: dict[int, Job]) -> Iterator[Outcome]:
        def begun() -> Iterator[Job]:
            for index, job in jobs.items():
                self._ask("begin", index)
                yield job

        outcomes = fill_all(self.inpainter, begun(), self.task.options, self.task.reading)
        for index, outcome in zip(jobs, outcomes, strict=True):
            if outcome.written is not None:
                self._ask("finish", index, str(outcome.written))
            yield outcome

    def _ask(self, question: str, *given: Any) -> Any:
        return _ray().get(getattr(self.ledger, question).remote(*given))


def _job(row: dict[str, str]) -> Job:
    found = {key: places.place(row[key]) if row[key] else None for key in ("mask", "labels")}
    return Job(picture=places.place(row["picture"]), output=places.place(row["output"]), **found)
