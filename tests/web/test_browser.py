"""What people do, in a real browser: `pytest -m browser tests/web`."""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.browser,
    # Playwright's own loop is left open at exit; that is not ours to mend.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Open = Callable[..., Any]
PATIENCE = float(os.environ.get("RETOUCH_PATIENCE", "1"))
"""Multiplies every wait, for machines that are busy with something else."""


def scene(height: int = 300, width: int = 400) -> np.ndarray:
    """A picture with something everywhere, so that every pixel can be told apart."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3))
    smooth = np.stack([rows * 160 // height, columns * 160 // width, (rows + columns) % 160], -1)
    return (smooth + noise).astype(np.uint8)


def as_png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def until(page: Any, claim: str, seconds: float = 60) -> None:
    """Wait until a claim is true (the page's own policy forbids Playwright's way)."""
    end = time.monotonic() + seconds * PATIENCE
    while not page.evaluate(f"Boolean({claim})"):
        said = page.locator("#status").inner_text()
        assert time.monotonic() < end, f"{claim} does not come true; the page says {said!r}"
        page.wait_for_timeout(50)


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens the page with a picture; errors of its scripts fail the test."""
    contexts, errors = [], []

    def act(address: str, array: np.ndarray | None = None, **options: Any) -> Any:
        context = chromium.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "locale": "en", **options}
        )
        context.set_default_timeout(30_000 * PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        until(page, "window.retouch && window.retouch.models.length")
        if array is not None:
            give(page, array)
        return page

    yield act
    for context in contexts:
        context.close()
    assert not errors


def give(page: Any, array: np.ndarray, name: str = "scene.png") -> None:
    with tempfile.TemporaryDirectory() as folder:  # buffers over 50 MB are not taken
        path = Path(folder) / name
        path.write_bytes(as_png(array))
        page.locator("#file").set_input_files(path)
        until(page, f"window.retouch.doc && window.retouch.doc.name === {name!r}")
        until(page, "window.retouch.doc.key")


def client_point(page: Any, x: float, y: float) -> tuple[float, float]:
    at = page.evaluate(f"window.retouch.view.toClient({x}, {y})")
    return at["x"], at["y"]


def drag(page: Any, *points: tuple[float, float]) -> None:
    """Drag the mouse along points of the picture."""
    page.mouse.move(*client_point(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*client_point(page, *point), steps=6)
    page.mouse.up()


def masked(page: Any) -> np.ndarray:
    """The page's mask."""
    found = page.evaluate("""() => { const {mask, width, height} = window.retouch.doc;
        return [height, width, [...mask.read({x0: 0, y0: 0, x1: width, y1: height})]]; }""")
    return np.array(found[2], np.uint8).reshape(found[0], found[1]).astype(bool)


def fill(page: Any, fills: int = 1) -> None:
    page.keyboard.press("f")
    until(page, f"window.retouch.doc.patches.length === {fills} && !window.retouch.abort")


def saved(page: Any) -> np.ndarray:
    with page.expect_download() as download:
        page.keyboard.press("Control+s")
    return np.asarray(Image.open(download.value.path()))


def test_brush_undo_fill_compare_save(server: Any, open_page: Open):
    before = scene()
    page = open_page(server.address, before)
    drag(page, (100, 100), (180, 120))
    first = masked(page)
    assert first[100, 100]
    assert first[120, 180]
    drag(page, (100, 200), (180, 200))
    page.keyboard.press("Control+z")
    assert np.array_equal(masked(page), first)
    page.keyboard.press("Control+Shift+z")
    assert masked(page)[200, 140]
    page.keyboard.press("Control+z")
    fill(page)
    assert not masked(page).any()
    for key, mode in (("v", "slider"), ("d", "difference"), ("d", "none")):
        page.keyboard.press(key)
        assert page.evaluate("window.retouch.view.compare.mode") == mode
    page.keyboard.down("c")
    assert page.evaluate("window.retouch.view.compare.mode") == "original"
    page.keyboard.up("c")
    assert page.evaluate("window.retouch.view.compare.mode") == "none"
    after = saved(page)
    assert np.array_equal(after[~first], before[~first])
    assert (after[first] != before[first]).any()
    page.keyboard.press("Control+z")
    assert np.array_equal(masked(page), first)
    assert np.array_equal(saved(page), before)


def test_shapes_and_changes_of_the_mask(server: Any, open_page: Open):
    page = open_page(server.address, scene())
    page.keyboard.press("r")
    drag(page, (50, 40), (90, 70))
    found = masked(page)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == pytest.approx((40, 70, 50, 90), abs=1)
    assert found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    page.locator("#by").fill("5")
    page.locator("#grow").click()
    grown = masked(page)
    assert grown[rows[0] - 5, 70]
    assert not grown[rows[0] - 6, 70]
    assert not grown[rows[0] - 5, columns[0] - 5]
    page.locator("#shrink").click()
    assert np.array_equal(masked(page), found)
    page.keyboard.press("i")
    assert np.array_equal(masked(page), ~found)
    page.keyboard.press("Delete")
    assert not masked(page).any()
    page.keyboard.press("l")
    drag(page, (200, 100), (260, 100), (230, 160), (200, 100))
    assert masked(page)[115, 230]
    page.keyboard.press("p")
    for corner in ((300, 50), (350, 50), (350, 100), (300, 100)):
        page.mouse.click(*client_point(page, *corner))
    page.keyboard.press("Escape")
    assert masked(page)[75, 325]
    page.keyboard.press("e")
    drag(page, (325, 40), (325, 110))
    assert not masked(page)[75, 325]
    page.keyboard.press("s")
    page.keyboard.press("Delete")
    page.mouse.click(*client_point(page, 200, 150))
    until(page, "!window.retouch.doc.mask.isEmpty")
    with page.expect_download() as download:
        page.keyboard.press("m")
    mask = np.asarray(Image.open(download.value.path()))
    assert np.array_equal(mask.astype(bool), masked(page))
    page.keyboard.press("Delete")
    page.locator("#maskFile").set_input_files(download.value.path())
    until(page, "!window.retouch.doc.mask.isEmpty")
    assert np.array_equal(masked(page), mask.astype(bool))


def test_zoom_keeps_the_point_under_the_pointer(server: Any, open_page: Open):
    page = open_page(server.address, scene())
    x, y = 500, 400  # whole pixels: wheel events know no others
    before = page.evaluate(f"window.retouch.view.toPicture({x}, {y})")
    page.mouse.move(x, y)
    for _ in range(6):
        page.mouse.wheel(0, -240)
    until(page, "window.retouch.view.zoom > 8")
    after = page.evaluate(f"window.retouch.view.toPicture({x}, {y})")
    assert after == pytest.approx(before, abs=0.01)
    page.keyboard.press("1")
    assert page.evaluate("window.retouch.view.zoom") == 1
    page.keyboard.press("0")
    assert page.evaluate("window.retouch.view.fitted")


def test_keyboard_only(server: Any, open_page: Open):
    before = scene()
    page = open_page(server.address, before)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "stage":
            break
    assert page.evaluate("document.activeElement.id") == "stage"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    mask = masked(page)
    assert mask.any()
    page.keyboard.press("?")
    assert page.locator("#sheet").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#sheet").is_visible()
    fill(page)
    after = saved(page)
    assert np.array_equal(after[~mask], before[~mask])
    assert (after[mask] != before[mask]).any()


def test_touch_draws_with_one_finger_and_zooms_with_two(server: Any, open_page: Open):
    size = {"width": 820, "height": 1180}
    page = open_page(server.address, scene(), viewport=size, has_touch=True, is_mobile=True)
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    start, end = client_point(page, 150, 150), client_point(page, 200, 160)
    touch("touchStart", start)
    for share in (0.25, 0.5, 0.75, 1.0):
        touch("touchMove", tuple(a + share * (b - a) for a, b in zip(start, end, strict=True)))
    touch("touchEnd")
    mask = masked(page)
    assert mask[155, 175]
    zoom = page.evaluate("window.retouch.view.zoom")
    touch("touchStart", start)
    touch("touchStart", start, end)
    touch("touchMove", (start[0] - 60, start[1]), (end[0] + 60, end[1]))
    touch("touchEnd")
    page.wait_for_timeout(100)
    assert page.evaluate("window.retouch.view.zoom") > 1.5 * zoom
    assert np.array_equal(masked(page), mask)
    page.locator("#fill").tap()
    until(page, "window.retouch.doc.patches.length === 1")


def test_the_label_map_is_edited_and_the_picture_follows(server: Any, open_page: Open):
    before = scene()
    page = open_page(server.address, before)
    assert page.locator("#editLabels").is_disabled()
    assert "no labels" in page.locator("#labelNote").inner_text()
    page.locator("#network").select_option("semantic-tiny")
    page.locator("#size").fill("600")
    drag(page, (180, 140), (230, 160))
    hole = masked(page)
    page.keyboard.press("o")
    until(page, "window.retouch.doc.editing && !window.retouch.abort")
    first = saved(page)
    page.locator("#legend button", has_text="hair").click()
    drag(page, (190, 140), (220, 150))
    until(page, "document.getElementById('status').textContent.startsWith('Rendered')")
    second = saved(page)
    assert np.array_equal(second[~hole], before[~hole])
    assert (first[hole] != second[hole]).any()
    with page.expect_download() as download:
        page.locator("#saveLabels").click()
    labels = Image.open(download.value.path())
    assert labels.mode == "P"
    assert 13 in np.asarray(labels)
    edits = page.evaluate("window.retouch.doc.done.length")
    page.locator("#resetLabels").click()
    until(page, f"window.retouch.doc.done.length > {edits} && !window.retouch.labels.rendering")
    assert np.array_equal(saved(page), first)
    page.locator("#labelFile").set_input_files(download.value.path())
    edits += 1
    until(page, f"window.retouch.doc.done.length > {edits} && !window.retouch.labels.rendering")
    assert np.array_equal(saved(page), second)
    page.keyboard.press("o")
    assert not page.evaluate("Boolean(window.retouch.doc.editing)")


def test_a_killed_server_loses_nothing(launch: Any, open_page: Open):
    before = scene()
    running = launch()
    page = open_page(running.address, before)
    drag(page, (100, 100), (150, 110))
    hole = masked(page)
    fill(page)
    first = saved(page)
    running.kill()
    drag(page, (250, 200), (300, 210))
    hole |= masked(page)
    page.keyboard.press("f")
    page.locator("#lost").wait_for(state="visible")
    assert "not running" in page.locator("#lost").inner_text()
    running.start()
    until(page, "window.retouch.doc.patches.length === 2 && !window.retouch.abort")
    assert not page.locator("#lost").is_visible()
    after = saved(page)
    assert np.array_equal(after[~hole], before[~hole])
    kept = (first != before).any(-1)
    assert np.array_equal(after[kept], first[kept])


def test_a_folder_is_a_strip_and_saves_itself(launch: Any, tmp_path: Path, open_page: Open):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.png").write_bytes(as_png(scene()))
    page = open_page(launch(tmp_path / "in").address)
    until(page, "window.retouch.doc")
    assert page.locator("#strip button").count() == 2
    drag(page, (100, 100), (150, 110))
    fill(page)
    page.keyboard.press("PageDown")
    until(page, "window.retouch.doc.name === 'b.png'")
    assert [path.name for path in (tmp_path / "in_filled").iterdir()] == ["a.png"]


@pytest.mark.slow
def test_24_megapixels_stay_smooth(server: Any, open_page: Open, record_property: Any):
    before = scene(4000, 6000)
    page = open_page(server.address, before)
    page.evaluate("""() => {
        window.frames_ = [];
        let last = performance.now();
        const tick = (now) => {
            window.frames_.push(now - last);
            last = now;
            requestAnimationFrame(tick);
        };
        requestAnimationFrame(tick);
    }""")
    page.wait_for_timeout(300)
    page.evaluate("window.frames_.length = 0")
    page.mouse.move(*client_point(page, 1000, 1000))
    page.mouse.down()
    for index in range(120):
        page.mouse.move(*client_point(page, 1000 + 15 * index, 1000 + 8 * index))
    page.mouse.up()
    frames = page.evaluate("window.frames_")
    spread = statistics.quantiles(frames, n=20)
    record_property("frame_p95_ms", round(spread[-1], 1))
    record_property("frame_median_ms", round(statistics.median(frames), 1))
    hole = page.evaluate("window.retouch.doc.mask.bounds()")
    fill(page)
    after = saved(page)
    known = np.ones((4000, 6000), bool)
    known[hole["y0"] : hole["y1"], hole["x0"] : hole["x1"]] = False
    assert np.array_equal(after[known], before[known])
    assert (after[~known] != before[~known]).any()


def test_no_serious_accessibility_violation(server: Any, open_page: Open):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    page = open_page(server.address, scene(), bypass_csp=True)
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = {theme!r}")
        found = axe.Axe().run(page).response["violations"]
        bad = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
        assert not bad, [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found]
