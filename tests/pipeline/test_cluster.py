"""The same job on a local Ray cluster of two workers."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from retouch import models
from retouch.pipeline.batch import Job, ReadOptions, fill_all, undone
from retouch.pipeline.cluster import Task, _room, fill_on_ray
from retouch.pipeline.devices import OptionError
from retouch.pipeline.inpainter import Inpainter
from retouch.weights.files import Header, save

pytestmark = [
    pytest.mark.slow,  # a cluster takes its time to start
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
COUNT = 24


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    module = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[data]'")
    pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'ray[data]'")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (its name; 15 starves)
    module.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000
    )
    yield module
    module.shutdown()


def network() -> nn.Module:
    torch.manual_seed(0)
    facts = models.card("dilated")
    return facts.model(facts.config(**facts.small)).eval()


HEADER = Header(network="dilated", config=dict(models.card("dilated").small))


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    rng = np.random.default_rng(0)
    mask = Image.new("1", (50, 40))
    mask.paste(1, (10, 10, 30, 20))
    mask.save(tmp_path / "mask.png")
    (tmp_path / "in").mkdir()
    found = []
    for index in range(COUNT):
        path = tmp_path / "in" / f"{index:02}.png"
        pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        output = tmp_path / "out" / path.name
        found.append(Job(picture=path, mask=tmp_path / "mask.png", output=output))
    return found


def check(jobs: list[Job], outcomes: list) -> None:
    """Every row once, every output as one process makes it, no drafts."""
    assert Counter(outcome.job.output for outcome in outcomes) == Counter(j.output for j in jobs)
    folder = Path(jobs[0].output).parent
    errors = {outcome.job.output for outcome in outcomes if outcome.error}
    assert set(folder.iterdir()) == {job.output for job in jobs} - errors
    here = [
        Job(picture=job.picture, mask=job.mask, output=folder.with_name("here") / job.picture.name)
        for job in jobs
    ]
    for job, outcome in zip(jobs, fill_all(Inpainter(network(), HEADER), here), strict=True):
        if job.output not in errors:
            assert Path(outcome.written).read_bytes() == Path(job.output).read_bytes()


def slow_network() -> nn.Module:
    class Slow(type(network())):  # local classes travel by value
        def forward(self, image: Tensor, mask: Tensor) -> Tensor:
            time.sleep(0.3)
            return super().forward(image, mask)

    found = network()
    found.__class__ = Slow
    return found


def killing_network(flag: Path) -> nn.Module:
    class Killing(type(network())):
        def forward(self, image: Tensor, mask: Tensor) -> Tensor:
            time.sleep(0.1)
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().forward(image, mask)

    found = network()
    found.__class__ = Killing
    return found


def allergic_network(color: float) -> nn.Module:
    class Allergic(type(network())):
        def forward(self, image: Tensor, mask: Tensor) -> Tensor:
            if (image[0, 0, 0, 0] - color).abs() < 1e-6 and image[0, :, 0].std() < 1e-6:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().forward(image, mask)

    found = network()
    found.__class__ = Allergic
    return found


class Failing(ThreadingHTTPServer):
    """Serves pictures; whatever is asked for is there the second time only, or never."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Answer, directory=str(folder)))
        self.asked: list[str] = []
        self.always = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(SimpleHTTPRequestHandler):
    server: Failing

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == self.server.always or self.server.asked.count(self.path) == 1:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    pytest.importorskip("aiohttp", reason="fsspec reads http:// with it: pip install aiohttp")
    with Failing(tmp_path / "in") as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_two_workers_share_the_rows(ray: object, jobs: list[Job]):
    task = Task(network=slow_network(), header=HEADER, workers=2)
    outcomes = list(fill_on_ray(task, jobs))
    assert not [outcome.error for outcome in outcomes if outcome.error]
    shares = Counter(outcome.worker for outcome in outcomes)
    assert len(shares) == 2
    assert min(shares.values()) >= COUNT // 4
    check(jobs, outcomes)


def test_a_killed_worker_costs_nothing(ray: object, jobs: list[Job], tmp_path: Path):
    task = Task(network=killing_network(tmp_path / "killed"), header=HEADER, workers=2)
    outcomes = list(fill_on_ray(task, jobs))
    assert (tmp_path / "killed").exists()
    assert not [outcome.error for outcome in outcomes if outcome.error]
    check(jobs, outcomes)


def test_a_picture_that_kills_workers_is_given_up(ray: object, jobs: list[Job]):
    Image.new("RGB", (50, 40), (51, 51, 51)).save(jobs[5].picture)
    outcomes = list(fill_on_ray(Task(network=allergic_network(0.2), header=HEADER), jobs))
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [outcome.job for outcome in failed] == [jobs[5]]
    assert "3 workers died of it" in failed[0].error
    check(jobs, outcomes)


def test_a_run_that_was_cut_off_is_resumed(ray: object, jobs: list[Job]):
    Path(jobs[3].picture).write_bytes(b"no picture")
    run = fill_on_ray(Task(network=slow_network(), header=HEADER, workers=2), jobs)
    first = [next(run) for _ in range(6)]
    run.close()
    assert not list(Path(jobs[0].output).parent.glob(".retouch-*"))
    left = undone(jobs, ReadOptions())
    assert 0 < len(left) < COUNT
    stamps = {path: path.stat().st_mtime_ns for path in Path(jobs[0].output).parent.iterdir()}
    rest = list(fill_on_ray(Task(network=network(), header=HEADER, workers=2), left))
    assert len(rest) == len(left)
    assert len(first) == 6
    assert [outcome.job for outcome in rest if outcome.error] == [jobs[3]]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert len(list(Path(jobs[0].output).parent.iterdir())) == COUNT - 1


def test_the_command_runs_on_the_cluster(
    ray: object, jobs: list[Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from retouch.cli.fill import fill

    weights = tmp_path / "tiny.safetensors"
    save(weights, HEADER, network().state_dict())
    places = [str(tmp_path / name) for name in ("in", "mask.png", "out")]
    fill(*places[:2], output=places[2], weights=weights, engine="ray", workers=2)
    assert f"{COUNT} of {COUNT} pictures filled" in capsys.readouterr().out
    assert {path.name for path in Path(places[2]).iterdir()} == {job.output.name for job in jobs}


def test_network_errors_are_tried_three_times(ray: object, jobs: list[Job], failing: Failing):
    jobs = jobs[:8]
    failing.always = f"/{jobs[2].picture.name}"
    there = [
        replace(
            job,
            picture=f"{failing.address}/{job.picture.name}",
            output=f"file://{job.output}",
        )
        for job in jobs
    ]
    task = Task(network=network(), header=HEADER, workers=2)
    outcomes = list(fill_on_ray(task, there))
    (failed,) = [outcome for outcome in outcomes if outcome.error]
    assert failed.job == there[2]
    assert failed.error.startswith(there[2].picture)
    assert "503" in failed.error
    asked = Counter(failing.asked)
    assert asked.pop(failing.always) == 3
    assert set(asked.values()) == {2}
    check(
        jobs,
        [
            replace(outcome, job=jobs[there.index(outcome.job)], written=outcome.job.output[7:])
            for outcome in outcomes
        ],
    )


def test_too_many_workers_are_refused():
    task = Task(network=network(), header=HEADER, workers=3)
    with pytest.raises(OptionError, match=r"room for 2 workers \(CPUs\), 3 were asked for"):
        _room(task, {"CPU": 2})
    assert _room(Task(network=network(), header=HEADER), {"CPU": 8, "GPU": 2}) == (2, 1.0)
