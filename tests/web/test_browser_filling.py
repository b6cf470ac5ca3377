"""Fills, in a real browser."""

from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.browser,
    # Playwright's own loop is left open at exit; that is not ours to mend.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_variants_side_by_side(server: Any, open_page: Any, scene: Any):
    before = scene()
    screen = open_page(server.address, before)
    page = screen.page
    screen.drag((180, 140), (230, 160))
    hole = screen.masked()
    page.keyboard.press("n")
    screen.until("document.querySelectorAll('#variantsList canvas').length === 2")
    page.locator("#variantsList button", has_text="semantic-tiny").click()
    screen.until("window.retouch.doc.patches.length === 1 && !window.retouch.abort")
    assert not page.locator("#variantsSheet").is_visible()
    assert not screen.masked().any()
    after = screen.saved()
    assert np.array_equal(after[~hole], before[~hole])
    assert (after[hole] != before[hole]).any()
    page.keyboard.press("Control+z")
    assert np.array_equal(screen.masked(), hole)


def test_one_network_says_plainly_that_it_has_no_variants(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    screen.drag((180, 140), (230, 160))
    screen.page.evaluate("window.retouch.models.length = 1")
    screen.page.locator("#variants").click()
    screen.until("document.getElementById('status').textContent.includes('there are no variants')")


def test_each_stroke_is_filled_at_once(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    screen.page.locator("#auto").check()
    screen.drag((100, 100), (150, 110))
    screen.drag((250, 200), (300, 210))
    screen.until("!window.retouch.abort && window.retouch.doc.mask.isEmpty")
    assert 1 <= screen.page.evaluate("window.retouch.doc.patches.length") <= 2
    assert screen.page.locator("#history li").count() >= 2
    screen.page.locator("#history button").first.click()
    assert screen.page.evaluate("window.retouch.doc.patches.length") == 0


def test_a_fill_is_cancelled(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    page = screen.page
    screen.drag((100, 100), (150, 110))
    page.route("**/fills", lambda route: None)  # never answered
    page.keyboard.press("f")
    page.locator("#cancel").click()
    screen.until("!window.retouch.abort")
    assert screen.status() == "Cancelled"
    assert screen.masked().any()
    page.unroute("**/fills")
    screen.fill()


def test_a_soft_edge_widens_the_hole(server: Any, open_page: Any, scene: Any):
    before = scene()
    screen = open_page(server.address, before)
    page = screen.page
    page.locator("#feather").fill("6")
    page.locator("#feather").blur()
    assert page.locator("#dilate").input_value() == "6"
    page.keyboard.press("r")
    screen.drag((100, 100), (140, 130))
    screen.fill()
    changed = (screen.saved() != before).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert 93 <= rows[0] < 100
    assert 140 < columns[-1] <= 147
    page.locator("#dilate").fill("2")
    page.locator("#dilate").blur()
    assert page.locator("#feather").input_value() == "2"


def test_a_stroke_goes_on_while_a_fill_arrives(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    page = screen.page
    screen.drag((100, 100), (150, 110))
    first = screen.masked()
    page.mouse.move(*screen.point(250, 200))
    page.mouse.down()
    page.keyboard.press("f")
    screen.until("window.retouch.doc.patches.length === 1 && !window.retouch.abort")
    page.mouse.move(*screen.point(300, 210), steps=5)
    page.mouse.up()
    both = screen.masked()
    assert both[210, 299]
    assert not both[100, 100]
    page.keyboard.press("Control+z")
    assert not screen.masked()[210, 299]
    while page.locator("#undo").is_enabled():
        page.keyboard.press("Control+z")
    assert not screen.masked().any()
    page.keyboard.press("Control+Shift+z")
    assert np.array_equal(screen.masked(), first)
    while page.locator("#redo").is_enabled():
        page.keyboard.press("Control+Shift+z")
    assert np.array_equal(screen.masked() & ~first, both & ~first)
