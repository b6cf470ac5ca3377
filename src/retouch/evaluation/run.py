"""Runs methods over pairs, keeps every score as it comes, and goes on where it was stopped.

The output folder holds `pairs.json` (what was scored), `run.json` (by which methods and columns),
`rows/METHOD.csv` (one line per picture, written as soon as it is known), `pictures/METHOD/` (8-bit
composites as PNG) and `features/` (Inception features). A second call with the same settings only
computes what is missing; methods may be added; anything else is refused.
"""

import csv
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from retouch.evaluation import methods
from retouch.evaluation.metrics import Column, Scorer, composite, to_255
from retouch.evaluation.pairs import EvaluationError, PairSet
from retouch.evaluation.protocols import Protocol

__all__ = ["Job", "Row", "evaluate_rows", "picture_path", "read_rows"]

Progress = Callable[[int, int, str], None]
"""(done, of how many, what) after every picture."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a worker needs to know."""

    pairs: PairSet
    methods: tuple[methods.Method, ...]
    columns: tuple[Column, ...]
    protocol: Protocol
    output: Path
    device: str = "auto"
    cache: Path | None = None
    threads: int = 0
    """Threads of each process; 0 leaves it to the libraries."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Scores of one picture by one method."""

    number: int
    """Place of the pair in the manifest."""
    picture: str
    mask: str
    hole_share: float
    bin: str
    seconds: float
    """CPU time of the fill in its process."""
    scores: dict[str, float] = field(default_factory=dict[str, float])


def picture_path(output: Path, method: str, number: int, key: str) -> Path:
    """Name the file of a method's composite."""
    return output / "pictures" / method / f"{number:05d}_{key.replace('/', '_')}.png"


def evaluate_rows(
    job: Job, *, processes: int = 1, progress: Progress | None = None
) -> dict[str, list[Row]]:
    """Compute the missing scores per picture.

    Args:
        job: What to do.
        processes: Worker processes; 1 works in this one.
        progress: Told after every picture.

    Returns:
        Method -> its rows in the manifest's order.

    Raises:
        EvaluationError: If the output folder belongs to another evaluation.
    """
    claim(job)
    rows = {method.name: read_rows(job, method.name) for method in job.methods}
    known = [{row.number for row in rows[method.name]} for method in job.methods]
    missing = [
        (place, number)
        for place, numbers in enumerate(known)
        for number in range(len(job.pairs))
        if number not in numbers
    ]
    total = len(job.methods) * len(job.pairs)
    done = total - len(missing)
    for place, row in _work(job, missing, processes):
        name = job.methods[place].name
        _append(job, name, row)
        (job.output / "features" / f"{name}.npy").unlink(missing_ok=True)
        rows[name].append(row)
        done += 1
        if progress is not None:
            progress(done, total, name)
    return {name: sorted(found, key=lambda row: row.number) for name, found in rows.items()}


def claim(job: Job) -> None:
    """Write what the output folder holds, or check that it holds the same."""
    job.output.mkdir(parents=True, exist_ok=True)
    place = job.output / "run.json"
    facts: dict[str, Any] = {
        "protocol": job.protocol.name,
        "prediction": job.protocol.prediction,
        "columns": [str(column) for column in job.columns],
        "pairs_sha256": job.pairs.manifest.sha256,
    }
    known: dict[str, Any] = {}
    if place.is_file():
        try:
            earlier = json.loads(place.read_text())
            known = earlier.pop("methods")
        except (ValueError, KeyError, AttributeError) as error:
            raise EvaluationError(f"{place} is broken ({error}); choose another folder") from None
        for key, value in facts.items():
            if earlier.get(key) != value:
                raise EvaluationError(
                    f"{job.output} holds an evaluation with other {key.replace('_', ' ')}; choose "
                    "another output folder"
                )
    for method in job.methods:
        old = known.get(method.name)
        if old is not None and old["identity"] != method.identity:
            raise EvaluationError(
                f"{job.output} holds scores of another {method.name} ({old['what']}); choose "
                "another output folder or name"
            )
        known[method.name] = asdict(method)
    temporary = place.with_suffix(".part")
    temporary.write_text(json.dumps({**facts, "methods": known}, indent=1) + "\n")
    temporary.replace(place)
    job.pairs.manifest.save(job.output / "pairs.json")


