"""What people do, in a real browser: `pytest -m browser tests/web`."""

import signal
import statistics
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.browser,
    # Playwright's own loop is left open at exit; that is not ours to mend.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_brush_undo_fill_compare_save(server: Any, open_page: Any, scene: Any):
    before = scene()
    screen = open_page(server.address, before)
    page = screen.page
    screen.drag((100, 100), (180, 120))
    first = screen.masked()
    assert first[100, 100]
    assert first[120, 180]
    screen.drag((100, 200), (180, 200))
    page.keyboard.press("Control+z")
    assert np.array_equal(screen.masked(), first)
    page.keyboard.press("Control+Shift+z")
    assert screen.masked()[200, 140]
    page.keyboard.press("Control+z")
    screen.fill()
    assert not screen.masked().any()
    for key, mode in (("v", "slider"), ("d", "difference"), ("d", "none")):
        page.keyboard.press(key)
        assert page.evaluate("window.retouch.view.compare.mode") == mode
    page.keyboard.down("c")
    assert page.evaluate("window.retouch.view.compare.mode") == "original"
    page.keyboard.up("c")
    assert page.evaluate("window.retouch.view.compare.mode") == "none"
    after = screen.saved()
    assert np.array_equal(after[~first], before[~first])
    assert (after[first] != before[first]).any()
    page.keyboard.press("Control+z")
    assert np.array_equal(screen.masked(), first)
    assert np.array_equal(screen.saved(), before)


def test_zoom_keeps_the_point_under_the_pointer(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    page = screen.page
    x, y = 500, 400  # whole pixels: wheel events know no others
    before = page.evaluate(f"window.retouch.view.toPicture({x}, {y})")
    page.mouse.move(x, y)
    for _ in range(6):
        page.mouse.wheel(0, -240)
    screen.until("window.retouch.view.zoom > 8")
    after = page.evaluate(f"window.retouch.view.toPicture({x}, {y})")
    assert after == pytest.approx(before, abs=0.01)
    page.keyboard.press("1")
    assert page.evaluate("window.retouch.view.zoom") == 1
    page.keyboard.press("0")
    assert page.evaluate("window.retouch.view.fitted")


def test_keyboard_only(server: Any, open_page: Any, scene: Any):
    before = scene()
    screen = open_page(server.address, before)
    page = screen.page
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
    mask = screen.masked()
    assert mask.any()
    page.keyboard.press("?")
    assert page.locator("#sheet").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#sheet").is_visible()
    screen.fill()
    after = screen.saved()
    assert np.array_equal(after[~mask], before[~mask])
    assert (after[mask] != before[mask]).any()


def test_touch_draws_with_one_finger_and_zooms_with_two(server: Any, open_page: Any, scene: Any):
    size = {"width": 820, "height": 1180}
    screen = open_page(server.address, scene(), viewport=size, has_touch=True, is_mobile=True)
    page = screen.page
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    start, end = screen.point(150, 150), screen.point(200, 160)
    touch("touchStart", start)
    for share in (0.25, 0.5, 0.75, 1.0):
        touch("touchMove", tuple(a + share * (b - a) for a, b in zip(start, end, strict=True)))
    touch("touchEnd")
    mask = screen.masked()
    assert mask[155, 175]
    zoom = page.evaluate("window.retouch.view.zoom")
    touch("touchStart", start)
    touch("touchStart", start, end)
    touch("touchMove", (start[0] - 60, start[1]), (end[0] + 60, end[1]))
    touch("touchEnd")
    page.wait_for_timeout(100)
    assert page.evaluate("window.retouch.view.zoom") > 1.5 * zoom
    assert np.array_equal(screen.masked(), mask)
    page.locator("#fill").tap()
    screen.until("window.retouch.doc.patches.length === 1")


def test_a_server_killed_in_the_middle_of_a_fill_loses_nothing(
    launch: Any, open_page: Any, scene: Any
):
    before = scene(600, 800)
    running = launch()
    screen = open_page(running.address, before)
    page = screen.page
    screen.drag((100, 100), (150, 110))
    hole = screen.masked()
    screen.fill()
    first = screen.saved()
    page.keyboard.press("r")
    screen.drag((200, 150), (700, 500))
    hole |= screen.masked()
    with page.expect_response("**/fills"):
        page.keyboard.press("f")
    running.process.send_signal(signal.SIGSTOP)  # its answer can no longer come
    assert page.evaluate("window.retouch.doc.patches.length") == 1
    running.kill()
    page.locator("#lost").wait_for(state="visible")
    assert "not running" in page.locator("#lost").inner_text()
    page.keyboard.press("b")
    screen.drag((50, 560), (90, 560))  # painting goes on meanwhile
    running.start()
    screen.until("window.retouch.doc.patches.length === 2 && !window.retouch.abort")
    assert not page.locator("#lost").is_visible()
    left = screen.masked()
    assert left[560, 70]
    assert not left[:520].any()
    after = screen.saved()
    assert np.array_equal(after[~hole], before[~hole])
    kept = (first != before).any(-1)
    assert np.array_equal(after[kept], first[kept])


@pytest.mark.slow
def test_24_megapixels_stay_smooth(server: Any, open_page: Any, scene: Any, record_property: Any):
    before = scene(4000, 6000)
    screen = open_page(server.address, before)
    page = screen.page
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
    page.mouse.move(*screen.point(1000, 1000))
    page.mouse.down()
    for index in range(120):
        page.mouse.move(*screen.point(1000 + 15 * index, 1000 + 8 * index))
    page.mouse.up()
    frames = page.evaluate("window.frames_")
    spread = statistics.quantiles(frames, n=20)
    record_property("frame_p95_ms", round(spread[-1], 1))
    record_property("frame_median_ms", round(statistics.median(frames), 1))
    hole = page.evaluate("window.retouch.doc.mask.bounds()")
    screen.fill()
    after = screen.saved()
    known = np.ones((4000, 6000), bool)
    known[hole["y0"] : hole["y1"], hole["x0"] : hole["x1"]] = False
    assert np.array_equal(after[known], before[known])
    assert (after[~known] != before[~known]).any()


def test_no_serious_accessibility_violation(server: Any, open_page: Any, scene: Any):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    screen = open_page(server.address, scene(), bypass_csp=True)
    page = screen.page

    def look() -> None:
        for theme in ("light", "dark"):
            page.evaluate(f"document.documentElement.dataset.theme = {theme!r}")
            found = axe.Axe().run(page).response["violations"]
            bad = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
            assert not bad, [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found]

    look()
    page.keyboard.press("?")
    look()
    page.keyboard.press("Escape")
    page.locator("#network").select_option("semantic-tiny")
    screen.drag((180, 140), (230, 160))
    page.keyboard.press("n")
    screen.until("document.querySelectorAll('#variantsList canvas').length === 2")
    look()
    page.keyboard.press("Escape")
    screen.until("!window.retouch.abort")
    page.keyboard.press("o")
    screen.until("window.retouch.doc.editing && !window.retouch.abort")
    screen.give(scene(), "second.png")
    page.keyboard.press("PageUp")
    screen.until("window.retouch.doc.editing")
    look()
