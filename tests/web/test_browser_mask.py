"""Making masks, in a real browser."""

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


def test_shapes_and_changes_of_the_mask(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    page = screen.page
    page.keyboard.press("r")
    screen.drag((50, 40), (90, 70))
    found = screen.masked()
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == pytest.approx((40, 70, 50, 90), abs=1)
    assert found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    page.locator("#by").fill("5")
    page.locator("#grow").click()
    grown = screen.masked()
    assert grown[rows[0] - 5, 70]
    assert not grown[rows[0] - 6, 70]
    assert not grown[rows[0] - 5, columns[0] - 5]
    page.locator("#shrink").click()
    assert np.array_equal(screen.masked(), found)
    page.keyboard.press("i")
    assert np.array_equal(screen.masked(), ~found)
    page.keyboard.press("Delete")
    assert not screen.masked().any()
    page.keyboard.press("l")
    screen.drag((200, 100), (260, 100), (230, 160), (200, 100))
    assert screen.masked()[115, 230]
    page.keyboard.press("p")
    for corner in ((300, 50), (350, 50), (350, 100), (300, 100)):
        page.mouse.click(*screen.point(*corner))
    page.keyboard.press("Escape")
    assert screen.masked()[75, 325]
    page.keyboard.press("e")
    screen.drag((325, 40), (325, 110))
    assert not screen.masked()[75, 325]
    page.keyboard.press("s")
    page.keyboard.press("Delete")
    page.mouse.click(*screen.point(200, 150))
    screen.until("!window.retouch.doc.mask.isEmpty")
    with page.expect_download() as download:
        page.keyboard.press("m")
    mask = np.asarray(Image.open(download.value.path()))
    assert np.array_equal(mask.astype(bool), screen.masked())
    page.keyboard.press("Delete")
    page.locator("#maskFile").set_input_files(download.value.path())
    screen.until("!window.retouch.doc.mask.isEmpty")
    assert np.array_equal(screen.masked(), mask.astype(bool))


def test_strokes_survive_other_tools_and_sizes_of_the_brush(
    server: Any, open_page: Any, scene: Any
):
    screen = open_page(server.address, scene())
    page = screen.page
    screen.drag((100, 100), (180, 120))
    first = screen.masked()
    for key in "rlpsheb":
        page.keyboard.press(key)
        assert np.array_equal(screen.masked(), first)
    size = page.evaluate("window.retouch.brush")
    page.keyboard.press("]")
    assert page.evaluate("window.retouch.brush") == pytest.approx(1.2 * size)
    page.keyboard.press("[")
    page.mouse.move(*screen.point(200, 200))
    page.keyboard.down("Shift")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Shift")
    screen.until(f"window.retouch.brush > {1.1 * size}")
    shown = page.locator(".cursor").bounding_box()
    wanted = page.evaluate("window.retouch.brush * window.retouch.view.zoom")
    assert shown["width"] == pytest.approx(wanted, abs=1)
    assert np.array_equal(screen.masked(), first)


def test_a_pen_paints_thinner_where_it_presses_less(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    screen.page.evaluate("window.retouch.setBrush(40)")
    session = screen.page.context.new_cdp_session(screen.page)

    def pen(kind: str, x: float, y: float, force: float) -> None:
        at = dict(zip("xy", screen.point(x, y), strict=True))
        held = {"button": "left", "buttons": 0 if kind == "mouseReleased" else 1, "clickCount": 1}
        event = {"type": kind, "pointerType": "pen", "force": force, **at, **held}
        session.send("Input.dispatchMouseEvent", event)

    pen("mousePressed", 100, 100, 1.0)
    pen("mouseMoved", 110, 100, 1.0)
    pen("mouseMoved", 300, 100, 0.1)
    pen("mouseReleased", 300, 100, 0.1)
    wide, thin = screen.masked()[:, 105].sum(), screen.masked()[:, 300].sum()
    assert wide == pytest.approx(40, abs=2)
    assert thin == pytest.approx(40 * 0.28, abs=2)


def test_clicks_select_a_thing_and_take_away(server: Any, open_page: Any):
    picture = np.full((300, 400, 3), 220, np.uint8)
    picture[60:200, 50:150] = (200, 30, 30)
    picture[120:260, 250:350] = (30, 30, 200)
    screen = open_page(server.address, picture)
    page = screen.page
    page.keyboard.press("s")
    screen.click(100, 130)
    screen.until("!window.retouch.doc.mask.isEmpty && !window.retouch.abort")
    found = screen.masked()
    assert found[130, 100]
    assert not found[200, 300]
    edits = page.evaluate("window.retouch.doc.done.length")
    screen.click(300, 200)
    screen.until("window.retouch.masking.clicks.points.length === 2 && !window.retouch.abort")
    assert screen.masked()[200, 300]
    assert page.evaluate("window.retouch.doc.done.length") == edits  # clicks are one selection
    page.keyboard.press("x")  # for fingers, which have no Alt
    screen.click(310, 180)
    screen.until("window.retouch.masking.clicks.points.length === 3 && !window.retouch.abort")
    sent = page.evaluate("window.retouch.masking.clicks.points.map((point) => point.inside)")
    assert sent == [True, True, False]
    assert not screen.masked()[180, 310]
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    screen.click(20, 20)
    screen.until("window.retouch.masking.clicks.points.length === 1 && !window.retouch.abort")
