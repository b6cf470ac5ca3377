"""Opening and saving, in a real browser."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

pytestmark = [
    pytest.mark.browser,
    # Playwright's own loop is left open at exit; that is not ours to mend.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def test_16_bits_and_a_format_that_no_browser_shows(server: Any, open_page: Any):
    before = np.random.default_rng(0).integers(0, 1 << 16, (200, 300, 3), dtype=np.uint16)
    stream = io.BytesIO()
    tifffile.imwrite(stream, before, photometric="rgb")
    screen = open_page(server.address)
    screen.give(stream.getvalue(), "deep.tif")
    screen.drag((100, 100), (150, 110))
    hole = screen.masked()
    screen.fill()
    path = screen.download(lambda: screen.page.keyboard.press("Control+s"))
    after = tifffile.imread(path)
    assert after.dtype == np.uint16
    assert np.array_equal(after[~hole], before[~hole])
    assert (after[hole] != before[hole]).any()


def test_metadata_comes_back(server: Any, open_page: Any, scene: Any):
    exif = Image.Exif()
    exif[0x010E] = "a meadow"
    exif[0x0112] = 6  # the camera was held upright
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "JPEG", quality=90, exif=exif)
    screen = open_page(server.address)
    screen.give(stream.getvalue(), "turned.jpg")
    assert screen.page.evaluate("window.retouch.doc.width") == 300
    screen.drag((100, 100), (150, 110))
    screen.fill()
    path = screen.download(lambda: screen.page.keyboard.press("Control+s"))
    with Image.open(path) as saved:
        assert saved.format == "JPEG"
        assert saved.getexif()[0x010E] == "a meadow"


_HAND_OVER = """([kind, name, base64]) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, {type: "image/png"}));
    const given = kind === "paste" ? {clipboardData: data} : {dataTransfer: data};
    const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
    document.dispatchEvent(new Kind(kind, {bubbles: true, cancelable: true, ...given}));
}"""


def test_dropped_and_pasted_pictures_open(server: Any, open_page: Any, scene: Any):
    screen = open_page(server.address)
    views = []
    screen.page.on("request", lambda sent: views.append(sent.url) if "/view" in sent.url else None)
    for kind in ("drop", "paste"):
        given = base64.b64encode(png(scene())).decode()
        screen.page.evaluate(_HAND_OVER, [kind, f"{kind}ed.png", given])
        screen.until(f"window.retouch.doc?.name === '{kind}ed.png'")
        screen.until("window.retouch.doc.key")
    assert screen.page.locator("#strip button").count() == 2
    assert not views  # the browser shows these by itself


def test_the_picture_is_copied_and_saved_without_the_masked_part(
    server: Any, open_page: Any, scene: Any
):
    before = scene()
    screen = open_page(server.address, before, permissions=["clipboard-read", "clipboard-write"])
    page = screen.page
    screen.drag((100, 100), (150, 110))
    hole = screen.masked()
    with Image.open(screen.download(page.locator("#saveMasked").click)) as image:
        masked = np.asarray(image)
    assert masked.shape == (300, 400, 4)
    assert np.array_equal(masked[..., 3] == 0, hole)
    assert np.array_equal(masked[~hole, :3], before[~hole])
    page.locator("#copy").click()
    screen.until("document.getElementById('status').textContent === 'Copied'")
    kinds = page.evaluate("navigator.clipboard.read().then((items) => items[0].types)")
    assert kinds == ["image/png"]


def test_a_folder_is_opened_in_the_page(server: Any, open_page: Any, scene: Any, tmp_path: Path):
    for name in ("b10.png", "b9.png"):
        (tmp_path / name).write_bytes(png(scene()))
    (tmp_path / "notes.txt").write_text("no picture")
    screen = open_page(server.address)
    page = screen.page
    page.locator("#folder").set_input_files(tmp_path)
    screen.until("window.retouch.doc?.name === 'b9.png'")
    assert page.locator("#strip button").count() == 2
    page.locator("#next").click()
    screen.until("window.retouch.doc.name === 'b10.png'")
    assert page.locator("#next").is_disabled()
    screen.until("document.querySelectorAll('#strip canvas').length === 2")


def test_a_folder_is_a_strip_and_saves_itself(
    launch: Any, tmp_path: Path, open_page: Any, scene: Any
):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.png").write_bytes(png(scene()))
    screen = open_page(launch(tmp_path / "in").address)
    page = screen.page
    screen.until("window.retouch.doc")
    assert page.locator("#strip button").count() == 2
    screen.drag((100, 100), (150, 110))
    screen.fill()
    page.keyboard.press("PageDown")
    screen.until("window.retouch.doc.name === 'b.png'")
    assert [path.name for path in (tmp_path / "in_filled").iterdir()] == ["a.png"]
    screen.drag((100, 100), (150, 110))
    screen.fill()
    assert page.locator("#strip .unsaved").count() == 1
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", {get: () => true});
        document.dispatchEvent(new Event("visibilitychange"));
    }""")  # as if the person went to another tab
    screen.until("!window.retouch.doc.isUnsaved && !window.retouch.abort")
    assert sorted(path.name for path in (tmp_path / "in_filled").iterdir()) == ["a.png", "b.png"]
