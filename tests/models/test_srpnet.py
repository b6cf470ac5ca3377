"""SRPNet by itself, and PEN-Net against researchmm/PEN-Net-for-Inpainting @ 8721a55.

The golden holds float64 outputs of our reduced networks, and the official names and shapes of
PEN-Net's weights; the weights are a formula. It was written by `goldens/make_isnet_srpnet.py` after
the full-width fixtures agreed.
"""

import io
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from official_fixtures import count, formula
from retouch.critics import wide_critic_from_official
from retouch.data.batch import Batch
from retouch.data.masks import with_share
from retouch.models import srpnet
from retouch.models._srpnet_colours import start_colours
from retouch.models.srpnet import (
    CARD,
    PENNET,
    PENNET_OBJECTIVE,
    Attention,
    Pyramid,
    SRPNet,
    SRPNetConfig,
    SRPNetObjective,
    SRPNetObjectiveConfig,
    attention_transfer,
)
from retouch.weights import files

GOLDEN = Path(__file__).parents[1] / "goldens" / "srpnet.safetensors"
(IMPORTER,) = CARD.official.values()
SMALL = SRPNetConfig(**CARD.small)


def imported(official: dict[str, Tensor]) -> SRPNet:
    assert IMPORTER.recognise(official)
    fields, state = IMPORTER.convert(official)
    network = SRPNet(SRPNetConfig(**fields))
    network.load_state_dict(state)
    return network.eval()


def example(height: int = 64, width: int = 128) -> tuple[Tensor, Tensor]:
    """Picture and hole from formulas, float64."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    wave = [torch.sin(x / (4.0 + c) + y / (9.0 - c)) for c in range(3)]
    image = (torch.stack(wave) / 2 + 0.5).double()[None]
    mask = ((x - 30) ** 2 / 160 + (y - 25) ** 2 / 90 < 1).double()[None, None]
    return image, mask


# -- against the official code ----------------------------------------------------------------


def test_pennet_matches_the_official_network(parity):
    official = parity.official("pennet")
    assert len(official) == 68
    network = imported(official)
    assert network.config == PENNET
    with safe_open(parity.folder / "pennet.safetensors", "pt") as truth:
        for height, width, dense in ((64, 64, False), (128, 192, False), (64, 64, True)):
            name, share = ("mask", 0.3) if dense else ("pennet/mask", 0.12)
            image = parity.picture("image", height=height, width=width)
            mask = parity.holes(name, height=height, width=width, share=share)
            with torch.inference_mode():
                found = network.pyramid(image, mask)
            case = f"{height}x{width}{'_dense' if dense else ''}"
            oracle = truth.get_tensor(f"out_{case}.f64")
            assert parity.error(found.prediction * 2 - 1, oracle) < 2e-5
            for level, coarse in enumerate(() if dense else found.coarse, start=1):
                oracle = truth.get_tensor(f"pyramid{level}_{case}.f64")
                assert parity.error(coarse * 2 - 1, oracle) < 2e-5


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_attention_matches_the_official_layer(parity, kernel: int, graph: bool):
    low = torch.from_numpy(parity.recipe.normal("attention/low", (2, 16, 24, 32))).float()
    high = torch.from_numpy(parity.recipe.normal("attention/high", (2, 24, 12, 16))).float()
    high = high * np.float32(0.3)
    mask = parity.holes("attention/mask0", "attention/mask1", height=96, width=128)
    layer = Attention(16, kernel, refined=kernel == 3)
    if kernel == 3:
        layer.load_state_dict(
            {
                key.replace("atn.conv0", "convs.").replace(".0.", ".", 1): value
                for key, value in parity.official("attention_transfer").items()
            }
        )
    with (
        safe_open(parity.folder / "attention_transfer.safetensors", "pt") as truth,
        torch.set_grad_enabled(graph),
    ):
        whole = layer(low, high, mask)
        low, high, mask = low[:1], high[:1], mask[:1]
        none = layer(low, high, torch.zeros_like(mask))
        everything = layer(low, high, torch.ones_like(mask))
        for name, found in (("mask", whole), ("nomask", none), ("allhole", everything)):
            oracle = truth.get_tensor(f"k{kernel}_{name}.f64")
            assert parity.error(found.detach(), oracle) < 2e-5, name


@pytest.mark.parametrize("kind", ["hinge", "nsgan"])
def test_losses_match_the_official_training_step(parity, kind: Any):
    numbers = parity.json("pennet_losses.json")
    truth = numbers["losses"][kind]["float64"]
    config = SRPNetObjectiveConfig(gan=kind, local_critic=False, critic_strides=(2, 2, 2, 1, 1))
    objective = SRPNetObjective(config).eval()
    objective.critics["global"].load_state_dict(
        wide_critic_from_official(parity.official("pennet_dis"))
    )
    mask = parity.holes("mask", "mask_b", height=64, width=64)
    batch = Batch(
        image=parity.picture("image", "image_b", height=64, width=64),
        mask=mask,
        hole_share=mask.mean(),
    )
    outputs = Pyramid(
        prediction=parity.picture("output", "output_b", height=64, width=64),
        coarse=tuple(
            parity.picture(f"pyramid{i}", f"pyramid{i}_b", height=64 >> i, width=64 >> i)
            for i in range(1, 6)
        ),
    )
    with torch.no_grad():
        terms = objective.generator_terms(outputs, batch)
        critic = objective.critic_terms(outputs, batch)["global"]
    assert float(terms["hole"]) == pytest.approx(truth["hole"], rel=2e-5)
    assert float(terms["valid"]) == pytest.approx(truth["valid"], rel=2e-5)
    assert float(terms["pyramid"]) == pytest.approx(truth["pyramid"], rel=2e-5)
    adversarial = float(terms["adversarial_global"])
    assert adversarial == pytest.approx(truth["gen_adversarial"], rel=2e-5)
    total = sum(float(value) * config.weights[key] for key, value in terms.items())
    assert total == pytest.approx(truth["gen_total"], rel=2e-5)
    assert float(critic) == pytest.approx(truth["dis_total"], rel=2e-5)


# -- the golden -------------------------------------------------------------------------------


def reduced_outputs(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Float64 outputs of PEN-Net, and of SRPNet with formula weights under our names."""
    pennet = imported({key: formula(key, shape, gain=6) for key, shape in shapes.items()}).double()
    network = SRPNet(SMALL).double().eval()
    network.load_state_dict(
        {
            key: formula(key, list(value.shape), gain=6)
            for key, value in network.state_dict().items()
        }
    )
    outputs: dict[str, Tensor] = {}
    for name, model in (("pennet", pennet), ("srpnet", network)):
        with torch.inference_mode():
            pyramid = model.pyramid(*example())
        outputs[f"{name}.0"] = pyramid.prediction
        outputs |= {f"{name}.{level}": x for level, x in enumerate(pyramid.coarse, start=1)}
    return outputs


