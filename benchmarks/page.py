"""What the page in the browser costs: bytes, time until it can be used, frames while one paints.

Debian's Chromium without a window, driven by Playwright, on a quiet machine. Frames are the times
between animation frames while a stroke is drawn over 6000x4000 pixels; a screen has 60 of them in
a second, so 16.7 ms is the least that can be measured. Beside them stands the processor time of the
page's own thread per frame, which a busy machine does not lengthen.

    python benchmarks/page.py
    python benchmarks/page.py --strokes 5 --chromium /usr/bin/chromium
"""

import argparse
import datetime
import gzip
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retouch.web.page import STATIC

_SIZE = (6000, 4000)
"""Width and height of the picture that is painted on [px]."""
_MOVES = 150
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
_WATCH = """(() => {
    let app;
    Object.defineProperty(window, "retouch", {
        get: () => app,
        set: (value) => {
            app = value;
            requestAnimationFrame(() => setTimeout(() => { window.usable = performance.now(); }));
        },
    });
})()"""
"""Notes when the page's script has run and the first frame after it is drawn."""
_COUNT = """() => {
    window.times = [];
    let last = performance.now();
    const tick = (now) => {
        window.times.push(now - last);
        last = now;
        requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
}"""


@contextmanager
def serving() -> Iterator[str]:
    """Start the server; gives its address as soon as it is printed."""
    command = [sys.executable, "-c", "from retouch.cli import main; main()", "ui"]
    process = subprocess.Popen(
        [*command, "--no-browser", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        found = re.search(r"http://\S+", line)
        if found is None:
            raise RuntimeError(f"the server gave no address but {line!r}")
        yield found[0]
    finally:
        process.terminate()
        process.wait()


class Opened:
    """The page in a fresh profile."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        self.page.set_default_timeout(120_000)
        self.page.add_init_script(_WATCH)
        self._session = self.page.context.new_cdp_session(self.page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.goto(address)
        while not (usable := self.page.evaluate("window.usable ?? 0")):
            self.page.wait_for_timeout(20)
        self.usable: float = usable
        """When it could be used [ms]."""

    def busy(self) -> float:
        """Processor time of the page's thread until now [ms]."""
        found = self._session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(each["value"] for each in found if each["name"] == "TaskDuration")


def stroke(page: Any, zoom: float | None, brush: int, height: float) -> list[float]:
    """Draw one stroke and return the times between frames [ms]."""
    page.evaluate(f"window.retouch.setBrush({brush})")
    page.evaluate("window.retouch.view.fit()")
    if zoom is not None:
        page.evaluate(f"window.retouch.view.setZoom({zoom})")
    box = page.locator("#stage").bounding_box()
    left, right = box["x"] + 40, box["x"] + box["width"] - 40
    top = box["y"] + 60 + height * (box["height"] - 120)
    page.mouse.move(left, top)
    page.wait_for_timeout(300)
    page.evaluate("window.times.length = 0")
    page.mouse.down()
    for index in range(_MOVES):
        share = index / _MOVES
        page.mouse.move(left + share * (right - left), top + 40 * np.sin(12 * share))
    page.mouse.up()
    return page.evaluate("window.times")


def main() -> None:
    """Measure and print a table."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--strokes", type=int, default=3)
    parser.add_argument("--opens", type=int, default=5)
    arguments = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    load = os.getloadavg()[0]
    print(f"commit {commit}, {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}")
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}")
    files = [path for path in STATIC.iterdir() if path.is_file()]
    whole = sum(path.stat().st_size for path in files)
    packed = sum(len(gzip.compress(path.read_bytes())) for path in files)
    print(f"front end: {len(files)} files, {whole / 1000:.0f} kB, gzipped {packed / 1000:.1f} kB")
    with sync_playwright() as playwright, serving() as address:
        browser = playwright.chromium.launch(
            executable_path=arguments.chromium, args=list(_FLAGS), timeout=120_000
        )
        first = Opened(browser, address)
        print(f"usable after, server just up: {first.usable:.0f} ms ({first.busy():.0f} ms busy)")
        others = [Opened(browser, address) for _ in range(arguments.opens)]
        usable = statistics.median(each.usable for each in others)
        busy = statistics.median(each.busy() for each in others)
        print(f"median of {len(others)} more: {usable:.0f} ms ({busy:.0f} ms busy)")
        paint(Opened(browser, address), arguments.strokes)
        browser.close()


def paint(opened: Opened, strokes: int) -> None:
    """Measure strokes over a large picture and print them."""
    page = opened.page
    noise = np.random.default_rng(0).integers(0, 256, (_SIZE[1] // 8, _SIZE[0] // 8, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        Image.fromarray(noise).resize(_SIZE).save(path, quality=90)
        page.locator("#file").set_input_files(path)
        while not page.evaluate("Boolean(window.retouch.doc && window.retouch.doc.key)"):
            page.wait_for_timeout(200)
    page.evaluate(_COUNT)
    for zoom, brush in ((None, 150), (None, 1000), (1.0, 150), (4.0, 40)):
        frames: list[float] = []
        before = opened.busy()
        for index in range(strokes):
            frames += stroke(page, zoom, brush, index / strokes)
        spread = statistics.quantiles(frames, n=20)
        shown = "fit" if zoom is None else f"{100 * zoom:.0f} %"
        print(
            f"strokes at {shown}, brush {brush} px: {len(frames)} frames,"
            f" median {statistics.median(frames):.1f} ms, 95th percentile {spread[-1]:.1f} ms,"
            f" longest {max(frames):.1f} ms, busy {(opened.busy() - before) / len(frames):.1f} ms"
        )
        page.evaluate("window.retouch.masking.clear()")


if __name__ == "__main__":
    main()
