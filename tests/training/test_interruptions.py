"""Killed, out of disk, diverging: a run ends in one clear line or goes on exactly where it was."""

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from tiny_runs import losses, tiny

from retouch import recipe
from retouch.models._srpnet_colours import start_colours
from retouch.models.srpnet import SRPNet, SRPNetConfig
from retouch.training import building, checkpoint
from retouch.training.errors import TrainingError
from retouch.training.loop import Run
from retouch.weights import files

# Forking from a process that has imported everything makes a restart cost milliseconds.
CHILD = """
import os, sys, time
from pathlib import Path
import torch
from retouch import recipe
from retouch.training.config import TrainConfig
from retouch.training.loop import Run
import retouch.models.dilated
torch.set_num_threads(1)
config = recipe.load(Path(sys.argv[1]), TrainConfig)
for line in sys.stdin:  # each line starts one child, which the test kills
    child = os.fork()
    if child == 0:
        Run(config, Path(sys.argv[2]), "cpu").fit()
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print("done" if status == 0 else "killed", flush=True)
"""


def kill_and_resume(pictures: Path, folder: Path, kills: int, steps: int) -> None:
    """Kill a run at random moments until it has ended, and compare it with one left alone."""
    more = {"steps": steps, "validate_every": 2, "log_every": 1}
    config = tiny(pictures, **more)
    started = time.perf_counter()
    Run(config, folder / "whole", "cpu").fit()
    length = time.perf_counter() - started
    (folder / "r.toml").write_text(tomli_w.dumps(recipe.plain(config)))
    command = [sys.executable, "-c", CHILD, str(folder / "r.toml"), str(folder / "parts")]
    rng = random.Random(0)
    killed = 0
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        ended = False
        while not ended:
            parent.stdin.write("go\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            if killed < kills:
                time.sleep(rng.uniform(0, 2.0 * length / kills))
                with contextlib.suppress(ProcessLookupError):  # it was faster
                    os.kill(child, signal.SIGKILL)
            ended = parent.stdout.readline().strip() == "done"
            killed += not ended
            if ended and killed < kills:  # too early: once more from the start
                ended = False
                for path in (folder / "parts" / "checkpoints").glob("step-*.pt"):
                    path.unlink()
        parent.stdin.close()
    assert killed == kills
    for name in ("last", "best"):
        whole, parts = (load_file(folder / n / f"{name}.safetensors") for n in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole), name
    assert losses(folder / "whole") == losses(folder / "parts")
    assert not list((folder / "parts").rglob("*.part"))


def test_three_kills_change_nothing(pictures: Path, tmp_path: Path):
    kill_and_resume(pictures, tmp_path, kills=3, steps=12)


@pytest.mark.slow
def test_twenty_kills_change_nothing(pictures: Path, tmp_path: Path):
    kill_and_resume(pictures, tmp_path, kills=20, steps=60)


FULL = """
import resource, signal, sys
from pathlib import Path
from retouch import recipe
from retouch.training.config import TrainConfig
from retouch.training.loop import Run, TrainingError
config = recipe.load(Path(sys.argv[1]), TrainConfig)
run = Run(config, Path(sys.argv[2]), "cpu")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    run.fit()
except TrainingError as error:
    print(error)
"""


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(pictures: Path, tmp_path: Path):
    path, folder = tmp_path / "r.toml", tmp_path / "run"
    path.write_text(tomli_w.dumps(recipe.plain(tiny(pictures, steps=4))))
    Run(tiny(pictures, steps=4), folder, "cpu").fit()
    path.write_text(tomli_w.dumps(recipe.plain(tiny(pictures, steps=8))))
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(folder), "20000"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "the disk is full" in done.stdout, done.stderr
    assert "is usable" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert found["step"] == 4
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    run = Run(tiny(pictures, steps=8), folder, "cpu")
    assert run.step == 4


def test_a_run_that_becomes_much_worse_stops_and_keeps_the_best(pictures: Path, tmp_path: Path):
    run = Run(tiny(pictures, steps=8, validate_every=1), tmp_path, "cpu")
    values = iter([20.0, 21.0, 10.0, 21.5, 12.0, 11.0, 10.0])
    run.validation.run = lambda *_: {"psnr_rgb": next(values)}  # pyright: ignore
    with pytest.raises(TrainingError, match=r"step 6: psnr_rgb 11 is worse than the best, 21\.5"):
        run.fit()
    assert (tmp_path / "best.safetensors").is_file()
    assert run.best == 21.5


def test_the_best_weights_are_those_of_the_named_measure(pictures: Path, tmp_path: Path):
    run = Run(
        tiny(pictures, validate=["l1_percent", "psnr_rgb.hole"], validate_every=2), tmp_path, "cpu"
    )
    run.fit()
    rows = [row for row in losses(tmp_path) if "validation l1_percent" in row]
    assert len(rows) == 4
    assert all("validation psnr_rgb.hole" in row for row in rows)
    assert run.best is not None
    assert round(run.best, 5) == min(row["validation l1_percent"] for row in rows)


def test_another_recipe_cannot_go_on_with_a_run(pictures: Path, tmp_path: Path):
    Run(tiny(pictures), tmp_path, "cpu").fit()
    with pytest.raises(TrainingError, match="is of another recipe"):
        Run(tiny(pictures, model={"channels": [8, 8, 8]}), tmp_path, "cpu")


def test_a_run_starts_from_a_weight_file(pictures: Path, tmp_path: Path):
    Run(tiny(pictures, ema=0.0), tmp_path / "first", "cpu").fit()
    path = tmp_path / "first" / "last.safetensors"
    run = Run(tiny(pictures, init=str(path)), tmp_path / "second", "cpu")
    state, first = run.learner.network.state_dict(), load_file(path)
    assert all(torch.equal(state[key], value) for key, value in first.items())
    with pytest.raises(TrainingError, match="does not fit"):
        Run(tiny(pictures, init=str(path), model={"channels": [8, 8, 8]}), tmp_path / "x", "cpu")
    raw = {"network": "semantic", "objective": {"stage": "coarse"}, "init": str(path)}
    with pytest.raises(TrainingError, match=r"init .* \(dilated\) does not fit"):
        Run(tiny(pictures, **raw, model={"channels": 4, "espa": False}), tmp_path / "y", "cpu")


def test_a_second_stage_starts_from_the_first(pictures: Path, tmp_path: Path):
    model = {"channels": 4, "hidden": 8, "espa": False}
    coarse = {"network": "semantic", "ema": 0.0, "objective": {"stage": "coarse"}}
    Run(tiny(pictures, **coarse, model=model | {"guided": False}), tmp_path / "1", "cpu").fit()
    path = tmp_path / "1" / "last.safetensors"
    data = {"pictures": [str(pictures)], "size": 32, "validation": 2, "labels": True}
    fine = {"objective": {"stage": "fine", "critic_channels": 4}, "init": str(path), "data": data}
    run = Run(tiny(pictures, **(coarse | fine), model=model), tmp_path / "2", "cpu")
    run.fit()
    first = load_file(path)
    state = run.learner.network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in first.items())
    assert any(not key.startswith("encoder") for key in state)