def _work(
    job: Job, missing: Sequence[tuple[int, int]], processes: int
) -> Iterator[tuple[int, Row]]:
    if processes <= 1 or len(missing) < 2:
        worker = _Worker(job)
        for place, number in missing:
            yield place, worker.row(place, number)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(job,))
    try:
        # Few tasks wait at a time, so that an error stops the run and not a long queue.
        queue = iter(missing)
        running: dict[Future[Row], int] = {}
        for place, number in queue:
            running[pool.submit(_row, place, number)] = place
            if len(running) >= 4 * processes:
                yield from _finished(running)
        while running:
            yield from _finished(running)
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(running: "dict[Future[Row], int]") -> Iterator[tuple[int, Row]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        yield running.pop(future), future.result()


class _Worker:
    """Fills and scores; keeps one loaded method at a time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._scorer: Scorer | None = None
        self._loaded: tuple[int, methods.Fill] | None = None
        if job.threads:
            torch.set_num_threads(job.threads)
            cv2.setNumThreads(job.threads)

    def _fill(self, place: int) -> methods.Fill:
        if self._loaded is None or self._loaded[0] != place:
            self._loaded = None
            fill = methods.loaded(
                self.job.methods[place],
                device=self.job.device,
                prediction=self.job.protocol.prediction,
                cache=self.job.cache,
                pairs=self.job.pairs,
            )
            self._loaded = (place, fill)
        return self._loaded[1]

    def row(self, place: int, number: int) -> Row:
        job = self.job
        pair = job.pairs.manifest.pairs[number]
        truth, mask = job.pairs.open(number)
        fill = self._fill(place)
        shown = job.pairs.shown(number, truth, mask)  # nobody sees what is under the hole
        start = time.process_time()
        prediction = fill(shown, mask, pair.picture)
        seconds = time.process_time() - start
        if self._scorer is None:
            self._scorer = Scorer(job.columns, _metric_device(job.device))
        scores = self._scorer.score(truth, prediction, mask)
        result = composite(truth, to_255(prediction, "rounded"), mask).astype(np.uint8)
        name = job.methods[place].name
        write_png(picture_path(job.output, name, number, pair.picture), result)
        return Row(
            number=number,
            picture=pair.picture,
            mask=pair.mask,
            hole_share=pair.hole_share,
            bin=job.pairs.group(number, job.protocol.bins),
            seconds=seconds,
            scores=scores,
        )


_worker: _Worker | None = None


def _start(job: Job) -> None:
    global _worker  # a pool gives a worker process no other place to keep things
    _worker = _Worker(job)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's workers would wait for ever for tasks of a process that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _row(place: int, number: int) -> Row:
    if _worker is None:
        raise RuntimeError("the worker process was not started by its pool")
    return _worker.row(place, number)


def _metric_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, at once or not at all.

    Args:
        path: The file; its folder is made.
        picture: (h, w, 3) RGB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise EvaluationError(f"cannot encode {path}")
    temporary = path.with_suffix(".part")
    temporary.write_bytes(encoded.tobytes())
    temporary.replace(path)


_FIXED = ("number", "picture", "mask", "hole_share", "bin", "seconds")


def _rows_path(job: Job, method: str) -> Path:
    return job.output / "rows" / f"{method}.csv"


def _append(job: Job, method: str, row: Row) -> None:
    path = _rows_path(job, method)
    path.parent.mkdir(exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow([*_FIXED, *map(str, _own(job))])
        fixed = [getattr(row, name) for name in _FIXED]
        writer.writerow([*fixed, *(repr(row.scores[str(column)]) for column in _own(job))])


def _own(job: Job) -> list[Column]:
    """The columns that are scored per picture."""
    return [column for column in job.columns if column.facts.build is not None]


def read_rows(job: Job, method: str) -> list[Row]:
    """Read what an earlier call wrote; a last line that was cut off is removed from the file.

    Raises:
        EvaluationError: If the file is not one of this evaluation.
    """
    path = _rows_path(job, method)
    if not path.is_file():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    if not whole:
        path.unlink()
        return []
    names = [str(column) for column in _own(job)]
    header, *lines = list(csv.reader(whole.splitlines()))
    if header != [*_FIXED, *names]:
        raise EvaluationError(f"{path} has other columns than this evaluation")
    rows: list[Row] = []
    for line in lines:
        try:
            scores = [float(text) for text in line[len(_FIXED) :]]
            row = Row(
                number=int(line[0]),
                picture=line[1],
                mask=line[2],
                hole_share=float(line[3]),
                bin=line[4],
                seconds=float(line[5]),
                scores=dict(zip(names, scores, strict=True)),
            )
        except (ValueError, IndexError) as error:
            raise EvaluationError(f"{path} has a broken line ({error}): {line}") from None
        kept = picture_path(job.output, method, row.number, row.picture).is_file()
        if kept and row.number < len(job.pairs):
            rows.append(row)
    return rows
