"""Fills that run at once: their own results, one pass, and nobody's end is another's."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retouch import pictures
from retouch.pictures import PictureError
from retouch.pipeline.options import FillOptions
from retouch.web.engine import Engine, is_mistake
from retouch.web.jobs import FINISHED, Job, Office
from retouch.web.settings import Settings


def scene(seed: int, size: tuple[int, int] = (96, 128)) -> tuple[pictures.Picture, np.ndarray]:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    mask = np.zeros(size, bool)
    mask[20 + seed : 50 + seed, 30:70] = True
    return pictures.from_array(pixels), mask


@pytest.fixture
def engine(tiny: Path) -> Engine:
    return Engine("cpu", Settings(network=tiny))


@pytest.fixture
def passes(engine: Engine) -> Iterator[list[int]]:
    """Pictures in each pass of the network."""
    sizes: list[int] = []
    network = engine.inpainter(None).network
    handle = network.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    yield sizes
    handle.remove()


def run(engine: Engine, works: list[Any], *, together: int = 4, cancel: int = -1) -> list[Job]:
    """Queue all, then let one worker begin."""

    async def act() -> list[Job]:
        office = Office(("cpu",), lambda device: engine, 16, is_mistake, together=together)
        jobs = []
        for work in works:
            with office.slot() as slot:
                jobs.append(slot.submit("fill", work, alike="same"))
        if cancel >= 0:
            jobs[cancel].unwanted.set()
        office.start()
        for job in jobs:
            while job.state not in FINISHED:
                await asyncio.sleep(0.01)
        assert office.taken == 0
        office.stop()
        return jobs

    return asyncio.run(act())


def filling(seed: int, size: tuple[int, int] = (96, 128)) -> Any:
    def work(job: Job, engine: Engine) -> pictures.Picture:
        picture, mask = scene(seed, size)
        return engine.fill(job, picture, mask, None, FillOptions())

    return work


def test_equal_sizes_share_a_pass_and_each_gets_its_own(engine: Engine, passes: list[int]):
    alone = [job.result for job in run(engine, [filling(s) for s in range(4)], together=1)]
    unit = min(passes)
    assert passes == [unit] * 4
    passes.clear()
    jobs = run(engine, [filling(s) for s in range(4)])
    assert passes == [4 * unit]
    for seed, (job, single) in enumerate(zip(jobs, alone, strict=True)):
        picture, mask = scene(seed)
        assert job.state == "done", job.error
        assert job.progress == 1
        assert np.array_equal(job.result.pixels[~mask], picture.pixels[~mask])
        assert np.abs(job.result.pixels.astype(int) - single.pixels).max() <= 1


def test_unequal_sizes_run_one_after_the_other(engine: Engine, passes: list[int]):
    jobs = run(engine, [filling(0), filling(1, (200, 90)), filling(2)])
    assert [job.state for job in jobs] == ["done"] * 3
    unit = min(passes)
    assert sorted(passes) == [unit, 2 * unit]


def test_one_that_fails_or_is_cancelled_leaves_the_others_alone(engine: Engine):
    started = threading.Barrier(4)

    def bad(job: Job, engine: Engine) -> None:
        started.wait()
        raise PictureError("no picture")

    def late(job: Job, engine: Engine) -> Any:
        started.wait()
        job.unwanted.set()
        return filling(1)(job, engine)

    def good(seed: int) -> Any:
        def work(job: Job, engine: Engine) -> Any:
            started.wait()
            return filling(seed)(job, engine)

        return work

    jobs = run(engine, [good(0), bad, late, good(3)])
    assert [job.state for job in jobs] == ["done", "failed", "cancelled", "done"]
    assert jobs[1].mistake
    for seed, job in ((0, jobs[0]), (3, jobs[3])):
        picture, mask = scene(seed)
        assert np.array_equal(job.result.pixels[~mask], picture.pixels[~mask])


def test_a_failing_pass_fails_those_in_it(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    network = engine.inpainter(None).network

    def broken(*given: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(network, "forward", broken)
    jobs = run(engine, [filling(0), filling(1)])
    assert [job.error for job in jobs] == ["internal error (RuntimeError)"] * 2


def test_cancelled_before_they_begin(engine: Engine, passes: list[int]):
    jobs = run(engine, [filling(s) for s in range(3)], cancel=1)
    assert [job.state for job in jobs] == ["done", "cancelled", "done"]
    assert sum(passes) == 2 * (max(passes) // 2 if len(passes) == 1 else min(passes))
