"""The page's files, looked at without a browser."""

import gzip
import re
from pathlib import Path

import pytest

from retouch import segmentation
from retouch.web.app import STATIC

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


def test_the_whole_front_end_is_small():
    assert sum(len(gzip.compress(path.read_bytes())) for path in FILES) < 250_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_is_too_long(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
