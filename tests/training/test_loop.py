"""Training runs, stops, goes on exactly where it was, and says what is wrong with a recipe."""

from pathlib import Path

import pytest
import torch
from tiny_runs import losses, tiny

from retouch import models, recipe
from retouch.recipe import RecipeError
from retouch.training import checkpoint
from retouch.training.config import TrainConfig
from retouch.training.ema import EMA
from retouch.training.loop import Run, TrainingError
from retouch.weights import files

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def test_a_run_leaves_all_that_it_should(pictures: Path, tmp_path: Path):
    Run(tiny(pictures), tmp_path, "cpu").fit()
    rows = losses(tmp_path)
    assert {"hole", "known", "adversarial"} <= set(rows[0])
    assert "critic" not in rows[0]
    assert "critic" in rows[-2]
    header, _ = files.load(tmp_path / "last.safetensors")
    assert header.name == "dilated-test"
    assert list((tmp_path / "sheets").glob("*.png"))
    again = recipe.load(tmp_path / "recipe.toml", TrainConfig)
    assert again == tiny(pictures)


@pytest.mark.parametrize("order", ["critic-first", "simultaneous"])
def test_a_stopped_run_goes_on_as_if_it_had_not(pictures: Path, tmp_path: Path, order: str):
    optim = {"warmup": 2, "critic_from": 3, "order": order}
    Run(tiny(pictures, optim=optim), tmp_path / "whole", "cpu").fit()
    stopped = Run(tiny(pictures, optim=optim), tmp_path / "parts", "cpu")
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(stopped, 6)
    Run(tiny(pictures, optim=optim), tmp_path / "parts", "cpu").fit()
    whole, parts = (checkpoint.latest(tmp_path / n / "checkpoints") for n in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    torch.testing.assert_close(whole, parts, rtol=0, atol=0)
    assert losses(tmp_path / "whole")[-1] == losses(tmp_path / "parts")[-1]


def interrupt_after(run: Run, steps: int) -> None:
    step = run._train_step

    def limited(batch: object) -> object:
        if run.step == steps:
            raise KeyboardInterrupt
        return step(batch)  # pyright: ignore[reportArgumentType]

    run._train_step = limited  # pyright: ignore[reportAttributeAccessIssue]
    run.fit()


def test_a_run_learns_from_a_teacher(pictures: Path, tmp_path: Path):
    Run(tiny(pictures, steps=1), tmp_path / "teacher", "cpu").fit()
    file = str(tmp_path / "teacher" / "last.safetensors")
    alone = Run(tiny(pictures, seed=1), tmp_path / "alone", "cpu")
    led = Run(tiny(pictures, seed=1, teacher=file), tmp_path / "led", "cpu")
    alone.fit()
    led.fit()
    first, other = losses(tmp_path / "alone")[0], losses(tmp_path / "led")[0]
    assert first["known"] == other["known"]
    assert first["hole"] != other["hole"]
    assert led.learner.teacher is not None
    _, teacher = files.load(Path(file))
    torch.testing.assert_close(led.learner.teacher.state_dict(), teacher.state_dict())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": "nobody"}, "teacher: no weights and no network named 'nobody'"),
        ({"teacher": "x", "network": "isnet", "model": {}}, "teacher needs objective_of"),
    ],
)
def test_a_teacher_that_cannot_teach_is_named(
    given: dict[str, str], message: str, pictures: Path, tmp_path: Path
):
    with pytest.raises(TrainingError, match=message):
        Run(tiny(pictures, **given, objective={}), tmp_path, "cpu")


def test_a_teacher_must_be_a_default_network(pictures: Path, tmp_path: Path):
    other = models.build("isnet", **models.card("isnet").small)
    header = files.Header(network="isnet", config=recipe.plain(other.config), name="isnet-x")
    files.save(tmp_path / "isnet.safetensors", header, other.state_dict())
    with pytest.raises(TrainingError, match="teacher must be of network dilated, got isnet"):
        Run(tiny(pictures, teacher=str(tmp_path / "isnet.safetensors")), tmp_path, "cpu")


def test_a_loss_that_is_not_finite_stops_the_run(pictures: Path, tmp_path: Path):
    run = Run(tiny(pictures, optim={"lr": 1e30, "clip": 0}), tmp_path, "cpu")
    with pytest.raises(TrainingError, match=r"not finite; the last checkpoint"):
        run.fit()


def test_checkpoints_are_whole_and_the_last_three_are_kept(tmp_path: Path):
    for step in range(1, 7):
        checkpoint.save(tmp_path, step, {"step": step})
    assert len(list(tmp_path.iterdir())) == checkpoint.KEEP
    found = checkpoint.latest(tmp_path)
    assert found == {"step": 6}

    class Stubborn:
        def __reduce__(self) -> str:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tmp_path, 7, {"step": Stubborn()})
    assert checkpoint.latest(tmp_path) == {"step": 6}
    assert not list(tmp_path.glob("*.part"))


def test_ema_follows_at_its_decay():
    network = torch.nn.Linear(2, 2)
    ema = EMA(network, 0.9)
    before = ema.network.state_dict()["weight"].clone()
    with torch.no_grad():
        network.weight += 1
    ema.update(network, step=10_000)
    torch.testing.assert_close(ema.network.state_dict()["weight"], before + 0.1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses(path: Path):
    assert recipe.load(path, TrainConfig).steps > 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stepz = 3", "stepz"),
        ("steps = '3'", "expected int, got '3'"),
        ("steps = -3", "steps must be positive, got -3"),
        ("network = 5", "expected str, got 5"),
        ("optim.lr = 0", "lr must be positive, got 0"),
        ("data.size = 3", "size must be at least 16, got 3"),
        ("steps = ", "not TOML"),
        ("precision = 'fp8'", "precision"),
    ],
)
def test_a_wrong_recipe_is_named_with_its_key(line: str, message: str):
    with pytest.raises(RecipeError, match=message):
        recipe.load(RECIPES[0], TrainConfig, [line])


def test_gradient_descent_decays_matrices_alone(pictures: Path, tmp_path: Path):
    optim = {"kind": "sgd", "lr": 1e-3, "momentum": 0.5, "weight_decay": 0.1, "warmup": 0}
    run = Run(tiny(pictures, optim=optim, steps=1, ema=0.0), tmp_path, "cpu")
    optimizer = run.learner.optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    kinds = {p.ndim > 1: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert kinds == {True: 0.1, False: 0}
    assert {group["momentum"] for group in optimizer.param_groups} == {0.5}
    before = {key: p.detach().clone() for key, p in run.learner.network.named_parameters()}
    run.fit()
    assert any(not torch.equal(p, before[k]) for k, p in run.learner.network.named_parameters())


def test_dilated_convolutions_of_any_width_have_gradients_in_bf16(pictures: Path, tmp_path: Path):
    model = {"width": 24, "residual_blocks": 0}
    config = tiny(pictures, network="srpnet", model=model, objective={"critic_width": 4})
    learner = Run(config, tmp_path, "cpu").learner
    conv = learner.network.get_submodule("attend.0.convs.1")
    x = torch.rand(4, 24, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        conv(x.requires_grad_()).sum().backward()
    for gradient in (x.grad, *(parameter.grad for parameter in conv.parameters())):
        assert gradient is not None
        assert gradient.isfinite().all()
