"""Who may ask, and how much."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from retouch.web.sessions import ForgottenError, OverfullError, Shelf
from retouch.web.settings import Settings


@pytest.fixture
def client(tiny: Path, serve: Any) -> Iterator[httpx.Client]:
    with serve(Settings(network=tiny, max_upload=100_000)) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "["}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "own"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_only_our_own_page_may_ask(client: httpx.Client, headers: dict[str, str], status: int):
    if headers.get("Origin") == "own":
        headers = {"Origin": str(client.base_url).removesuffix("/api/v1/")}
    assert client.get("/health", headers=headers).status_code == status


def test_bodies_are_limited_whatever_their_header_says(client: httpx.Client):
    answer = client.post("/pictures", files={"image": b"x" * 200_000})
    assert answer.status_code == 413

    def chunks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(30):
            yield b"x" * 10_000

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/pictures", content=chunks(), headers=headers)
    assert answer.status_code == 413


def test_pixels_are_limited(tiny: Path, serve: Any):
    stream = io.BytesIO()
    Image.new("RGB", (200, 100)).save(stream, "PNG")
    settings = Settings(network=tiny, max_pixels=10_000)
    with serve(settings) as client:
        answer = client.post("/pictures", files={"image": stream.getvalue()})
    assert answer.status_code == 422
    assert "over the limit" in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b\r\n\r\n--b--",
        b"\xff" * 100,
        b"--b\r\nContent-Disposition: x\r\n\r\n--b--",
    ],
)
def test_broken_bodies_are_refused(client: httpx.Client, body: bytes):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for path in ("fill", "segment", "pictures", "sessions"):
        answer = client.post(f"/{path}", content=body, headers=headers)
        assert 400 <= answer.status_code < 500, (path, answer.status_code)


def test_the_page_may_load_nothing_from_elsewhere(client: httpx.Client):
    root = str(client.base_url).removesuffix("/api/v1/")
    answer = client.get(f"{root}/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    folder = Path(__file__).parents[2] / "src" / "retouch" / "web" / "static"
    for file in folder.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file
        assert "https://" not in text, file
    for path in ("/../settings.py", "/%2e%2e/settings.py", "/..%2fsettings.py"):
        assert client.get(root + path).status_code == 404


def test_other_binds_need_a_token(tiny: Path, serve: Any):
    with pytest.raises(ValueError, match="token"):
        Settings(host="0.0.0.0")
    settings = Settings(host="0.0.0.0", token="geheim", network=tiny)
    with serve(settings) as client:
        root = str(client.base_url).removesuffix("/api/v1/")
        assert client.get("/health").status_code == 401
        assert client.get(f"{root}/").status_code == 401
        assert client.get(f"{root}/?token=wrong").status_code == 401
        bearer = {"Authorization": "Bearer geheim"}
        assert client.get("/health", headers=bearer).status_code == 200
        named = {**bearer, "Host": "10.0.0.5:8480"}
        assert client.get("/health", headers=named).status_code == 200
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 421
        answer = client.get(f"{root}/?token=geheim", follow_redirects=False)
        assert answer.status_code == 303
        assert "httponly" in answer.headers["set-cookie"].lower()
        assert "samesite=strict" in answer.headers["set-cookie"].lower()
        assert client.get(f"{root}/").status_code == 200
        assert client.get("/health").status_code == 200


def test_a_shelf_forgets_what_is_idle_or_too_much():
    now = 0.0
    shelf = Shelf(memory=100, idle=10, clock=lambda: now)
    first, second = shelf.put("one", 40), shelf.put("two", 40)
    assert shelf.get(first, str) == "one"
    third = shelf.put("three", 40)  # the second was unused longest
    with pytest.raises(ForgottenError):
        shelf.get(second, str)
    with pytest.raises(ForgottenError):
        shelf.get(first, bytes)
    shelf.grow(third, 30)
    with pytest.raises(ForgottenError):
        shelf.get(first, str)
    assert shelf.cost == 70
    with pytest.raises(OverfullError):
        shelf.put("large", 101)
    now = 11.0
    shelf.sweep()
    assert len(shelf) == 0


def test_the_command_prints_where_it_is_and_serves_the_page_at_once(server: Any):
    assert httpx.get(server.address).status_code == 200
    evil = httpx.get(server.address, headers={"Host": "evil.example"})
    assert evil.status_code == 421
