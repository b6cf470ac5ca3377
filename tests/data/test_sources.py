"""Folders, file lists and tar shards are read alike; what is broken is named."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retouch.data import sources
from retouch.data.batches import DataConfig, Sampler
from retouch.data.sources import DataError


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3)).astype("u1"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(4):
        picture(index).save(tmp_path / f"p{index}.png")
    Image.new("P", (50, 40), 3).save(tmp_path / "p1.label.png")
    return tmp_path


def shard(folder: Path) -> Path:
    path = folder / "s.tar"
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.glob("*.png")):
            data = file.read_bytes()
            member = tarfile.TarInfo(file.name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_all_kinds_of_source_give_the_same_pictures(folder: Path):
    tar = shard(folder)
    (folder / "list.flist").write_text("".join(f"p{i}.png\n" for i in range(4)))
    for kind in (folder, tar, folder / "list.flist", str(folder / "s*.tar")):
        found = sources.entries([kind])
        assert [entry.key for entry in found] == ["p0", "p1", "p2", "p3"]
        for index, decoded in enumerate(sources.decode_all(found)):
            assert np.array_equal(decoded, np.asarray(picture(index)))


def test_labels_belong_to_their_picture(folder: Path):
    for source in (folder, shard(folder)):
        found = {entry.key: entry.label for entry in sources.entries([source])}
        assert found["p1"] is not None
        assert found["p0"] is None


def test_folders_of_sharp_and_blurred_pictures_are_pairs(tmp_path: Path):
    for place in ("a_sharp", "a_blur", "b/sharp", "b/blur", "c/blur"):
        (tmp_path / place).mkdir(parents=True)
        picture(len(place)).save(tmp_path / place / "1.png")
    (tmp_path / "list.flist").write_text("b/sharp/1.png\nb/blur/1.png\n")
    found = {entry.key: entry.blurred for entry in sources.entries([tmp_path])}
    assert sorted(found) == ["1", "a/1", "b/1"]  # the last blurred one has no sharp twin
    assert found["1"] is None
    for key, place in (("a/1", "a_blur"), ("b/1", "b/blur")):
        twin = found[key]
        assert twin is not None
        assert twin.path == tmp_path / place / "1.png"
    assert [entry.key for entry in sources.entries([tmp_path / "list.flist"])] == ["b/1"]


def test_missing_and_empty_sources_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        sources.entries([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="holds no picture"):
        sources.entries([tmp_path])
    with pytest.raises(DataError, match="matches nothing"):
        sources.entries([str(tmp_path / "*.tar")])
    (tmp_path / "list.flist").write_text("a.png\nb.png\n")
    with pytest.raises(DataError, match=r"lists files that do not exist: .*a\.png, .*b\.png"):
        sources.entries([tmp_path / "list.flist"])
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match="not a readable tar file"):
        sources.entries([tmp_path / "x.tar"])


def test_broken_pictures_are_listed_together(folder: Path):
    for name in ("p0.png", "p2.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(DataError, match=r"p0 cannot be decoded.*p2 cannot be decoded"):
        sources.decode_all(sources.entries([folder]))


def test_the_split_depends_on_the_key_alone():
    found = [sources.Entry(f"k{i}", Path("x")) for i in range(400)]
    train, held = sources.split(found, part=0)
    again, held_again = sources.split(found[::-1], part=0)
    assert {e.key for e in held} == {e.key for e in held_again}
    assert len(train) == len(again)
    assert 5 < len(held) < 40


def test_a_batch_depends_on_seed_and_step_alone():
    pictures = [np.full((40, 50, 3), index, np.uint8) for index in range(7)]
    config = DataConfig(pictures=("x",), size=32, shares=(0.05, 0.6))
    first, second = (Sampler(pictures, [], config, seed=3) for _ in range(2))
    for step in range(5):
        first.batch(step, 4)
    a, b = first.batch(3, 4), second.batch(3, 4)
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.hole, b.hole)
    other = Sampler(pictures, [], config, seed=4)
    assert not np.array_equal(first.batch(3, 4).hole, other.batch(3, 4).hole)


def test_an_epoch_shows_every_picture_once_and_masks_keep_their_share():
    pictures = [np.full((40, 50, 3), index, np.uint8) for index in range(8)]
    config = DataConfig(pictures=("x",), size=32, shares=(0.1, 0.4), shrink=0.5)
    sampler = Sampler(pictures, [np.ones((64, 64), bool)], config, seed=0)
    seen = [sampler.sample(position) for position in range(8)]
    assert sorted(int(sample.image[0, 0, 0]) for sample in seen) == list(range(8))
    assert all(0.1 <= sample.hole.mean() <= 0.4 for sample in seen)