def test_reduced_networks_match_the_golden():
    with safe_open(GOLDEN, "pt") as golden:
        outputs = reduced_outputs(json.loads(golden.metadata()["shapes"]))
        assert len(outputs) == 12
        for name, found in outputs.items():
            truth = golden.get_tensor(name)
            assert float((found - truth).abs().max() / truth.abs().max()) < 1e-6, name


# -- attention --------------------------------------------------------------------------------


def attention_reference(low: Tensor, high: Tensor, mask: Tensor, kernel: int) -> Tensor:
    """The published order of operations, position by position, one picture (facts 2.2)."""
    h, w = high.shape[-2:]
    pad = kernel // 2
    small = F.interpolate(mask, size=(h, w), mode="bilinear", align_corners=True)
    small, wide = F.pad(small, (pad,) * 4)[0, 0], F.pad(high, (pad,) * 4)[0]
    tall = F.pad(low, (1,) * 4)[0]
    at = [(y, x) for y in range(h) for x in range(w)]
    keys = torch.stack([wide[:, y : y + kernel, x : x + kernel].flatten() for y, x in at])
    usable = [bool(small[y : y + kernel, x : x + kernel].mean() == 0) for y, x in at]
    kept = torch.tensor(usable, dtype=low.dtype)
    values = torch.stack([tall[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] for y, x in at])
    out = torch.zeros_like(tall)
    for index, (y, x) in enumerate(at):
        scores = keys @ keys[index] / keys.norm(dim=1).clamp(min=1e-4)
        weight = (torch.softmax(scores * kept * 10, dim=0) * kept).clamp(min=1e-8)
        patch = (weight[:, None, None, None] * values).sum(0)
        out[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += patch / 4
    return out[None, :, 1:-1, 1:-1]


@pytest.mark.parametrize("kernel", [1, 3])
def test_attention_follows_its_definition(kernel: int):
    low, high = torch.randn(2, 3, 12, 16).double(), torch.randn(2, 5, 6, 8).double()
    mask = torch.zeros(2, 1, 24, 32).double()
    mask[0, :, 4:12, 6:16] = 1
    mask[1, :, 10:13, 2:20] = 1
    found = attention_transfer(low, high, mask, kernel)
    truth = [
        attention_reference(low[i : i + 1], high[i : i + 1], mask[i : i + 1], kernel)
        for i in range(2)
    ]
    torch.testing.assert_close(found, torch.cat(truth), rtol=1e-9, atol=1e-12)


def test_attention_in_blocks_equals_attention_at_once(monkeypatch):
    low, high = torch.randn(2, 4, 16, 16), torch.randn(2, 6, 8, 8)
    mask = (torch.rand(2, 1, 32, 32) < 0.02).float()
    with torch.no_grad():
        whole = attention_transfer(low, high, mask, 3)
        monkeypatch.setattr(srpnet, "_BLOCK", 1000)  # 7 rows of 64 at once
        blocks = attention_transfer(low, high, mask, 3)
    torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-6)


