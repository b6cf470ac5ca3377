"""Pairing, preparation and manifests."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streams import blocks, stream

from retouch.data.sources import DataError
from retouch.evaluation import pairs
from retouch.evaluation.pairs import EvaluationError, Manifest
from retouch.evaluation.protocols import LIU_BINS, PROTOCOLS, MaskRule, Preparation, bin_of

AS_IS = PROTOCOLS["retouch"].preparation


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Five pictures as a tar shard with a label map, two masks as a folder."""
    with tarfile.open(tmp_path / "test.tar", "w") as tar:
        for name in ("c", "a", "e", "b", "d"):
            content = io.BytesIO()
            Image.fromarray(blocks(ord(name), 40, 48)).save(content, "png")
            for member in (f"{name}.png", f"{name}.label.png"):
                info = tarfile.TarInfo(member)
                info.size = len(content.getvalue())
                tar.addfile(info, io.BytesIO(content.getvalue()))
    (tmp_path / "masks").mkdir()
    for number, name in enumerate(("z", "y")):
        mask = np.zeros((40, 48), dtype=np.uint8)
        mask[: 10 + 10 * number, :24] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def made(files: Path, **options) -> pairs.PairSet:
    return pairs.make([files / "test.tar"], [files / "masks"], AS_IS, **options)


def test_the_nth_picture_gets_mask_n_modulo_their_number(files: Path):
    found = made(files).manifest.pairs
    assert [pair.picture for pair in found] == ["a", "b", "c", "d", "e"]
    assert [pair.mask for pair in found] == ["y", "z", "y", "z", "y"]
    assert [pair.hole_share for pair in found[:2]] == [0.25, 0.125]


def test_pairs_are_decoded(files: Path):
    truth, mask = made(files).open(1)
    np.testing.assert_array_equal(truth, blocks(ord("b"), 40, 48))
    assert mask.dtype == bool
    assert mask.sum() == 240


def test_seeded_pairs_repeat(files: Path):
    first, again = made(files, seed=3), made(files, seed=3)
    assert first.manifest == again.manifest
    drawn = {tuple(p.mask for p in made(files, seed=s).manifest.pairs) for s in range(6)}
    assert len(drawn) > 1


def test_a_saved_manifest_gives_the_same_pairs(files: Path, tmp_path: Path):
    original = made(files, seed=1)
    original.manifest.save(tmp_path / "pairs.json")
    again = pairs.rebuild(tmp_path / "pairs.json", [files / "test.tar"], [files / "masks"], AS_IS)
    assert again.manifest == original.manifest
    assert again.manifest.sha256 == original.manifest.sha256
    short = pairs.rebuild(
        tmp_path / "pairs.json", [files / "test.tar"], [files / "masks"], AS_IS, limit=2
    )
    assert short.manifest.pairs == original.manifest.pairs[:2]


def test_changed_or_missing_files_are_noticed(files: Path, tmp_path: Path):
    manifest = tmp_path / "pairs.json"
    made(files).manifest.save(manifest)
    other = Preparation(side=32, mask=MaskRule(resize="nearest"))
    with pytest.raises(EvaluationError, match="was made for"):
        pairs.rebuild(manifest, [files / "test.tar"], [files / "masks"], other)
    Image.fromarray(np.full((40, 48), 255, np.uint8)).save(files / "masks" / "z.png")
    with pytest.raises(EvaluationError, match="mask z is not the file"):
        pairs.rebuild(manifest, [files / "test.tar"], [files / "masks"], AS_IS)
    (files / "masks" / "z.png").unlink()
    with pytest.raises(EvaluationError, match="asks for mask z"):
        pairs.rebuild(manifest, [files / "test.tar"], [files / "masks"], AS_IS)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', '{"format": 1, "pairs": 2}'])
def test_other_json_is_no_manifest(text: str):
    with pytest.raises(EvaluationError, match=r"m\.json is not a manifest"):
        Manifest.from_json(text, "m.json")


def test_names_that_occur_twice_are_refused(files: Path):
    with pytest.raises(EvaluationError, match="5 picture names occur more than once"):
        pairs.make([files / "test.tar", files / "test.tar"], [files / "masks"], AS_IS)


def test_masks_of_another_size_are_refused_or_resized(files: Path):
    Image.fromarray(np.full((20, 24), 255, np.uint8)).save(files / "masks" / "y.png")
    with pytest.raises(EvaluationError, match="mask y is 24x20 px, its picture 48x40"):
        made(files)
    rule = Preparation(mask=MaskRule(resize="nearest"))
    found = pairs.make([files / "test.tar"], [files / "masks"], rule)
    assert found.manifest.pairs[0].hole_share == 1


def test_broken_files_are_named(files: Path):
    (files / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="bad cannot be decoded"):
        pairs.make([files / "bad.png"], [files / "masks"], AS_IS)
    Image.fromarray(blocks(1, 40, 48)).save(files / "good.png")
    with pytest.raises(DataError, match="bad cannot be decoded"):
        pairs.make([files / "good.png"], [files / "bad.png"], AS_IS)


def test_mask_rules_threshold_as_they_say(tmp_path: Path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "m.png")
    Image.fromarray(blocks(1, 16, 16)).save(tmp_path / "p.png")
    shares = {"from-128": 128, "nonzero": 255, "all-255": 1}
    for rule, count in shares.items():
        preparation = Preparation(mask=MaskRule(hole=rule))  # pyright: ignore[reportArgumentType]
        found = pairs.make([tmp_path / "p.png"], [tmp_path / "m.png"], preparation)
        assert found.open(0)[1].sum() == count, rule


def test_preparation_crops_and_resizes():
    picture = np.floor(stream(1, 30, 50, 3) * 256).astype(np.uint8)
    same = pairs.prepare_picture(picture, Preparation())
    assert same is picture
    cropped = pairs.prepare_picture(picture, Preparation(crop=True, side=30))
    np.testing.assert_array_equal(cropped, picture[:, 10:40])
    assert pairs.prepare_picture(picture, Preparation(side=16)).shape == (16, 16, 3)


def test_the_centre_square_has_a_quarter_of_the_area(files: Path):
    found = pairs.make([files / "test.tar"], None, AS_IS)
    mask = found.open(0)[1]
    assert mask[10:30, 12:36].all()
    assert mask.mean() == found.manifest.pairs[0].hole_share == 0.25
    assert json.loads(found.manifest.to_json())["pairs"][0]["mask"] == "centre-square"


@pytest.mark.parametrize(
    ("share", "name"),
    [(0.009, "other"), (0.01, "1-10 %"), (0.1, "1-10 %"), (0.1001, "10-20 %"), (0.6, "50-60 %")],
)
def test_bins_are_open_below_and_closed_above(share: float, name: str):
    assert bin_of(share, LIU_BINS) == name
    assert bin_of(0.7, LIU_BINS) == "other"


def test_every_protocol_is_complete():
    from retouch.evaluation.metrics import Column

    for name, protocol in PROTOCOLS.items():
        assert name == protocol.name
        for text in (*protocol.columns, *protocol.sets):
            assert str(Column.parse(text)) == text
