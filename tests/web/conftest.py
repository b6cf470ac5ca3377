"""A server in a process of its own, with a tiny network, and a browser."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from retouch import models
from retouch.web.app import create_app
from retouch.web.settings import Settings
from retouch.weights import files

PATIENCE = float(os.environ.get("RETOUCH_PATIENCE", "1"))
"""Multiplies every wait in the browser's tests, for machines that are busy with something else."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def served(settings: Settings) -> Iterator[httpx.Client]:
    """Run the application in a thread of this process, for plain httpx."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(settings), log_level="error", lifespan="on")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([listening],))
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with httpx.Client(base_url=f"{address}/api/v1", timeout=120) as client:
        while not running.started:
            time.sleep(0.01)
        yield client
    running.should_exit = True
    thread.join(20)
    listening.close()


class Running:
    """A server that can be killed and started again at the same address."""

    def __init__(self, *arguments: str | Path) -> None:
        self.arguments = [str(a) for a in arguments]
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", "from retouch.cli import main; main()", "ui"]
        options = ["--no-browser", "--port", str(self.port), *self.arguments]
        self.process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://[^ ]+?:(\d+)/\S*", line)
        assert found, f"no address in {line!r}"
        self.address, self.port = found[0], int(found[1])

    def wait(self) -> None:
        """Wait until the network is loaded."""
        for _ in range(3000):
            with suppress(httpx.TransportError), self.client() as client:
                if client.get("/health").json()["status"] == "ready":
                    return
            time.sleep(0.2)
        raise AssertionError("the server does not get ready")

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", timeout=120)

    def kill(self) -> None:
        """End it without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of a tiny network that fills."""
    return save_small("dilated", tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def save_small(network: str, path: Path) -> Path:
    torch.manual_seed(0)
    facts = models.card(network)
    config = dict(facts.small)
    built = facts.model(facts.config(**config))
    files.save(path, files.Header(network=network, config=config), built.state_dict())
    return path


@pytest.fixture(scope="session")
def store(tiny: Path) -> Iterator[Path]:
    """A weight store of its own, with a tiny network that obeys label maps."""
    folder = tiny.parent / "store"
    folder.mkdir()
    save_small("semantic", folder / "semantic-tiny.safetensors")
    before = os.environ.get("RETOUCH_WEIGHTS")
    os.environ["RETOUCH_WEIGHTS"] = str(folder)
    yield folder
    if before is None:
        del os.environ["RETOUCH_WEIGHTS"]
    else:
        os.environ["RETOUCH_WEIGHTS"] = before


Serve = Callable[[Settings], AbstractContextManager[httpx.Client]]


@pytest.fixture(scope="session")
def serve(tiny: Path, store: Path) -> Serve:
    """Runs an application for a while."""
    return served


@pytest.fixture
def launch(tiny: Path, store: Path) -> Iterator[Callable[..., Running]]:
    """Starts servers with arguments of their own, and stops them in the end."""
    started: list[Running] = []

    def act(*arguments: str | Path) -> Running:
        started.append(Running("--network", tiny, *arguments))
        return started[-1]

    yield act
    for running in started:
        running.stop()


@pytest.fixture(scope="session")
def server(tiny: Path, store: Path) -> Iterator[Running]:
    running = Running("--network", tiny)
    running.wait()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """Debian's Chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=list(FLAGS), timeout=600_000
        )
        yield browser
        browser.close()


def make_scene(height: int = 300, width: int = 400) -> np.ndarray:
    """A picture with something everywhere, so that every pixel can be told apart."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3))
    smooth = np.stack([rows * 160 // height, columns * 160 // width, (rows + columns) % 160], -1)
    return (smooth + noise).astype(np.uint8)


@pytest.fixture
def scene() -> Callable[..., np.ndarray]:
    """Makes pictures."""
    return make_scene


def as_png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


class Screen:
    """The page in a browser, and hands."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def until(self, claim: str, seconds: float = 60) -> None:
        """Wait until a claim is true (the page's own policy forbids Playwright's way)."""
        end = time.monotonic() + seconds * PATIENCE
        while not self.page.evaluate(f"Boolean({claim})"):
            assert time.monotonic() < end, (
                f"{claim} does not come true; the page says {self.status()!r}"
            )
            self.page.wait_for_timeout(50)

    def status(self) -> str:
        return self.page.locator("#status").inner_text()

    def give(self, picture: np.ndarray | bytes, name: str = "scene.png") -> None:
        """Open a picture; its file is gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:  # as a buffer it may have 50 MB only
            path = Path(folder) / name
            path.write_bytes(picture if isinstance(picture, bytes) else as_png(picture))
            self.page.locator("#file").set_input_files(path)
            self.until(f"window.retouch.doc && window.retouch.doc.name === {name!r}")
            self.until("window.retouch.doc.key")

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture is on the screen."""
        at = self.page.evaluate(f"window.retouch.view.toClient({x}, {y})")
        return at["x"], at["y"]

    def drag(self, *points: tuple[float, float]) -> None:
        """Drag the mouse along points of the picture."""
        self.page.mouse.move(*self.point(*points[0]))
        self.page.mouse.down()
        for place in points[1:]:
            self.page.mouse.move(*self.point(*place), steps=6)
        self.page.mouse.up()

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.point(x, y))

    def masked(self) -> np.ndarray:
        """The page's mask."""
        found = self.page.evaluate("""() => { const {mask, width, height} = window.retouch.doc;
            return [height, width, mask.read({x0: 0, y0: 0, x1: width, y1: height}).join("")]; }""")
        values = np.frombuffer(found[2].encode(), np.uint8) == ord("1")
        return values.reshape(found[0], found[1])

    def fill(self, fills: int = 1) -> None:
        self.page.keyboard.press("f")
        self.until(f"window.retouch.doc.patches.length === {fills} && !window.retouch.abort")

    def download(self, act: Callable[[], Any]) -> Path:
        """What an act gives out as a file."""
        with self.page.expect_download() as download:
            act()
        return download.value.path()

    def saved(self) -> np.ndarray:
        path = self.download(lambda: self.page.keyboard.press("Control+s"))
        return np.asarray(Image.open(path))


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Screen]]:
    """Opens the page with a picture; errors of its scripts fail the test."""
    contexts, errors = [], []

    def act(address: str, array: np.ndarray | None = None, **options: Any) -> Screen:
        context = chromium.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "locale": "en", **options}
        )
        context.set_default_timeout(30_000 * PATIENCE)
        contexts.append(context)
        screen = Screen(context.new_page())
        screen.page.on("pageerror", lambda error: errors.append(str(error)))
        screen.page.goto(address)
        screen.until("window.retouch && window.retouch.models.length")
        if array is not None:
            screen.give(array)
        return screen

    yield act
    for context in contexts:
        context.close()
    assert not errors