def test_attention_in_bf16_keeps_the_gradient():
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:40, 16:40] = 1
    alike = F.interpolate(torch.randn(1, 16, 4, 4), (16, 16), mode="bilinear")  # near ties
    maps = torch.randn(1, 4, 32, 32), 10 * (alike + 2)
    wanted = torch.randn(1, 4, 32, 32)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        low, high = (x.to(torch.bfloat16).to(dtype).requires_grad_() for x in maps)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = attention_transfer(low, high, mask, 1)
        (found * wanted).sum().backward()
        gradients.append([cast(Tensor, x.grad).float().flatten() for x in (low, high)])
    for exact, rounded in zip(*gradients, strict=True):
        assert torch.cosine_similarity(exact, rounded, dim=0) > 0.99


# -- by itself --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (SRPNetConfig(), 21_238_450),
        (SRPNetConfig(attention_kernel=3), 21_238_450),
        (SRPNetConfig(residual_blocks=2), 32_245_362),
        (PENNET, 10_231_538),
    ],
)
def test_parameter_counts(config: SRPNetConfig, parameters: int):
    with torch.device("meta"):
        assert count(SRPNet(config)) == parameters


def test_ablations_of_the_paper_are_configurations():
    """Table 5: baseline (PEN-Net), + second critic, + residual blocks."""
    baseline = SRPNetObjective(PENNET_OBJECTIVE)
    assert list(baseline.critics) == ["global"]
    assert count(baseline.critics) == 4_318_401
    two = SRPNetObjective()
    assert list(two.critics) == ["global", "local"]
    assert count(two.critics) == 8_636_802
    with torch.device("meta"):
        blocks = count(SRPNet(SRPNetConfig())) - count(SRPNet(PENNET))
    assert blocks == 11_006_912


def test_forward_is_the_pyramids_top():
    network = SRPNet(SMALL).eval()
    image, mask = (t.float() for t in example())
    with torch.inference_mode():
        found = network.pyramid(image, mask)
        assert torch.equal(network(image, mask), found.prediction)
    sizes = [tuple(coarse.shape[-2:]) for coarse in found.coarse]
    assert sizes == [(32, 64), (16, 32), (8, 16), (4, 8), (2, 4)]
    assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in found.coarse)


@pytest.mark.parametrize("covered", [0.0, 1.0])
def test_whole_and_empty_holes_give_numbers(covered: float):
    network = SRPNet(SMALL).eval()
    image, mask = (t.float() for t in example())
    with torch.inference_mode():
        assert network(image, torch.full_like(mask, covered)).isfinite().all()


def test_values_under_the_hole_do_not_count_even_if_they_are_no_numbers():
    network = SRPNet(SMALL).eval()
    image, mask = (t.float() for t in example())
    broken = torch.where(mask > 0, torch.nan, image)
    with torch.inference_mode():
        assert torch.equal(network(image, mask), network(broken, mask))


def test_importer_leaves_unknown_and_missing_keys_to_strict_loading():
    official = {"dw_conv01.0.weight": torch.zeros(4, 4, 3, 3), "extra": torch.zeros(1)}
    fields, state = IMPORTER.convert(official)
    with pytest.raises(RuntimeError, match=r"(?s)down\.0\.conv\.bias.*extra"):
        SRPNet(SRPNetConfig(**fields)).load_state_dict(state)


def test_local_critic_sees_nothing_outside_the_hole():
    objective = SRPNetObjective(SRPNetObjectiveConfig(critic_width=2))
    image, mask = (t.float() for t in example())
    batch = Batch(image=image, mask=mask, hole_share=mask.mean())
    prediction = image.flip(3).requires_grad_()
    outputs = Pyramid(prediction=prediction, coarse=())
    seen: dict[str, Tensor] = {}
    for name, critic in objective.critics.items():
        critic.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0]}))
    outputs = Pyramid(prediction=prediction, coarse=(image[..., ::2, ::2],))
    terms = objective.generator_terms(outputs, batch)
    assert set(terms) == {key for key, weight in objective.config.weights.items() if weight}
    assert torch.equal(seen["global"] * (1 - mask), (image * 2 - 1) * (1 - mask))
    assert torch.equal(seen["local"], seen["global"] * mask)
    torch.stack(list(terms.values())).sum().backward()
    assert prediction.grad is not None
    assert all(parameter.grad is None for parameter in objective.critics.parameters())
    assert set(objective.critic_terms(outputs, batch)) == {"global", "local"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", 6, "width must be a positive multiple of 4, got 6"),
        ("residual_blocks", -1, "residual_blocks must not be negative, got -1"),
        ("attention_kernel", 2, "attention_kernel must be 1 or 3, got 2"),
        ("deepest_slope", 1.0, r"deepest_slope must lie in \[0, 1\), got 1\.0"),
        ("init_std", 0.0, r"init_std must be positive, got 0\.0"),
    ],
)
def test_wrong_settings_are_refused(field: str, value: Any, message: str):
    with pytest.raises(ValueError, match=message):
        SRPNetConfig(**{field: value})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("config", [SMALL, SRPNetConfig(width=4, attention_kernel=3)])
