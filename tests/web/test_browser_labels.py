"""The semantic editor, in a real browser."""

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


def test_the_label_map_is_edited_and_the_picture_follows(server: Any, open_page: Any, scene: Any):
    before = scene()
    screen = open_page(server.address, before)
    page = screen.page
    assert page.locator("#editLabels").is_disabled()
    assert "no labels" in page.locator("#labelNote").inner_text()
    page.locator("#network").select_option("semantic-tiny")
    page.locator("#size").fill("600")
    screen.drag((180, 140), (230, 160))
    hole = screen.masked()
    page.keyboard.press("o")
    screen.until("window.retouch.doc.editing && !window.retouch.abort")
    first = screen.saved()
    page.locator("#legend button", has_text="hair").click()
    screen.drag((190, 140), (220, 150))
    screen.until("document.getElementById('status').textContent.startsWith('Rendered')")
    second = screen.saved()
    assert np.array_equal(second[~hole], before[~hole])
    assert (first[hole] != second[hole]).any()
    with page.expect_download() as download:
        page.locator("#saveLabels").click()
    labels = Image.open(download.value.path())
    assert labels.mode == "P"
    assert 13 in np.asarray(labels)
    edits = page.evaluate("window.retouch.doc.done.length")
    page.locator("#resetLabels").click()
    screen.until(f"window.retouch.doc.done.length > {edits} && !window.retouch.labels.rendering")
    assert np.array_equal(screen.saved(), first)
    page.locator("#labelFile").set_input_files(download.value.path())
    edits += 1
    screen.until(f"window.retouch.doc.done.length > {edits} && !window.retouch.labels.rendering")
    assert np.array_equal(screen.saved(), second)
    page.keyboard.press("o")
    assert not page.evaluate("Boolean(window.retouch.doc.editing)")


def test_a_map_is_taken_up_again_and_undone_after_the_end(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    page = screen.page
    page.locator("#network").select_option("semantic-tiny")
    screen.drag((180, 140), (230, 160))
    page.keyboard.press("o")
    screen.until("window.retouch.doc.editing && !window.retouch.abort")
    first = screen.saved()
    page.locator("#coarse").click()
    assert page.locator("#coarse").get_attribute("aria-pressed") == "true"
    page.keyboard.press(".")
    page.keyboard.press("r")
    screen.drag((150, 120), (260, 180))
    screen.until("window.retouch.doc.done.length === 3 && !window.retouch.labels.rendering")
    assert page.locator("#coarse").get_attribute("aria-pressed") == "false"
    second = screen.saved()
    assert (first != second).any()
    page.keyboard.press("f")  # ends
    assert not page.evaluate("Boolean(window.retouch.doc.editing)")
    page.keyboard.press("Control+z")
    screen.until("window.retouch.doc.editing && !window.retouch.labels.rendering")
    assert np.array_equal(screen.saved(), first)
    page.keyboard.press("Control+Shift+z")
    screen.until("!window.retouch.labels.rendering")
    assert np.array_equal(screen.saved(), second)
    page.keyboard.press("o")
    page.keyboard.press("o")  # the same map goes on
    assert page.evaluate("Boolean(window.retouch.doc.editing)")
    assert page.evaluate("window.retouch.doc.done.length") == 3
    assert page.evaluate("window.retouch.doc.patches.length") == 1
    page.locator("#language").select_option("de")
    assert page.locator("#legend button", has_text="Haar").is_visible()


def test_bucket_and_eyedropper(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address, scene())
    page = screen.page
    page.locator("#network").select_option("semantic-tiny")
    screen.drag((180, 140), (230, 160))
    hole = screen.masked()
    page.keyboard.press("o")
    screen.until("window.retouch.doc.editing && !window.retouch.abort")
    read = "(([x, y]) => window.retouch.doc.editing.plane.get(x, y))"
    rows, columns = np.nonzero(hole)
    far = [int(columns.max()) + 8, int(rows.max()) + 8]
    before = page.evaluate(read, far)
    page.evaluate("""() => { const {plane, box} = window.retouch.doc.editing;
        plane.begin();
        plane.write(box, plane.read(box).fill(1));
        plane.commit(); }""")
    page.locator("#legend button", has_text="nose").click()
    page.keyboard.press("k")
    screen.click(200, 148)
    screen.until("!window.retouch.labels.rendering")
    assert page.evaluate(read, [200, 148]) == 2
    assert page.evaluate(read, [215, 155]) == 2
    assert page.evaluate(read, far) == before  # labels stay near the hole
    page.locator("#legend button", has_text="hair").click()
    page.keyboard.press("y")
    screen.click(200, 148)
    assert page.evaluate("window.retouch.labels.value") == 2
