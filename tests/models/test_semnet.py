"""SEM-Net against github.com/ChrisChen1023/SEM-Net @ 1a5dcd0, and by itself.

The golden holds weights of a network of 4 channels under their official names, as whole numbers and
exponents, and our float64 prediction and gradients for them, written after the full-width fixtures
agreed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from official_fixtures import relative_error
from retouch.critics import PatchCritic, patch_critic_from_official
from retouch.data.batch import Batch
from retouch.layers import rows, selective_scan
from retouch.layers.vgg import VGG19
from retouch.models import semnet
from retouch.models.semnet import (
    CARD,
    SEMNet,
    SEMNetConfig,
    SEMNetObjective,
    SEMNetObjectiveConfig,
    is_official,
)

GOLDEN = Path(__file__).parents[1] / "goldens" / "semnet.safetensors"
(IMPORTER,) = CARD.official.values()
GRADIENTS = (
    "encoder.0.blocks.0.smb.vertical.a_log",
    "latent.blocks.0.smb.horizontal.delta.weight",
    "decoder.2.blocks.0.sefn.fusion.weight",
    "embed.weight",
)


def golden_state() -> dict[str, Tensor]:
    with safe_open(GOLDEN, "pt") as file:
        exponents = json.loads(file.metadata()["exponents"])
        return {k: file.get_tensor(f"state.{k}") * 2.0**-e for k, e in exponents.items()}


def small(task: str = "inpaint") -> SEMNet:
    return SEMNet(SEMNetConfig(**{**CARD.small, "task": task})).eval()


def example(side: int = 32, count: int = 1) -> tuple[Tensor, Tensor]:
    mask = torch.zeros(count, 1, side, side + 16)
    mask[..., 6:20, 10:30] = 1
    return torch.rand(count, 3, side, side + 16), mask


@pytest.fixture(params=["kernels", "portable"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "kernels":
        pytest.importorskip("numba", reason="the CPU kernels need numba")
    else:
        monkeypatch.setattr(selective_scan, "_has_kernels", lambda: False)
    return request.param


# -- against the official code ----------------------------------------------------------------


def imported(state: dict[str, Tensor]) -> SEMNet:
    fields, ours = IMPORTER.convert(state)
    network = SEMNet(SEMNetConfig(**fields)).eval()
    network.load_state_dict(ours)
    return network


def official_inputs(recipe: Any, height: int, width: int) -> tuple[Tensor, Tensor]:
    image = torch.from_numpy(recipe.picture("image", height, width)).permute(2, 0, 1)[None]
    return image.float() / 255, torch.from_numpy(recipe.holes("mask", height, width))[None, None]


def test_reduced_network_matches_the_official_one(parity: Any, recipe: Any, form: str):
    network = imported(parity.official("semnet_reduced"))
    assert network.config == SEMNetConfig(channels=16, blocks=(1, 2, 1, 1))
    truth = load_file(parity.folder / "semnet_reduced.safetensors")
    taps: dict[str, Tensor] = {}
    block = network.encoder[0].get_submodule("blocks.0")
    block.get_submodule("smb").register_forward_hook(
        lambda _m, given, y: taps.update(smb=y - given[0])  # ours adds it at once
    )
    block.get_submodule("sefn").register_forward_hook(
        lambda _m, _i, y: taps.update(sefn=y.into().clone())
    )
    with torch.inference_mode():
        for height, width in ((64, 64), (32, 48)):
            prediction = network(*official_inputs(recipe, height, width))
            assert relative_error(prediction, truth[f"out_{height}x{width}.f64"]) < 2e-5
        # The position tables are float32 on both sides, but of two processors' sines.
        double = network.double()(*(t.double() for t in official_inputs(recipe, 32, 48)))
    assert relative_error(double, truth["out_32x48.f64"]) < 1e-6
    for name, tap in taps.items():
        assert relative_error(tap, truth[f"tap_{name}_32x48.f64"]) < 2e-5


@pytest.mark.parametrize("task", ["inpaint", "deblur"])
def test_stretches_and_strips_give_the_same(monkeypatch: pytest.MonkeyPatch, task: str):
    pytest.importorskip("numba", reason="the CPU kernels need numba")
    torch.manual_seed(0)
    network, (image, mask) = small(task), example(48, count=2)
    inputs = (image, mask) if task == "inpaint" else (image,)
    with torch.inference_mode():
        whole = network(*inputs)
        monkeypatch.setattr(semnet, "_STRETCH", 1 << 12)
        monkeypatch.setattr(rows, "_LARGE", 1 << 10)
        monkeypatch.setattr(rows, "_STRIP", 1 << 12)
        stretches: list[Any] = []
        snake = network.get_submodule("encoder.0.blocks.0.smb.vertical")
        snake.register_forward_pre_hook(lambda _m, given: stretches.append(given[1]))
        parts = network(*inputs)
    assert len(stretches) > 2
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_full_network_matches_the_official_one(parity: Any, recipe: Any):
    official = parity.official("semnet_full")
    assert (len(official), sum(v.numel() for v in official.values())) == (2390, 138_099_744)
    network = imported(official)
    assert network.config == SEMNetConfig()
    assert sum(p.numel() for p in network.parameters()) == 81_438_048
    truth = load_file(parity.folder / "semnet_full.safetensors")
    with torch.inference_mode():
        for height, width in ((64, 64), (48, 80)):
            prediction = network(*official_inputs(recipe, height, width))
            assert relative_error(prediction, truth[f"out_{height}x{width}.f64"]) < 2e-5


def test_gradients_match_the_official_ones(parity: Any, recipe: Any, form: str):
    official = parity.official("semnet_reduced")
    record = json.loads((parity.folder / "semnet_reduced_gradients.json").read_text())
    network = imported(official).train()
    image, mask = official_inputs(recipe, 32, 32)
    loss = (network(image, mask) - image).abs().mean() / mask.mean()
    loss.backward()
    assert abs(loss.item() - record["loss_float64"]) < 1e-6
    keys = list(official)  # each official tensor filled with its number tells where it went
    marked = {
        k: torch.full_like(v, i, dtype=torch.float64) for i, (k, v) in enumerate(official.items())
    }
    _, origin = IMPORTER.convert(marked)
    squares: dict[str, float] = {}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        key = keys[int(origin[name].flatten()[0])]
        squares[key] = squares.get(key, 0) + float(parameter.grad.double().square().sum())
    norms = record["grad_norm_float64"]
    assert {key for key, norm in norms.items() if norm is None} == set(keys) - set(squares)
    assert len(keys) - len(squares) == 193
    for key, square in squares.items():
        assert square**0.5 == pytest.approx(norms[key], rel=2e-5), key


def test_critic_matches_the_official_one(parity: Any, recipe: Any):
    shapes = json.loads((parity.folder / "semnet_dis.keys.json").read_text())
    official = {
        key: torch.from_numpy(recipe.seeded(key.replace("features.0.", "conv1.0."), shape))
        for key, shape in shapes.items()
    }
    critic = PatchCritic().eval()
    critic.load_state_dict(patch_critic_from_official(official))
    image, _ = official_inputs(recipe, 64, 64)
    with torch.inference_mode():
        logits = critic(image)
    for case, result in (("logits", logits), ("sigmoid", logits.sigmoid())):
        truth = load_file(parity.folder / f"semnet_dis_{case}.safetensors")
        assert relative_error(result, truth["out.f64"]) < 2e-5


def test_golden(form: str):
    golden = load_file(GOLDEN)
    network = imported(golden_state())
    image, mask = golden["image"].float() / 255, golden["mask"].float()
    prediction = network(image, mask)
    assert relative_error(prediction.detach(), golden["prediction"]) < 2e-5
    ((prediction - image).abs().mean() / mask.mean()).backward()
    for name, norm in zip(GRADIENTS, golden["gradients"], strict=True):
        gradient = network.get_parameter(name).grad
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(float(norm), rel=1e-4), name


# -- importing ----------------------------------------------------------------------------------


def test_dead_layers_are_dropped_and_unknown_ones_are_not():
    official = golden_state()
    dead = {
        "encoder_level1.0.ffn1.conv.0.weight": torch.zeros(4, 4, 3, 3),
        "latent.0.norm1_1.body.bias": torch.zeros(32),
        "refinement.0.attn.mamba.A_log": torch.zeros(16, 16),
        "output_before.weight": torch.zeros(4, 8, 3, 3),
        "down2_3.proj.weight": torch.zeros(16, 2, 3, 3),
    }
    assert is_official(official | dead)
    fields, ours = IMPORTER.convert(official | dead)
    assert fields == {"task": "inpaint", "channels": 4, "blocks": (1, 1, 1, 1)}
    network = SEMNet(SEMNetConfig(**fields))
    assert ours.keys() == network.state_dict().keys()
    _, ours = IMPORTER.convert(
        official | {"encoder_level1.0.ffn3.project_in.weight": torch.ones(1)}
    )
    with pytest.raises(RuntimeError, match=r"Unexpected key.*ffn3"):
        network.load_state_dict(ours)


def test_a_generator_of_three_channels_deblurs():
    official = golden_state()
    key = "patch_embed.gproj1.weight"
    fields, _ = IMPORTER.convert(official | {key: official[key][:, :3]})
    assert fields["task"] == "deblur"


def test_parameter_count():
    with torch.device("meta"):
        network = SEMNet()
    assert sum(p.numel() for p in network.parameters()) == 81_438_048


# -- tasks and checks ---------------------------------------------------------------------------


def test_deblurring_takes_a_picture_alone():
    network = small("deblur")
    image, mask = example()
    with torch.inference_mode():
        assert network(image).shape == image.shape
        with pytest.raises(ValueError, match="'deblur' got a mask"):
            network(image, mask)
        with pytest.raises(ValueError, match="'inpaint' got no mask"):
            small()(image)


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        small()(torch.rand(1, 3, 40, 32), torch.zeros(1, 1, 40, 32))


@pytest.mark.parametrize(
    "fields", [{"channels": 7}, {"channels": 0}, {"blocks": (1, 1, 1, 0)}, {"task": "dehaze"}]
)
def test_impossible_configs_are_refused(fields: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(fields))):
        SEMNetConfig(**fields)


def test_bfloat16_network_stays_close():
    network = small()
    image, mask = example()
    with torch.inference_mode():
        exact = network(image, mask)
        rough = network.bfloat16()(image.bfloat16(), mask.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert float((rough.float() - exact).abs().mean()) < 0.01


# -- objective ----------------------------------------------------------------------------------


def test_objective_by_hand():
    features = VGG19((4, 8, 16, 32, 32))
    objective = SEMNetObjective(SEMNetObjectiveConfig(), features).eval()
    image, mask = example(count=2)
    batch = Batch(image=image, mask=mask, hole_share=torch.tensor(0.25))
    made = (image + 0.1 * torch.rand_like(image)).requires_grad_()
    terms = objective.generator_terms(made, batch)
    assert list(terms) == ["reconstruction", "adversarial", "content", "style"]
    assert objective.config.weights == {
        "reconstruction": 1,
        "content": 0.1,
        "style": 250,
        "adversarial": 0.01,
    }
    critic = objective.critics["patch"]
    torch.testing.assert_close(terms["reconstruction"], (made - image).abs().mean() / 0.25)
    expected = (critic(made).sigmoid() - 1).square().mean()
    torch.testing.assert_close(terms["adversarial"], expected)
    # Style looks inside the hole only, content everywhere.
    (inside,) = torch.autograd.grad(terms["style"], made, retain_graph=True)
    assert float((inside * (1 - mask)).abs().max()) == 0
    (outside,) = torch.autograd.grad(terms["content"], made, retain_graph=True)
    assert float((outside * (1 - mask)).abs().max()) > 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in critic.parameters())
    (loss,) = objective.critic_terms(made, batch).values()
    halves = (critic(image).sigmoid() - 1).square().mean(), critic(made).sigmoid().square().mean()
    torch.testing.assert_close(loss, (halves[0] + halves[1]) / 2)


def test_deblurring_objective():
    objective = SEMNetObjective(SEMNetObjectiveConfig(task="deblur"))
    image, mask = example()
    share = mask.mean()
    network = small("deblur")
    batch = Batch(image=image, mask=mask, hole_share=share, source=image.flip(3))
    outputs = objective.predict(network, batch)
    torch.testing.assert_close(outputs, network(image.flip(3)))
    terms = objective.generator_terms(outputs, batch)
    assert terms.keys() == {"reconstruction"}
    torch.testing.assert_close(terms["reconstruction"], (outputs - image).abs().mean())
    assert objective.critic_terms(outputs, batch) == {}
    with pytest.raises(ValueError, match="pairs"):
        objective.predict(network, Batch(image=image, mask=mask, hole_share=share))


# -- compilers ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
def test_compiles_into_one_graph():
    pytest.importorskip("numba", reason="without its kernels the scan is unrolled for minutes")
    network = small()
    image, mask = example()
    compiled = torch.compile(network, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image, mask), network(image, mask))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_scans_with_scan_nodes(tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    network = small()
    image, mask = example()
    path = tmp_path / "semnet.onnx"
    torch.onnx.export(network, (image, mask), path, dynamo=True, verbose=False)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("Scan") == 3 * 2 * 7  # two levels and the carry, two snakes, seven blocks
    session = onnxruntime.InferenceSession(path)
    names = [value.name for value in session.get_inputs()]
    (result,) = session.run(None, dict(zip(names, (image.numpy(), mask.numpy()), strict=True)))
    with torch.inference_mode():
        expected = network(image, mask).numpy()
    assert np.abs(np.asarray(result) - expected).max() < 1 / 255 / 10


# -- learning -----------------------------------------------------------------------------------


def smooth_pictures(count: int, side: int) -> Tensor:
    """Pictures of soft colours and hard-edged discs."""
    coarse = torch.rand(count, 3, 5, 5)
    pictures = torch.nn.functional.interpolate(coarse, side, mode="bicubic", align_corners=True)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    for picture in pictures:
        for _ in range(4):
            cy, cx, radius = (torch.rand(3) * torch.tensor([side, side, side / 5])).tolist()
            picture[:, (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = torch.rand(3, 1)
    return pictures.clamp(0, 1)


def free_form_holes(count: int, side: int, share: float) -> Tensor:
    """Strokes of 5 px that wander until they cover the share."""
    masks = torch.zeros(count, 1, side, side)
    for mask in masks[:, 0]:
        place, angle = torch.rand(2) * side, torch.rand(1) * 2 * torch.pi
        while mask.mean() < share:
            angle += torch.randn(1) * 0.5
            place = (place + 2 * torch.cat([angle.sin(), angle.cos()])) % side
            row, column = (int(v) for v in place)
            mask[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = 1
    return masks


@pytest.mark.slow
def test_overfits_four_pictures(record_property):
    torch.manual_seed(0)
    image, mask = smooth_pictures(4, 64), free_form_holes(4, 64, 0.25)
    network = SEMNet(SEMNetConfig(channels=16, blocks=(1, 1, 1, 1)))
    objective = SEMNetObjective()
    batch = Batch(image=image, mask=mask, hole_share=mask.mean())
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=600)
    quality = 0.0
    for _ in range(600):
        outputs = objective.predict(network, batch)
        error = ((outputs.detach() - image).square() * mask).sum() / (3 * mask.sum())
        quality = -10 * float(error.log10())
        if quality > 28:
            break
        optimizer.zero_grad()
        objective.generator_terms(outputs, batch)["reconstruction"].backward()
        optimizer.step()
        schedule.step()
    record_property("psnr", quality)
    assert quality > 28


@pytest.mark.parametrize(("colours", "kept"), [(True, True), (False, False)])
def test_a_start_with_colours_shows_them(colours: bool, kept: bool):
    """Of the known picture's green against red and blue, the least of its variations."""
    torch.manual_seed(0)
    network = SEMNet(SEMNetConfig(channels=8, blocks=(1, 1, 1, 1), colours=colours)).eval()
    coarse = torch.rand(1, 1, 4, 4) + 0.15 * torch.randn(1, 3, 4, 4)
    image = torch.nn.functional.interpolate(coarse.clamp(0, 1), (32, 32), mode="bilinear")
    with torch.inference_mode():
        made = network(image, torch.zeros(1, 1, 32, 32))
    green = [x[0, 1] - (x[0, 0] + x[0, 2]) / 2 for x in (image, made)]
    alike = torch.corrcoef(torch.stack([x.flatten() for x in green]))[0, 1]
    assert (alike > 0.8) == kept


def test_colours_are_for_inpainting():
    with pytest.raises(ValueError, match="colours is for inpainting"):
        SEMNetConfig(task="deblur", colours=True)