def test_exports_to_onnx(config: SRPNetConfig):
    network = SRPNet(config).eval()
    image, mask = (t.float() for t in example())
    program = torch.onnx.export(network, (image, mask), dynamo=True, verbose=False)
    assert program is not None
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (image.numpy(), mask.numpy()), strict=True)))
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(image, mask).numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
def test_compiles_with_a_training_pass():
    network = SRPNet(SMALL).train()
    image, mask = (t.float() for t in example())
    compiled = torch.compile(network)
    found = compiled(image, mask)
    torch.testing.assert_close(found, network(image, mask), rtol=0, atol=1e-5)
    found.sum().backward()


@pytest.mark.slow
def test_overfits_four_pictures(faces, record_property):
    image = faces(4, 64)
    rng = np.random.default_rng(0)
    mask = np.stack([with_share(rng, (64, 64), 0.22, 0.28) for _ in image])
    mask = torch.from_numpy(mask)[:, None].float()
    batch = Batch(image=image, mask=mask, hole_share=mask.mean())
    network = SRPNet(SRPNetConfig(width=16)).train()
    objective = SRPNetObjective(SRPNetObjectiveConfig(critic_width=2))
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, 600, pct_start=0.1)
    for _ in range(600):
        optimizer.zero_grad()
        terms = objective.generator_terms(objective.predict(network, batch), batch)
        (terms["hole"] + terms["valid"]).backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        error = (network.eval()(image, mask) - image).square() * mask
    psnr = -10 * float((error.sum() / mask.sum() / 3).log10())
    record_property("psnr", psnr)
    assert psnr > 28, f"{psnr:.2f} dB"


def soft_picture(side: int) -> Tensor:
    """Large patches of colour, brightness varies most."""
    coarse = torch.rand(1, 1, 6, 6) + 0.3 * torch.randn(1, 3, 6, 6)
    return F.interpolate(coarse.clamp(0, 1), (side, side), mode="bilinear")


def colours_kept(made: Tensor, image: Tensor) -> list[float]:
    """Correlation of red against blue, and of green against both."""
    pairs = zip(colours_of(made), colours_of(image), strict=True)
    return [float(torch.corrcoef(torch.stack([a, b]))[0, 1]) for a, b in pairs]


def colours_of(picture: Tensor) -> list[Tensor]:
    red, green, blue = picture[0].flatten(1)
    return [red - blue, 2 * green - red - blue]


def test_a_start_with_colours_shows_them():
    torch.manual_seed(0)
    image, hole = soft_picture(256), torch.zeros(1, 1, 256, 256)
    with torch.inference_mode():
        made = SRPNet(SRPNetConfig(width=16, colours=True)).eval()(image, hole)
        without = SRPNet(SRPNetConfig(width=16)).eval()(image, hole)
    inside = (..., slice(8, -8), slice(8, -8))  # attention halves the outermost patches
    assert min(colours_kept(made[inside], image[inside])) > 0.9
    assert min(colours_kept(without[inside], image[inside])) < 0.5


def test_colours_take_the_channels_that_count_least():
    network, least = SRPNet(SRPNetConfig(width=16)), [1, 5, 6, 9]
    state = network.state_dict()
    for name in ("down.1.conv", *(f"attend.0.convs.{n}" for n in range(4))):
        state[f"{name}.weight"][:, least] *= 1e-3
    before = state["down.0.conv.weight"].clone()
    start_colours(state)
    changed = (state["down.0.conv.weight"] != before).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == least


def test_weights_with_colours_are_saved_and_loaded(tmp_path: Path):
    config = {"width": 8, "colours": True}
    network = SRPNet(SRPNetConfig(width=8, colours=True))
    header = files.Header(network="srpnet", config=config, name="coloured")
    files.save(tmp_path / "w.safetensors", header, network.state_dict())
    _, again = files.load(tmp_path / "w.safetensors")
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
