"""Pictures at addresses: read, paired, filled and written as files are."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retouch import models
from retouch.pictures import PictureError
from retouch.pipeline import places
from retouch.pipeline.batch import Job, ReadOptions, fill_all, undone
from retouch.pipeline.inpainter import Inpainter
from retouch.weights.files import Header, save

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def root() -> str:
    """A folder in memory with pictures a, b (broken), c and their masks."""
    system = fsspec.filesystem("memory")
    if system.exists("/retouch"):
        system.rm("/retouch", recursive=True)
    rng = np.random.default_rng(0)
    for name in "abc":
        picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3)).astype(np.uint8))
        mask = Image.new("1", (50, 40))
        mask.paste(1, (10, 10, 30, 20))
        for kind, image in ((f"in/{name}.png", picture), (f"masks/{name}_mask.png", mask)):
            file = io.BytesIO()
            image.save(file, "PNG")
            data = file.getvalue()
            system.pipe(f"/retouch/{kind}", data[:200] if kind == "in/b.png" else data)
    return "memory://retouch"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    facts = models.card("dilated")
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    network = facts.model(facts.config(**facts.small))
    save(path, Header(network="dilated", config=dict(facts.small)), network.state_dict())
    return path


def opened(address: str) -> np.ndarray:
    with fsspec.open(address, "rb") as file:
        return np.asarray(Image.open(file).convert("RGB"))


def test_the_command_fills_a_folder_in_memory(
    root: str, weights: Path, capsys: pytest.CaptureFixture[str]
):
    from retouch.cli.fill import fill

    with pytest.raises(SystemExit) as stopped:
        fill(f"{root}/in", f"{root}/masks", output=f"{root}/out", weights=weights)
    assert stopped.value.code == 1
    told = capsys.readouterr()
    assert "2 of 3 pictures filled" in told.out
    assert "memory://retouch/in/b.png: " in told.err
    assert "/tmp" not in told.err
    names = [places.name_of(found) for found in places.contents(f"{root}/out")]
    assert [name for name in names if not name.startswith(".")] == ["a.png", "c.png"]
    before, after = opened(f"{root}/in/a.png"), opened(f"{root}/out/a.png")
    hole = opened(f"{root}/masks/a_mask.png")[..., 0] > 0
    assert np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).any()


def test_addresses_and_files_mix(root: str, weights: Path, tmp_path: Path):
    inpainter = Inpainter.load(weights)
    job = Job(
        picture=f"{root}/in/a.png", mask=f"{root}/masks/a_mask.png", output=tmp_path / "a.png"
    )
    (outcome,) = fill_all(inpainter, [job])
    assert outcome.written == tmp_path / "a.png"
    back = Job(picture=tmp_path / "a.png", mask=job.mask, output=f"{root}/deep/er/a.jpg")
    (outcome,) = fill_all(inpainter, [back], reading=ReadOptions(lossless=True))
    assert outcome.written == f"{root}/deep/er/a.png"
    assert opened(f"{root}/deep/er/a.png").shape == (40, 50, 3)


def test_what_is_done_is_left_out(root: str):
    jobs = [Job(picture="x", mask=None, output=f"{root}/in/{name}") for name in ("a.png", "d.png")]
    assert [job.output for job in undone(jobs, ReadOptions())] == [f"{root}/in/d.png"]
    lossy = [Job(picture="x", mask=None, output=f"{root}/in/a.jpg")]
    assert undone(lossy, ReadOptions()) == lossy
    assert undone(lossy, ReadOptions(lossless=True)) == []


def test_drafts_are_swept(root: str, tmp_path: Path):
    for folder in (root, tmp_path):
        place = places.inside(folder, ".retouch-r1")
        if isinstance(place, Path):
            (place / "x").mkdir(parents=True)
        else:
            fsspec.filesystem("memory").pipe("/retouch/.retouch-r1/x.png", b"half")
        places.sweep(folder, "r1")
        assert ".retouch-r1" not in [places.name_of(found) for found in places.contents(folder)]


def test_mistakes_are_named(root: str, weights: Path):
    with pytest.raises(PictureError, match=r"memory://retouch/none\.png: there is no such file"):
        places.at_hand(f"{root}/none.png").__enter__()
    with pytest.raises(PictureError, match="nowhere://x/y"):
        places.is_folder("nowhere://x/y")
    with pytest.raises(PictureError, match="there is no such folder"):
        places.find(f"{root}/none")


def test_one_mask_may_serve_all(root: str):
    found = places.find(f"{root}/in")
    pairs, problems = places.pair(found, f"{root}/masks/a_mask.png")
    assert len(pairs) == 3
    assert not problems
    pairs, problems = places.pair(found[:2], f"{root}/masks")
    assert [places.name_of(mask) for _, mask in pairs] == ["a_mask.png", "b_mask.png"]
    assert "c_mask.png" in problems[0]
