"""Samples: crops, label maps, blurred twins, caches and lists."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retouch import recipe
from retouch.data import blur, crops, sources
from retouch.data.batches import Sampler
from retouch.data.config import BlurConfig, DataConfig
from retouch.data.decoded import Decoded, fingerprint, overlap
from retouch.data.sources import DataError
from retouch.training import material
from retouch.training.config import TrainConfig

CONFIG = DataConfig(pictures=("x",), size=32)


def ramp(h: int, w: int) -> np.ndarray:
    """A picture whose pixels tell where they are."""
    rows, columns = np.mgrid[:h, :w]
    return np.stack([rows, columns, rows * 0 + 7], axis=2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(4):
        pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p{index}.png")
        Image.fromarray(pixels[..., 0] // 32).save(tmp_path / f"p{index}.label.png")
        Image.fromarray(255 - pixels).save(tmp_path / f"p{index}.blur.png")
    return tmp_path


def test_a_label_map_is_cut_where_its_picture_is(folder: Path):
    found = sources.entries([folder])
    config = replace(CONFIG, labels=True, shrink=0.0)
    pictures = Decoded(found)
    labels = Decoded(found, sources.decode_labels)
    blurred = Decoded(found, sources.decode_blurred)
    sampler = Sampler(pictures, [], config, 0, labels=labels, blurred=blurred)
    for position in range(12):
        sample = sampler.sample(position)
        assert sample.labels is not None
        assert np.array_equal(sample.labels, sample.image[..., 0] // 32)
        assert sample.source is not None
        assert np.array_equal(sample.source, 255 - sample.image)


def test_left_and_right_change_places_in_mirrored_label_maps():
    labels = np.zeros((40, 40), np.uint8)
    labels[:, :20] = 1
    mirror = np.arange(256, dtype=np.uint8)
    mirror[[1, 2]] = [2, 1]
    picture = np.repeat(labels[..., None], 3, axis=2)
    config = replace(CONFIG, crop="squash", labels=True)
    sampler = Sampler([picture], [], config, 0, labels=[labels], mirror=mirror)
    seen = {sampler.sample(p).labels.tobytes() for p in range(20)}  # pyright: ignore
    assert len(seen) == 2
    for position in range(20):
        sample = sampler.sample(position)
        assert sample.labels is not None
        flipped = sample.image[0, 0, 0] == 0
        assert set(np.unique(sample.labels)) == ({0, 2} if flipped else {0, 1})


def test_crops_are_what_their_names_say():
    picture = ramp(60, 90)
    rng = np.random.default_rng(0)
    centre = crops.plan(rng, (60, 90), replace(CONFIG, crop="centre", size=60, flip=False))
    assert np.array_equal(centre.cut(picture, "area"), picture[:, 15:75])
    squash = crops.plan(rng, (60, 90), replace(CONFIG, crop="squash", flip=False))
    assert squash.cut(picture, "bilinear").shape == (32, 32, 3)
    for _ in range(20):
        crop = crops.plan(rng, (60, 90), CONFIG)
        cut = crop.cut(picture, "area")
        cut = cut[:, ::-1] if crop.flip else cut
        top, left = cut[0, 0, :2]
        assert np.array_equal(cut, picture[top : top + 32, left : left + 32])


def test_a_batch_may_share_its_mask():
    pictures = [ramp(40, 40)] * 5
    config = replace(CONFIG, one_mask_per_batch=True)
    sampler = Sampler(pictures, [], config, 0)
    first, second = sampler.batch(0, 4), sampler.batch(1, 4)
    assert (first.hole == first.hole[:1]).all()
    assert not np.array_equal(first.hole[0], second.hole[0])


def test_colors_are_jittered_a_little():
    picture = ramp(40, 40) + 60
    config = replace(CONFIG, jitter=0.05, crop="squash", flip=False, size=40)
    image = Sampler([picture], [], config, 0).sample(0).image
    assert not np.array_equal(image, picture)
    assert np.abs(image.astype(int) - picture).mean() < 20


def test_small_memory_decodes_at_each_use(folder: Path):
    found = sources.entries([folder])
    kept, lazy = Decoded(found), Decoded(found, budget=0)
    assert len(kept.kept) == 4
    assert not lazy.kept
    assert all(np.array_equal(a, b) for a, b in zip(kept, lazy, strict=True))
    assert kept.fingerprints == lazy.fingerprints


def test_overlap_is_found_by_content_whatever_the_file(folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    Image.open(folder / "p2.png").save(other / "renamed.bmp")
    first, second = sources.entries([folder / "p2.png"]), sources.entries([other])
    marks = [
        [(e.key, m) for e, m in zip(s, Decoded(s).fingerprints, strict=True)]
        for s in (first, second)
    ]
    assert overlap(*marks) == [("p2", "renamed")]
    assert fingerprint(np.zeros((2, 3, 3), np.uint8)) != fingerprint(np.zeros((3, 2, 3), np.uint8))


def test_a_written_list_gives_the_same_pictures(folder: Path, tmp_path: Path):
    path = tmp_path / "lists" / "all.flist"
    assert sources.write_list([folder], path) == 4
    found, listed = sources.entries([folder]), sources.entries([path])
    assert [e.key for e in found] == [e.key for e in listed]
    assert all(e.label and e.blurred for e in listed)
    with pytest.raises(DataError, match="does not exist"):
        sources.write_list([folder / "nowhere"], path)


def test_shards_are_fetched_from_urls_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Image.fromarray(ramp(20, 20)).save(tmp_path / "a.png")
    with fsspec.open("memory://there/a.png", "wb") as file:
        file.write((tmp_path / "a.png").read_bytes())  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(2):
        (entry,) = sources.entries(["memory://there/a.png"])
        assert np.array_equal(sources.decode(entry), ramp(20, 20))
        fsspec.filesystem("memory").store.clear()
    with pytest.raises(DataError, match="cannot be fetched"):
        sources.entries(["memory://there/nothing.tar"])


def test_missing_label_maps_are_listed_at_once(folder: Path):
    (folder / "p1.label.png").unlink()
    (folder / "p3.label.png").unlink()
    with pytest.raises(DataError, match=r"p1 has no label map .*; .*p3 has no label map"):
        Decoded(sources.entries([folder]), sources.decode_labels)


@pytest.mark.parametrize("seed", range(6))
def test_blur_kernels_are_shares_of_time_within_their_extent(seed: int):
    rng = np.random.default_rng(seed)
    path = blur.trajectory(rng, 15.0)
    assert np.ptp(path, axis=0).max() == pytest.approx(15)
    kernel = blur.kernel(path)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() >= 0
    rows, columns = np.nonzero(kernel > 0)
    assert max(np.ptp(rows), np.ptp(columns)) <= 17
    centre = np.array(kernel.shape) // 2
    mean = [float((kernel.sum(1 - axis) * np.arange(kernel.shape[axis])).sum()) for axis in (0, 1)]
    assert mean == pytest.approx(list(centre), abs=1e-3)


def test_blur_softens_and_depends_on_the_seed_alone():
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    config = BlurConfig(noise=(0.0, 0.0))
    first, second = (blur.shaken(np.random.default_rng(3), picture, config) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.std() < 0.6 * picture.std()
    still = blur.shaken(np.random.default_rng(0), np.full((9, 9, 3), 99, np.uint8), config)
    assert (still == 99).all()


def test_blur_carries_light_into_the_crop_from_beyond():
    picture = np.full((60, 60, 3), 255, np.uint8)
    picture[20:40, 20:40] = 0
    shake = BlurConfig(extent=(19.0, 19.0), noise=(0.0, 0.0))
    config = replace(CONFIG, size=20, crop="centre", blur=shake)
    sample = Sampler([picture], [], config, seed=0).sample(0)
    assert sample.source is not None
    assert sample.source.shape == sample.image.shape == (20, 20, 3)
    assert not sample.image.any()
    assert sample.source.any()


def test_a_share_of_the_pictures_loses_its_colour():
    sampler = Sampler([ramp(40, 40)], [], replace(CONFIG, grey=0.5), seed=0)
    images = [sampler.sample(position).image for position in range(40)]
    grey = [bool((image == image[..., :1]).all()) for image in images]
    assert 10 < sum(grey) < 30


def test_pictures_are_left_out_by_name(tmp_path: Path):
    for index in range(6):
        Image.new("RGB", (64, 64), (index, 0, 0)).save(tmp_path / f"{'ab'[index % 2]}{index}.png")
    data = {"pictures": [str(tmp_path)], "size": 32, "leave_out": ["a*"]}
    raw = {"network": "dilated", "name": "dilated-x"}
    config = recipe.structure(raw | {"data": data}, TrainConfig, where="test")
    assert sum(material.read(config).counts.values()) == 3
    for patterns, said in ((["c*"], r"c\* matches no picture"), (["*"], "leaves no picture")):
        changed = recipe.structure(
            raw | {"data": data | {"leave_out": patterns}}, TrainConfig, where="test"
        )
        with pytest.raises(DataError, match=said):
            material.read(changed)
