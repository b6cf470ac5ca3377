"""The weight store: recognising, copying and finding files."""

import hashlib
import re
from pathlib import Path

import pytest

from retouch.weights import named, store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETOUCH_WEIGHTS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> store.Entry:
    """A manifest of one entry whose content is b'abc'."""
    digest = hashlib.sha256(b"abc").hexdigest()
    files = (
        store.KnownFile(file="whole.pth", sha256=digest, source="here", bytes=3),
        store.KnownFile(file="short-88d4266f.pth", sha256="88d4266f", source="there"),
    )
    entry = store.Entry(name="thing", what="a test", licence="MIT", files=files)
    monkeypatch.setattr(store, "manifest", lambda: (entry,))
    return entry


def test_the_manifest_is_well_formed():
    names = [entry.name for entry in store.manifest()]
    assert len(set(names)) == len(names)
    for entry in store.manifest():
        assert entry.licence
        assert entry.what
        for file in entry.files:
            assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", file.sha256)
            assert file.source
            assert len(file.sha256) == 64 or file.sha256 in file.file


def test_add_recognises_by_content_and_path_finds_it(home: Path, known, tmp_path: Path):
    (tmp_path / "any-name").write_bytes(b"abc")
    entry, place = store.add(tmp_path / "any-name")
    assert (entry, place) == (known, home / "whole.pth")
    assert store.path("thing").read_bytes() == b"abc"
    assert store.add(place)[1] == place  # adding the store's own file is harmless
    assert [p.name for p in home.iterdir()] == ["whole.pth"]


def test_add_accepts_a_published_hash_prefix(home: Path, known, tmp_path: Path):
    assert hashlib.sha256(b"abcd").hexdigest().startswith("88d4266f")
    (tmp_path / "x").write_bytes(b"abcd")
    assert store.add(tmp_path / "x")[1] == home / "short-88d4266f.pth"


def test_add_refuses_strangers(home: Path, known, tmp_path: Path):
    (tmp_path / "x").write_bytes(b"stranger")
    with pytest.raises(store.StoreError, match=r"none of the files .* whole\.pth"):
        store.add(tmp_path / "x")
    assert not home.exists()


def test_a_missing_file_says_how_to_get_it(home: Path, known):
    with pytest.raises(store.MissingWeightsError) as caught:
        store.path("thing")
    for part in ("thing", "whole.pth (here)", "retouch weights add FILE", str(home)):
        assert part in str(caught.value)


def test_an_unknown_name_lists_the_known_ones(home: Path, known):
    with pytest.raises(store.StoreError, match="thing"):
        store.path("nothing")


def test_own_weights_are_found_by_stem(home: Path):
    home.mkdir()
    (home / "isnet-faces-256.safetensors").touch()
    assert store.path("isnet-faces-256") == home / "isnet-faces-256.safetensors"


def test_a_networks_name_means_its_most_general_weights_for_the_task(
    monkeypatch: pytest.MonkeyPatch,
):
    filling = {"semnet-faces": Path("f"), "semnet-scenes": Path("s"), "srpnet-facades": Path("a")}
    filling |= {"semantic-facades": Path("o"), "semantic-faces": Path("p")}
    sharpening = {"semnet-deblur": Path("d")}
    fits = {"": sharpening | filling, "inpaint": filling, "deblur": sharpening}
    monkeypatch.setattr(named, "available", lambda task="": fits[task])
    assert named.find("semnet") == Path("s")
    assert named.find("srpnet") == Path("a")
    assert named.find("semantic") == Path("p")
    assert named.find("semnet", "deblur") == Path("d")
    assert named.find("semnet-faces") == Path("f")
    assert named.find("semnet-deblur") == Path("d")
