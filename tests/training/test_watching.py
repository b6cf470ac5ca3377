"""What a run tells: logs, sheets, dry runs, comparisons, the command line."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
import torch
from PIL import Image
from rich.console import Console
from tiny_runs import losses, tiny

from retouch import recipe
from retouch.cli.train import train
from retouch.data.batch import Batch
from retouch.models.structure import StructureOutputs
from retouch.recipe import RecipeError
from retouch.training import curves, journal, schedule, sheet
from retouch.training.errors import TrainingError
from retouch.training.loop import Run
from retouch.training.rehearsal import rehearse
from retouch.training.view import View, blocks


@pytest.fixture(scope="module")
def runs(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short runs that differ in one entry."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("one", 0), ("two", 1)):
        Run(tiny(pictures, seed=seed, steps=4, validate_every=2), folder / name, "cpu").fit()
    return folder


def test_a_dry_run_measures_and_writes_nothing(pictures: Path, mask_files: Path, tmp_path: Path):
    config = tiny(pictures)
    data = replace(config.data, masks=(str(mask_files),), test_pictures=(str(pictures),))
    run = Run(replace(config, data=data), tmp_path / "run", "cpu", resume=False)
    found = rehearse(run)
    assert found.counts["masks"] == 3
    assert found.counts["training"] + found.counts["validation"] <= 24
    assert len(found.overlaps["test"]) == found.counts["training"]
    network = sum(p.numel() for p in run.learner.network.parameters())
    assert found.parameters["network"] == network
    assert found.memory["gradients and Adam"] == 12 * (network + found.parameters["critics"])
    assert found.memory["activations"] > 2 * 3 * 32 * 32 * 4
    assert found.step > 0
    assert {"hole", "critic"} <= set(found.terms)
    assert not (tmp_path / "run").exists()


def test_runs_are_compared(runs: Path, tmp_path: Path):
    found = curves.find([runs])
    assert [run.label for run in found] == ["one", "two"]
    assert found[1].differences(found[0]) == ["seed = 1"]
    assert found[0].step == 4
    for suffix in ("png", "svg"):
        drawn = curves.plot(found, tmp_path / f"curves.{suffix}")
        assert drawn[0] == "validation psnr_rgb"
        assert (tmp_path / f"curves.{suffix}").stat().st_size > 1000
    assert curves.plot(found, tmp_path / "one.svg", ["hole"]) == ["hole"]
    with pytest.raises(TrainingError, match=r"no curve \['nothing'\]; there are"):
        curves.plot(found, tmp_path / "x.png", ["nothing"])
    with pytest.raises(TrainingError, match=r"must end in \.png or \.svg"):
        curves.plot(found, tmp_path / "x.gif")
    with pytest.raises(TrainingError, match="no run in"):
        curves.find([tmp_path])


def test_runs_of_an_older_version_are_compared(runs: Path, tmp_path: Path):
    for name in ("one", "two"):
        shutil.copytree(runs / name, tmp_path / name)
    written = (tmp_path / "two" / "recipe.toml").read_text()
    (tmp_path / "two" / "recipe.toml").write_text("forgotten = 2.2\n" + written)
    found = curves.find([tmp_path])
    assert found[1].differences(found[0]) == ["forgotten = 2.2", "seed = 1"]


def test_a_log_forgets_what_comes_again(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    rows = [{"step": step, "hole": float(step)} for step in range(1, 7)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 7, "ho')
    seen: list[dict[str, float]] = []
    written = journal.Journal(tmp_path, 4, tensorboard=False, watch=seen.append)
    written.write({"step": 5, "hole": 0.5})
    assert [row["step"] for row in journal.read(log)] == [1, 2, 3, 4, 5]
    assert seen == [{"step": 5, "hole": 0.5}]


def test_tensorboard_events_are_written(tmp_path: Path):
    written = journal.Journal(tmp_path, 0)
    written.write({"step": 1, "hole": 0.5})
    Image.new("RGB", (4, 4)).save(tmp_path / "s.png")
    written.picture("sheet", tmp_path / "s.png", 1)
    written.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_the_live_view_shows_terms_and_their_course(pictures: Path):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with View(tiny(pictures), console) as view:
        for step in range(1, 9):
            view({"step": step, "hole": 1 / step})
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "dilated-test" in text
    assert "0.125" in text
    assert blocks([0, 1, float("nan"), 2]) == "▁▅ █"
    assert blocks([float("nan")]) == " "


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_sheets_show_what_the_network_says_beside_its_picture(tmp_path: Path):
    image, mask = torch.rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    batch = Batch(image=image, mask=mask, hole_share=mask.mean())
    sheet.write(tmp_path / "plain.png", batch, image)
    assert size_of(tmp_path / "plain.png") == (5 * 16, 2 * 16)
    images = tuple(torch.rand(2, 3, 16 // s, 16 // s) for s in (4, 2, 1))
    gradients = tuple(torch.randn(2, 6, 16 // s, 16 // s) for s in (4, 2, 1))
    outputs = StructureOutputs(images=images, gradients=gradients)
    sheet.write(tmp_path / "side.png", batch, image, outputs)
    assert size_of(tmp_path / "side.png") == (11 * 16, 2 * 16)
    labelled = replace(batch, labels=torch.zeros(2, 16, 16, dtype=torch.long), source=image)
    sheet.write(tmp_path / "labels.png", labelled, image)
    assert size_of(tmp_path / "labels.png") == (4 * 16, 2 * 16)


def test_rates_warm_up_drop_and_fall(pictures: Path):
    optim = {"warmup": 10, "drops": [20, 40], "drop_factor": 0.1, "decay_from": 0.5}
    config = tiny(pictures, steps=100, optim=optim | {"decay_to": 0.0})
    found = [schedule.rate(step, config) for step in (0, 9, 19, 20, 40, 50, 75, 99)]
    assert found == pytest.approx([0.1, 1, 1, 0.1, 0.01, 0.01, 0.005, 0.0002], rel=0.03)
    power = tiny(
        pictures, steps=100, optim={"warmup": 0, "decay_from": 0.0, "decay_to": 0.0, "power": 0.9}
    )
    assert [schedule.rate(step, power) for step in (0, 50, 100)] == pytest.approx([1, 0.5**0.9, 0])
    constant = tiny(pictures, steps=100, optim={"warmup": 0, "decay_from": 1.0})
    assert {schedule.rate(step, constant) for step in range(100)} == {1.0}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from retouch.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_commands_work_together(pictures: Path, tmp_path: Path):
    listed = run("data", "list", pictures, "-o", tmp_path / "all.flist")
    assert listed.stdout == f"24 pictures in {tmp_path / 'all.flist'}\n", listed.stderr
    path = tmp_path / "r.toml"
    path.write_text(tomli_w.dumps(recipe.plain(tiny(tmp_path / "all.flist", steps=2))))
    trained = run("train", path, "-o", tmp_path / "runs" / "a", "--device", "cpu")
    assert trained.returncode == 0, trained.stderr
    assert losses(tmp_path / "runs" / "a")
    compared = run("runs", tmp_path / "runs", "-o", tmp_path / "c.svg", "-c", "hole")
    assert "2 of 2" in compared.stdout, compared.stderr
    assert (tmp_path / "c.svg").is_file()


WRONG = (
    ('network="lama"', "network must be one of dilated, "),
    ("model.depth=3", "r.toml: model: no depth; there are channels, "),
    ("objective.weights.color=1.0", "objective.weights has no ['color']; there are hole, "),
    ('validate=["beauty"]', "no metric 'beauty'; there are psnr_rgb"),
    ("validate=[]", "validate must name a measure"),
    ('data.pictures=["nowhere"]', "r.toml: data.pictures: nowhere does not exist"),
    ('data.pictures="photos"', "expected a list, got 'photos' @ $.data.pictures"),
    ('data.masks=["x/*.tar"]', "r.toml: data.masks: x/*.tar matches nothing"),
    ('data.crop="middle"', "expected one of random, centre, squash, got 'middle'"),
    ('features="vgg"', "r.toml: features: no weights named 'vgg'; the manifest lists"),
    ('init="x.safetensors"', "r.toml: init: weight file x.safetensors does not exist"),
    ("optim.rate=1.0", "no rate; there are kind, momentum, lr, critic_lr, "),
    ('optim="adam"', "expected a table @ $.optim"),
)


@pytest.mark.parametrize(("line", "said"), WRONG)
def test_mistakes_name_file_key_and_what_is_allowed(
    line: str, said: str, pictures: Path, tmp_path: Path
):
    path = tmp_path / "r.toml"
    path.write_text(tomli_w.dumps(recipe.plain(tiny(pictures, steps=2))))
    with pytest.raises(RecipeError) as caught:
        train(path, overrides=(line,), output=tmp_path / "x", device="cpu", plain=True)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_mistakes_end_in_one_line(pictures: Path, tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text(tomli_w.dumps(recipe.plain(tiny(pictures, steps=2))))
    done = run("train", path, "-o", tmp_path / "x", "-s", 'features="vgg"', "--device", "cpu")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"retouch: {path}: features: no weights named 'vgg'")
