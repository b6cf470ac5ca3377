"""Folders: pictures filled side by side are the same as one by one; a stop stops."""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Lock, Timer

import numpy as np
import pytest
import torch
from PIL import Image

from retouch import models
from retouch.pipeline.batch import Job, fill_all
from retouch.pipeline.devices import OptionError
from retouch.pipeline.inpainter import Inpainter
from retouch.weights.files import Header


def make(name: str) -> Inpainter:
    torch.manual_seed(0)
    card = models.card(name)
    network = models.build(name, **card.small)
    header = Header(network=name, config=dict(card.small))
    return Inpainter(network, header, precision="float32")


def write(folder: Path, count: int, side: int = 72) -> list[Job]:
    rng = np.random.default_rng(0)
    jobs: list[Job] = []
    for number in range(count):
        picture, mask = folder / f"{number}.png", folder / f"{number}_mask.png"
        holes = np.zeros((side, side), bool)
        holes[20 + number : 40 + number, 24:44] = True
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(picture)
        Image.fromarray(holes).save(mask)
        jobs.append(Job(picture=picture, mask=mask, output=folder / f"out{number}.png"))
    return jobs


def filled(inpainter: Inpainter, jobs: list[Job], together: int) -> list[bytes]:
    outcomes = list(fill_all(inpainter, jobs, together=together))
    assert [outcome.job for outcome in outcomes] == jobs
    assert not any(outcome.error for outcome in outcomes)
    return [Path(job.output).read_bytes() for job in jobs]


@pytest.mark.parametrize("name", models.names())
def test_side_by_side_fills_are_those_made_one_by_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # more may round sums otherwise
    inpainter, jobs = make(name), write(tmp_path, 6)
    assert filled(inpainter, jobs, 3) == filled(inpainter, jobs, 1)


def test_as_many_as_asked_are_filled_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    inpainter, lock, running, most = make("dilated"), Lock(), 0, 0
    fill_picture = inpainter.fill_picture

    def counted(*given: object, **named: object) -> object:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        result = fill_picture(*given, **named)  # pyright: ignore[reportArgumentType]
        with lock:
            running -= 1
        return result

    monkeypatch.setattr(inpainter, "fill_picture", counted)
    filled(inpainter, write(tmp_path, 6), 2)
    assert most == 2


def test_torch_has_its_threads_again_and_the_network_no_hooks(tmp_path: Path):
    inpainter, own = make("dilated"), torch.get_num_threads()
    filled(inpainter, write(tmp_path, 3), 3)
    assert torch.get_num_threads() == own
    assert not any(module._forward_pre_hooks for module in inpainter.network.modules())


def test_what_runs_when_work_is_stopped_ends_unwritten(tmp_path: Path):
    inpainter, (job, *_) = make("dilated"), write(tmp_path, 1)
    begun, go = Event(), Event()

    def held(*_: object) -> None:
        begun.set()
        go.wait(20)

    next(inpainter.network.children()).register_forward_pre_hook(held)

    def jobs() -> Iterator[Job]:
        yield job
        assert begun.wait(20)
        Timer(0.2, go.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(fill_all(inpainter, jobs()))
    assert go.is_set()
    assert not Path(job.output).exists()


def test_no_pictures_at_a_time_are_refused(tmp_path: Path):
    with pytest.raises(OptionError, match="at least one picture"):
        list(fill_all(make("dilated"), write(tmp_path, 1), together=0))
