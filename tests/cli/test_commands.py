"""The command line as people type it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retouch import models
from retouch.weights import files


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from retouch.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of a tiny network."""
    torch.manual_seed(0)
    facts = models.card("dilated")
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = dict(facts.small)
    network = facts.model(facts.config(**config))
    files.save(path, files.Header(network="dilated", config=config), network.state_dict())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them broken, and their masks."""
    (tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:30] = True
    for name in ("a", "b", "c"):
        pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}_mask.png")
    broken = (tmp_path / "in" / "b.png").read_bytes()[:200]
    (tmp_path / "in" / "b.png").write_bytes(broken)
    return tmp_path


def test_help_leaves_torch_out():
    code = (
        "import sys\n"
        "from retouch.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'cv2', 'PIL', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "fill" in found.stdout


@pytest.mark.parametrize("command", ["fill", "masks", "models", "weights", "train", "evaluate"])
def test_every_command_explains_itself(command: str):
    found = run(command, "--help")
    assert found.returncode == 0
    assert "Usage: retouch" in found.stdout


def test_fill_one_picture(folder: Path, weights: Path):
    picture, mask = folder / "in" / "a.png", folder / "masks" / "a_mask.png"
    found = run("fill", picture, mask, "--weights", weights)
    assert found.returncode == 0, found.stderr
    before = np.asarray(Image.open(picture))
    after = np.asarray(Image.open(folder / "in" / "a_filled.png"))
    hole = np.asarray(Image.open(mask))
    assert np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).any()


def test_one_picture_goes_into_a_new_folder(folder: Path, weights: Path):
    picture, mask = folder / "in" / "a.png", folder / "masks" / "a_mask.png"
    found = run("fill", picture, mask, "--weights", weights, "-o", f"{folder / 'new'}/")
    assert found.returncode == 0, found.stderr
    assert [path.name for path in (folder / "new").iterdir()] == ["a.png"]


def test_deblur_writes_into_a_folder(folder: Path):
    facts = models.card("semnet")
    config = {**facts.small, "task": "deblur"}
    network = models.build("semnet", **config)
    weights = folder / "deblur.safetensors"
    files.save(weights, files.Header(network="semnet", config=config), network.state_dict())
    (folder / "out").mkdir()
    found = run("deblur", folder / "in" / "a.png", "-o", folder / "out", "--weights", weights)
    assert found.returncode == 0, found.stderr
    with Image.open(folder / "out" / "a.png") as sharp:
        assert sharp.size == (50, 40)


def test_fill_a_folder_lists_failures_and_goes_on(folder: Path, weights: Path):
    found = run("fill", folder / "in", folder / "masks", "-o", folder / "out", "--weights", weights)
    assert found.returncode == 1
    assert "2 of 3 pictures filled" in found.stdout
    assert "b.png" in found.stderr
    assert "Traceback" not in found.stderr
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["a.png", "c.png"]
    stamp = (folder / "out" / "a.png").stat().st_mtime_ns
    arguments = (folder / "in", folder / "masks", "-o", folder / "out", "--weights", weights)
    again = run("fill", *arguments, "--skip-existing")
    assert again.returncode == 1
    assert (folder / "out" / "a.png").stat().st_mtime_ns == stamp


def test_the_same_seed_gives_the_same_bytes(folder: Path, weights: Path):
    for name in ("one.png", "two.png"):
        arguments = ("fill", folder / "in" / "a.png", folder / "masks" / "a_mask.png")
        found = run(*arguments, "-o", folder / name, "--weights", weights, "--seed", "5")
        assert found.returncode == 0, found.stderr
    assert (folder / "one.png").read_bytes() == (folder / "two.png").read_bytes()


def test_a_transparent_part_is_the_hole_without_a_mask(tmp_path: Path, weights: Path):
    pixels = np.full((40, 40, 4), 120, np.uint8)
    pixels[..., 3] = 255
    pixels[10:20, 10:20] = 0
    Image.fromarray(pixels).save(tmp_path / "t.png")
    found = run("fill", tmp_path / "t.png", "--weights", weights)
    assert found.returncode == 0, found.stderr
    after = np.asarray(Image.open(tmp_path / "t_filled.png").convert("RGBA"))
    assert (after[10:20, 10:20, :3] != 0).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.png", "m.png"), "nowhere.png"),
        (("a.png", "nowhere.png"), "nowhere.png"),
        (("a.png", "large.png"), "--resize-mask"),
        (("a.png",), "a.png has no transparency"),
        (("a.png", "m.png", "--network", "lama"), "no weights and no network named 'lama'"),
        (("a.png", "m.png", "--dilate", "-1"), "dilate must be at least 0 px, got -1"),
        (("a.png", "m.png", "--device", "abacus"), "no device named 'abacus'"),
        (("a.png", "m.png", "--weights", "a.png"), "a.png is not a readable safetensors file"),
        (("a.png", "m.png", "-o", "nowhere/deep/x.xyz"), "xyz"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, weights: Path, arguments: tuple[str, ...], message: str
):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    mask = Image.new("1", (20, 20))
    mask.paste(1, (5, 5, 9, 9))
    mask.save(tmp_path / "m.png")
    mask.resize((40, 40)).save(tmp_path / "large.png")
    named = "--network" in arguments or "--weights" in arguments
    found = run("fill", *arguments, *(() if named else ("--weights", weights)), cwd=tmp_path)
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.part"))


def test_masks_are_seeded_and_keep_their_share(tmp_path: Path):
    for name in ("one", "two"):
        arguments = ("--kind", "share", "--share", "0.2", "0.3", "--count", "4", "--seed", "7")
        found = run("masks", tmp_path / name, *arguments)
        assert found.returncode == 0, found.stderr
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert all(0.2 < np.asarray(Image.open(p)).mean() <= 0.3 for p in first)
    assert run("masks", tmp_path / "x", "--kind", "share").returncode == 2


def test_models_lists_every_network():
    found = run("models")
    assert found.returncode == 0, found.stderr
    assert all(name in found.stdout for name in models.names())
