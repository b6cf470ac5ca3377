"""How long people wait: answers of the server beside the core's own time, label edits, clicks.

A hole of 512 px is filled by the core alone, and by the server in the two ways in which it is
asked: `/fill` with files, and a fill of an open picture as the page does it, up to the last byte of
the result. Then label maps are rendered by a network that obeys them, and clicks are answered (if
the store holds MobileSAM). Medians of wall time; in brackets of processor time, client included,
which says more on a machine that others use too.

    python benchmarks/answering.py
    python benchmarks/answering.py --semantic semantic-faces     # weights of the store
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import platform
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import httpx
import numpy as np
from PIL import Image

HOLE = 512


def photo(height: int, width: int) -> np.ndarray:
    """Make a picture with something in it at every scale."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 10):
        noise = rng.random((2**octave, 2**octave, 3), dtype=np.float32) - 0.5
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / octave
    return (total / total.std() * 50 + 127).clip(0, 255).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    """Write as PNG."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def jpeg(array: np.ndarray) -> bytes:
    """Write as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", quality=92)
    return stream.getvalue()


class Taken(NamedTuple):
    """Medians of several runs [s]."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        """Both."""
        return f"{self.wall:.3f} s ({self.cpu:.3f})"

    def over(self, other: Taken) -> str:
        """The ratio of both."""
        return f"{self.wall / other.wall:.2f} x ({self.cpu / other.cpu:.2f})"


def median(work: Callable[[], Any], times: int) -> Taken:
    """Time some work; the first run does not count."""
    work()
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Taken(statistics.median(walls), statistics.median(cpus))


@contextmanager
def served() -> Iterator[httpx.Client]:
    """Run the server in this process, so that core and server have the same threads."""
    import uvicorn

    from retouch.web.app import create_app
    from retouch.web.settings import Settings

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        running = uvicorn.Server(uvicorn.Config(create_app(Settings()), log_level="error"))
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        base = f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1"
        with httpx.Client(base_url=base, timeout=600) as client:
            while not running.started or client.get("/health").json()["status"] == "loading":
                time.sleep(0.05)
            yield client
        running.should_exit = True
        thread.join()


def value(client: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    """Follow a job as the page does."""
    answer.raise_for_status()
    path = answer.json()["events"].removeprefix("/api/v1")
    with client.stream("GET", path) as events:
        lines = [line for line in events.iter_lines() if line.startswith("data: ")]
    job = json.loads(lines[-1].removeprefix("data: "))
    if job["state"] != "done":
        raise RuntimeError(job["error"])
    return job["value"]


def fills(client: httpx.Client, size: tuple[int, int], times: int) -> None:
    """Compare the core with both ways of asking the server."""
    from retouch import pictures
    from retouch.pipeline.inpainter import Inpainter

    file = jpeg(photo(*size))
    mask = np.zeros(size, bool)
    top, left = (size[0] - HOLE) // 2, (size[1] - HOLE) // 2
    mask[top : top + HOLE, left : left + HOLE] = True
    part = png(mask[top : top + HOLE, left : left + HOLE])
    whole = png(mask)
    inpainter = Inpainter.load()
    with tempfile.TemporaryDirectory() as folder:
        path, target = Path(folder) / "in.jpg", Path(folder) / "out.jpg"
        path.write_bytes(file)
        picture = pictures.read(path)
        core = median(lambda: inpainter.fill_picture(picture, mask), times)

        def from_file() -> None:
            pictures.write(target, inpainter.fill_picture(pictures.read(path), mask))

        files = median(from_file, times)

    def ask() -> None:
        client.post("/fill", files={"image": file, "mask": whole}).raise_for_status()

    key = client.post("/pictures", files={"image": ("a.jpg", file)}).json()["picture"]

    def paint() -> None:
        data = {"top": top, "left": left}
        answer = client.post(f"/pictures/{key}/fills", files={"mask": part}, data=data)
        patch = value(client, answer)
        client.get(patch["url"].removeprefix("/api/v1")).raise_for_status()

    page, asked = median(paint, times), median(ask, times)
    print(f"{size[1]}x{size[0]}: core {core}, page's fill {page}, {page.over(core)}")
    print(f"  with reading and writing {files}, /fill {asked}, {asked.over(files)}", flush=True)


def edits(client: httpx.Client, network: str, size: tuple[int, int], hole: int, times: int) -> None:
    """Time a label edit, up to the last byte of the new fill."""
    key = client.post("/pictures", files={"image": ("a.png", png(photo(*size)))}).json()["picture"]
    mask = np.zeros(size, bool)
    top, left = (size[0] - hole) // 2, (size[1] - hole) // 2
    mask[top : top + hole, left : left + hole] = True
    data = {"picture": key, "network": network}
    session = value(client, client.post("/sessions", files={"mask": png(mask)}, data=data))
    labels = np.zeros((session["height"], session["width"]), np.uint8)
    count = len(session["label_set"]["names"])

    def edit() -> None:
        labels[labels.shape[0] // 2 :] = (labels[-1, 0] + 1) % count
        path = f"/sessions/{session['session']}/render"
        patch = value(client, client.post(path, files={"labels": png(labels)}))
        client.get(patch["url"].removeprefix("/api/v1")).raise_for_status()

    taken = median(edit, times)
    print(f"label edit, {network}, {size[1]}x{size[0]}, hole of {hole} px: {taken}", flush=True)


def clicks(client: httpx.Client, size: tuple[int, int], times: int) -> None:
    """Time the first click in a picture and the next ones."""
    key = client.post("/pictures", files={"image": ("a.png", png(photo(*size)))}).json()["picture"]
    body = {"picture": key, "points": [{"x": size[1] // 2, "y": size[0] // 2}]}
    started = time.perf_counter()
    answer = client.post("/select", json=body)
    first = time.perf_counter() - started
    by = answer.headers.get("X-Selector", "nothing")
    again = median(lambda: client.post("/select", json=body), times)
    print(f"click, {size[1]}x{size[0]}, {by}: the first {first:.2f} s, then {again}", flush=True)


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description="Time the server's answers.")
    parser.add_argument("--semantic", action="append", default=[], help="weights to edit with")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    print(f"Commit {commit}, {datetime.date.today()}, {cores} cores, {platform.platform()}")
    with served() as client:
        for size in ((1024, 1024), (4000, 6000)):
            fills(client, size, options.times)
        for network in options.semantic:
            edits(client, network, (512, 512), 200, options.times)
            edits(client, network, (4000, 6000), HOLE, options.times)
        for size in ((1024, 1024), (4000, 6000)):
            clicks(client, size, options.times)


if __name__ == "__main__":
    main()
