"""Scores of whole sets: Inception features of the truths and of each method's composites."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from retouch.evaluation import distributions
from retouch.evaluation.distributions import Estimate
from retouch.evaluation.inception import Inception
from retouch.evaluation.pairs import EvaluationError
from retouch.evaluation.run import Job, picture_path

__all__ = ["SetScore", "check", "score_sets"]

_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class SetScore:
    """One score of a whole set."""

    value: float
    low: float | None = None
    """95 % interval, where the score has one."""
    high: float | None = None
    n: int


def check(job: Job) -> None:
    """Refuse, before any work is done, scores that so few pictures cannot give.

    Raises:
        EvaluationError: If U-IDS or P-IDS are asked for with fewer than 5,000 pairs.
    """
    names = {column.metric for column in job.columns}
    if names & {"u_ids", "p_ids"} and len(job.pairs) < distributions.IDS_MINIMUM:
        raise EvaluationError(
            f"U-IDS and P-IDS need at least {distributions.IDS_MINIMUM} pictures, got "
            f"{len(job.pairs)}: fewer can always be told apart by 2048 features; use kid_paired"
        )
    if names & {"kid", "kid_paired"} and len(job.pairs) < 3:
        raise EvaluationError(f"KID needs at least 3 pictures, got {len(job.pairs)}")
    if "fid" in names and len(job.pairs) < 2:
        raise EvaluationError("FID needs at least 2 pictures, got 1")


def score_sets(
    job: Job, progress: Callable[[int, int, str], None] | None = None
) -> dict[str, dict[str, SetScore]]:
    """Compute the set metrics of every method.

    Args:
        job: Whose composites are on disk already.
        progress: Told (done, of how many, whose features).

    Returns:
        Method -> metric -> score; empty if the job asks for none.

    Raises:
        MissingWeightsError: If the Inception file is not in the store.
    """
    names = [column.metric for column in job.columns if column.facts.build is None]
    if not names:
        return {}
    features = _Features(job, progress)
    truth = features.of("truth")
    return {method.name: _scores(names, truth, features.of(method.name)) for method in job.methods}


def _scores(
    names: Sequence[str], truth: NDArray[np.floating], made: NDArray[np.floating]
) -> dict[str, SetScore]:
    n = len(truth)
    found: dict[str, SetScore] = {}
    for name in names:
        if name == "fid":
            found[name] = SetScore(value=distributions.fid(truth, made), n=n)
        elif name in ("kid", "kid_paired"):
            found[name] = _thousandths(
                distributions.kid(truth, made, paired=name == "kid_paired"), n
            )
        elif name not in found:
            unpaired, paired = distributions.ids(truth, made)
            both = {"u_ids": unpaired, "p_ids": paired}
            found.update({k: SetScore(value=v, n=n) for k, v in both.items() if k in names})
    return found


def _thousandths(estimate: Estimate, n: int) -> SetScore:
    low, high = 1000 * estimate.low, 1000 * estimate.high
    return SetScore(value=1000 * estimate.value, low=low, high=high, n=n)


class _Features:
    """Computes features once and keeps them in the output folder."""

    def __init__(self, job: Job, progress: Callable[[int, int, str], None] | None) -> None:
        self.job = job
        self.progress = progress
        self._network: Inception | None = None
        self._device = "cuda" if torch.cuda.is_available() and job.device != "cpu" else "cpu"
        if job.threads:
            torch.set_num_threads(job.threads)

    def of(self, name: str) -> NDArray[np.floating]:
        """Features of the truths (`truth`) or of a method's composites, (n, 2048)."""
        place = self.job.output / "features" / f"{name}.npy"
        if place.is_file():
            try:
                kept = np.load(place, allow_pickle=False)
                if len(kept) == len(self.job.pairs):
                    return kept
            except (ValueError, OSError, EOFError):
                place.unlink()
        parts: list[NDArray[np.floating]] = []
        total = len(self.job.pairs)
        for start in range(0, total, _BATCH):
            numbers = range(start, min(start + _BATCH, total))
            parts.append(self._batch([self._picture(name, number) for number in numbers]))
            if self.progress is not None:
                self.progress(min(start + _BATCH, total), total, f"features of {name}")
        features = np.concatenate(parts)
        place.parent.mkdir(exist_ok=True)
        temporary = place.with_suffix(".part")
        with temporary.open("wb") as file:
            np.save(file, features)
        temporary.replace(place)
        return features

    def _picture(self, name: str, number: int) -> NDArray[np.uint8]:
        if name == "truth":
            return self.job.pairs.open(number)[0]
        key = self.job.pairs.manifest.pairs[number].picture
        return read_png(picture_path(self.job.output, name, number, key))

    def _batch(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.floating]:
        if self._network is None:
            self._network = Inception.from_store().to(self._device)
        rows: list[NDArray[np.floating]] = []
        # One by one where sizes differ; equal sizes go through together.
        same = len({picture.shape for picture in pictures}) == 1
        groups = [list(pictures)] if same else [[picture] for picture in pictures]
        for group in groups:
            planes = np.stack([picture.transpose(2, 0, 1) for picture in group])
            x = torch.from_numpy(planes).to(self._device).float() / 255
            with torch.inference_mode():
                rows.append(self._network(x).cpu().numpy())
        return np.concatenate(rows)


def read_png(path: Path) -> NDArray[np.uint8]:
    """Read a composite as (h, w, 3) RGB.

    Raises:
        EvaluationError: If it is missing or broken.
    """
    found = cv2.imread(str(path))
    if found is None:
        raise EvaluationError(f"{path} is missing or broken; remove its line from rows/ to redo it")
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), dtype=np.uint8)