def test_weights_for_other_labels_start_all_but_what_reads_maps(pictures: Path, tmp_path: Path):
    model = {"channels": 4, "hidden": 8, "espa": False}
    fine = {"network": "semantic", "ema": 0.0, "objective": {"stage": "fine", "critic_channels": 4}}
    data = {"pictures": [str(pictures)], "size": 32, "validation": 2, "labels": True}
    first = Run(tiny(pictures, **fine, data=data, model=model), tmp_path / "1", "cpu")
    first.fit()
    path = str(tmp_path / "1" / "last.safetensors")
    street = tiny(pictures, **fine, data=data, init=path, model=model | {"labels": "street"})
    old, new = load_file(path), Run(street, tmp_path / "2", "cpu").learner.network.state_dict()
    others = {key for key in old if old[key].shape != new[key].shape}
    assert others
    assert all(".shared." in key for key in others)
    assert all(torch.equal(new[key], old[key]) for key in old.keys() - others)
    wider = tiny(
        pictures, **fine, data=data, init=path, model=model | {"labels": "street", "hidden": 12}
    )
    with pytest.raises(TrainingError, match="does not fit"):
        Run(wider, tmp_path / "3", "cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": "bisenet", "model": {"channels": 4}}, "learned from label maps"),
        (
            {
                "network": "semnet",
                "model": {"task": "deblur", "channels": 4, "blocks": [1, 1, 1, 1]},
                "objective": {"task": "deblur"},
            },
            "deblurring needs pairs",
        ),
        (
            {
                "network": "semantic",
                "model": {"channels": 4, "guided": False, "espa": False},
                "objective": {"stage": "fine"},
            },
            "needs a network with guided = true",
        ),
    ],
    ids=["labels", "pairs", "stage"],
)
def test_what_a_network_refuses_is_one_line(
    change: dict[str, object], said: str, pictures: Path, tmp_path: Path
):
    config = tiny(pictures, **({"objective": {}} | change))
    with pytest.raises(TrainingError, match=said):
        Run(config, tmp_path, "cpu").fit()


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_ends_a_run_with_a_checkpoint_of_its_step(
    pictures: Path, tmp_path: Path, number: int, end: type[BaseException]
):
    config = tiny(pictures, steps=6, validate_every=6, log_every=1)
    Run(config, tmp_path / "whole", "cpu").fit()

    def send(row: dict[str, float]) -> None:
        if row["step"] == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(end):
        Run(config, tmp_path / "parts", "cpu", send).fit()
    assert signal.getsignal(number) is before
    (last,) = (tmp_path / "parts" / "checkpoints").glob("step-*.pt")
    assert 2 <= int(last.stem.removeprefix("step-")) <= 3
    Run(config, tmp_path / "parts", "cpu").fit()
    whole, parts = (load_file(tmp_path / n / "last.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


@pytest.mark.parametrize("before", [False, True])
def test_weights_that_a_recipe_begins_with_get_colours_once(
    before: bool, pictures: Path, tmp_path: Path
):
    path, config = tmp_path / "first.safetensors", {"width": 8}
    first = SRPNet(SRPNetConfig(width=8, colours=before))
    header = files.Header(network="srpnet", config=config | {"colours": before}, name="first")
    files.save(path, header, first.state_dict())
    model = config | {"colours": True}
    begun = building.network(tiny(pictures, network="srpnet", init=str(path), model=model))
    same = [torch.equal(v, begun.state_dict()[k]) for k, v in first.state_dict().items()]
    assert all(same) == before
    if not before:
        start_colours(first.state_dict())
        for key, value in first.state_dict().items():
            assert torch.equal(value, begun.state_dict()[key])
