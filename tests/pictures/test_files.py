"""Listing folders and pairing pictures with masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from retouch.pictures import PictureError, find, pair


def _make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_pictures_are_found_by_extension_in_order(tmp_path: Path):
    _make(tmp_path, "b.JPG", "a.png", "notes.txt", ".hidden.png", "._a.png", "c.webp", "deep/d.tif")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find(tmp_path)] == ["a.png", "b.JPG", "c.webp"]
    assert [path.name for path in find(tmp_path, recursive=True)][-1] == "d.tif"


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(PictureError, match="no such folder"):
        find(tmp_path / "missing")


def test_masks_pair_by_stem_and_suffix(tmp_path: Path):
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    _make(pictures, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    _make(masks, "a.png", "b_mask.png", "c.png", "c_mask.png", "x.png")
    result = pair(pictures, masks)
    assert [(a.name, b.name) for a, b in result.pairs] == [
        ("a.jpg", "a.png"),
        ("b.jpg", "b_mask.png"),
    ]
    assert len(result.problems) == 3
    assert "c.jpg: it has 2 masks (c.png, c_mask.png)" in result.problems[0]
    assert "d.jpg: it has no mask" in result.problems[1]
    assert "x.png: this mask has no picture" in result.problems[2]


def test_one_mask_serves_all(tmp_path: Path):
    _make(tmp_path, "p/a.jpg", "p/b.jpg", "hole.png")
    result = pair(tmp_path / "p", tmp_path / "hole.png")
    assert [(a.name, b.name) for a, b in result.pairs] == [
        ("a.jpg", "hole.png"),
        ("b.jpg", "hole.png"),
    ]
    assert not result.problems


def test_pictures_and_masks_may_share_a_folder(tmp_path: Path):
    _make(tmp_path, "a.jpg", "a_mask.png", "b.jpg", "b_mask.png", "gas_mask.jpg")
    result = pair(tmp_path, tmp_path)
    assert [(a.name, b.name) for a, b in result.pairs] == [
        ("a.jpg", "a_mask.png"),
        ("b.jpg", "b_mask.png"),
    ]
    assert len(result.problems) == 1
    assert "gas_mask.jpg: it has no mask" in result.problems[0]


def test_single_files_and_lists_pair(tmp_path: Path):
    _make(tmp_path, "a.jpg", "other.png", "a_mask.png")
    result = pair(tmp_path / "a.jpg", tmp_path / "other.png")
    assert result.pairs == ((tmp_path / "a.jpg", tmp_path / "other.png"),)
    result = pair([tmp_path / "a.jpg"], [tmp_path / "a_mask.png"])
    assert result.pairs == ((tmp_path / "a.jpg", tmp_path / "a_mask.png"),)
