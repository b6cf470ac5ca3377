"""A server in a process of its own, with a tiny network, and a browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import torch
import uvicorn

from retouch import models
from retouch.web.app import create_app
from retouch.web.settings import Settings
from retouch.weights import files

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
