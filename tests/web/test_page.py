"""The page's files, looked at without a browser."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest

from retouch import segmentation
from retouch.web.page import STATIC
from retouch.web.settings import Settings

FILES = sorted(path for path in STATIC.iterdir() if path.is_file())


def _strings(language: str) -> dict[str, str]:
    text = (STATIC / "strings.js").read_text(encoding="utf-8")
    block = re.search(rf"^  {language}: \{{\n(.*?)^  \}},$", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    return dict(re.findall(r'(\w+): "((?:[^"\\]|\\.)*)"', block[1]))


def test_languages_say_the_same_things():
    english, german = _strings("en"), _strings("de")
    assert english.keys() == german.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", german[key])), key


def test_every_text_of_the_page_exists():
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    scripts = "".join(path.read_text(encoding="utf-8") for path in STATIC.glob("*.js"))
    used = set(re.findall(r'data-[tl]="(\w+)"', page)) | set(re.findall(r'\bt\("(\w+)"', scripts))
    used |= set(re.findall(r'\bsay\("(\w+)"', scripts))
    assert used <= _strings("en").keys()


@pytest.mark.parametrize("name", segmentation.LABEL_SETS)
def test_every_class_has_a_german_name(name: str):
    text = (STATIC / "strings.js").read_text(encoding="utf-8")
    table = text[text.index("const CLASSES") :]
    for label in segmentation.label_set(name).names:
        assert re.search(rf'(?:"{label}"|\b{label}): "', table), label


def test_the_page_loads_nothing_from_elsewhere():
    for path in FILES:
        found = re.findall(r"https?://[^\s\"'`)]+", path.read_text(encoding="utf-8"))
        assert set(found) <= {"http://www.w3.org/2000/svg"}, path.name


def test_every_script_is_fetched_at_once():
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    fetched = set(re.findall(r'(?:modulepreload" href|module" src)="([^"]+)"', page))
    assert fetched == {path.name for path in STATIC.glob("*.js")}


def test_files_come_packed_once_and_not_again(serve: Any):
    with serve(Settings()) as client:
        first = client.get("http://" + client.base_url.netloc.decode() + "/")
        assert first.headers["content-encoding"] == "gzip"
        assert first.text == (STATIC / "index.html").read_text(encoding="utf-8")
        known = {"If-None-Match": first.headers["etag"]}
        assert client.get(first.url, headers=known).status_code == 304
        plain = client.get(first.url, headers={"Accept-Encoding": "identity"})
        assert plain.text == first.text
        assert "content-encoding" not in plain.headers
        assert client.post(first.url).status_code == 405
        assert client.get(first.url.join("/../page.py")).status_code == 404


def test_the_whole_front_end_is_small():
    assert sum(len(gzip.compress(path.read_bytes())) for path in FILES) < 250_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_is_too_long(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
