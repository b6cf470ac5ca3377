"""The structure network against YoungGod/sturcture-inpainting @ c3a067e, and by itself.

The golden holds float64 outputs of our own code for a reduced network whose official variables a
formula below rebuilds; it was written after the full-width fixtures agreed.
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional

from retouch.data.batch import Batch
from retouch.data.edges import sobel
from retouch.models._structure_official import critic_from_official
from retouch.models.structure import (
    CARD,
    PooledAttention,
    Structure,
    StructureConfig,
    StructureCritic,
    StructureObjective,
    StructureObjectiveConfig,
    StructureOutputs,
)

GOLDEN = Path(__file__).parents[1] / "goldens" / "structure.safetensors"
(IMPORTER,) = CARD.official.values()
SMALL = StructureConfig(**CARD.small)
SIDES = {64: "quarter", 128: "half", 256: "full"}


def nchw(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2).to(dtype)


def picture(recipe: Any, side: int, dtype: torch.dtype, *names: str) -> Tensor:
    found = np.stack([recipe.picture(name, side, side) for name in names])
    return nchw(found.astype(np.float64) / 255, dtype)


def nhwc(x: Tensor) -> NDArray[Any]:
    return x.detach().permute(0, 2, 3, 1).double().numpy()


def heads_like_the_fixture(outputs: StructureOutputs) -> dict[str, NDArray[Any]]:
    """Our heads under the fixture's names: pictures in [-1, 1], crops and moments at 256."""
    found: dict[str, NDArray[Any]] = {}
    for side, image, gradient in zip(SIDES, outputs.images, outputs.gradients, strict=True):
        found |= {f"out{side}": nhwc(image * 2 - 1), f"grad{side}": nhwc(gradient)}
    for name in ("out256", "grad256"):
        flat = found[name].reshape(-1, found[name].shape[-1])
        found[f"{name}_mean_std"] = np.stack([flat.mean(0), flat.std(0)])
        found[f"{name}_crop"] = found[name][:, 40:104, 80:144]
    return found


def objective_fixture(recipe: Any, dtype: torch.dtype) -> tuple[StructureOutputs, Batch]:
    images = [picture(recipe, side, dtype, f"output{side}", f"output{side}_b") for side in SIDES]
    slopes = [
        nchw(recipe.normal(f"gradient{side}", (2, side, side, 6)).astype(np.float32), dtype)
        for side in SIDES
    ]
    mask = torch.from_numpy(recipe.holes("mask", 256, 256)).to(dtype).expand(2, 1, -1, -1)
    batch = Batch(
        image=picture(recipe, 256, dtype, "image", "image_b"), mask=mask, hole_share=mask.mean()
    )
    return StructureOutputs(images=tuple(images), gradients=tuple(slopes)), batch


class SlimVGG(nn.Module):
    """The fixture's narrow VGG-19, fed with pictures in [-1, 1] as the reference does."""

    def __init__(self, official: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.official = official

    def forward(self, image: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        x, found = image * 2 - 1, {}
        for stage, depth in enumerate((2, 2, 4, 4, 4), start=1):
            for n in range(1, depth + 1):
                layer = f"vgg/conv{stage}_{n}"
                kernel = self.official[f"{layer}/kernel"].permute(3, 2, 0, 1).to(x.dtype)
                bias = self.official[f"{layer}/bias"].to(x.dtype)
                x = functional.relu(functional.conv2d(x, kernel, bias, padding=1))
                found[f"relu{stage}_{n}"] = x
            x = functional.max_pool2d(x, 2)
        return {name: found[name] for name in names}


# -- against the official code ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "exact", "rounded"), [(torch.float64, 1e-9, 1e-6), (torch.float32, 1e-4, 1e-4)]
)
def test_six_heads_match_the_official_network(
    parity: Any, recipe: Any, dtype: torch.dtype, exact: float, rounded: float
):
    official = parity.official("structure_generator")
    truth = load_file(parity.folder / "structure_generator.safetensors")
    assert len(official) == 165
    assert IMPORTER.recognise(official)
    fields, state = IMPORTER.convert(official)
    assert fields == {"channels": 64, "blocks": 8, "guides": "whole"}
    network = Structure(StructureConfig(**fields)).to(dtype).eval()
    network.load_state_dict(state)
    image = picture(recipe, 256, dtype, "image")
    mask = torch.from_numpy(recipe.holes("mask", 256, 256)).to(dtype)[None, None]
    with torch.inference_mode():
        outputs = network.heads(image, mask)
    found = heads_like_the_fixture(outputs)
    complete = 255 * nhwc(torch.where(mask > 0, outputs.images[-1], image))
    found["complete_crop"] = complete[:, 40:104, 80:144]
    flat = complete.reshape(-1, 3)
    found["complete_mean_std"] = np.stack([flat.mean(0), flat.std(0)])
    checked = 0
    for key, expected in truth.items():
        if key == "edge_bits_256":
            continue
        error = abs(found[key.removesuffix(".f64")] - expected).max() / abs(expected).max()
        assert error <= (exact if expected.dtype == np.float64 else rounded), key
        checked += 1
    assert checked == 10


def test_parameter_counts():
    assert sum(p.numel() for p in Structure().parameters()) == 15_089_000
    assert sum(p.numel() for p in StructureCritic().parameters()) == 2_764_737


def test_critic_matches_the_official_one(parity: Any, recipe: Any):
    official = parity.official("structure_discriminator")
    truth = load_file(parity.folder / "structure_losses.safetensors")
    critic = StructureCritic()
    critic.load_state_dict(critic_from_official(official))
    outputs, batch = objective_fixture(recipe, torch.float32)
    completed = torch.where(batch.mask > 0, outputs.images[-1], batch.image)
    with torch.no_grad():
        logits = critic(torch.cat([batch.image, completed]))
    expected = truth["discriminator_logits"]
    assert abs(nhwc(logits) - expected).max() / abs(expected).max() < 1e-5
    for n in range(5):
        u: Any = critic.layers[n].u
        after = truth[f"discriminator256/conv{n + 1}/u.after"][0]
        np.testing.assert_allclose(u.numpy(), after, rtol=0, atol=2e-7)


def test_training_terms_match_the_official_ones(parity: Any, recipe: Any):
    values = json.loads((parity.folder / "structure_losses.json").read_text())["losses"]
    vgg = SlimVGG(parity.official("structure_vgg_slim"))
    objective = StructureObjective(features=vgg)
    state = critic_from_official(parity.official("structure_discriminator"))
    critic = objective.critics["critic"]
    outputs, batch = objective_fixture(recipe, torch.float32)
    critic.load_state_dict(state)
    found = {"d_loss_256": float(objective.critic_terms(outputs, batch)["critic"].detach())}
    critic.load_state_dict(state)
    terms = {k: float(v.detach()) for k, v in objective.generator_terms(outputs, batch).items()}
    weights = objective.config.weights
    weighted = {key: value * weights[key] for key, value in terms.items()}
    found |= {"g_loss_256": terms["adversarial"], "g_loss_total": math.fsum(weighted.values())}
    for side, scale in SIDES.items():
        found[f"edge_l1_loss_{side}"] = weighted[f"edge_{scale}"]
        found[f"grad_l1_loss_{side}"] = weighted[f"gradient_{scale}"]
    found |= {"content_loss_256": weighted["content"], "style_loss_256": weighted["style"]}
    # The reference sums over a batch of 2 here, our weight carries its 4.
    found["l1_loss_fore_256"] = weighted["hole_full"] / 2
    found["l1_loss_back_256"] = weighted["known_full"] / 2
    found["g_loss_total"] -= found["l1_loss_fore_256"] + found["l1_loss_back_256"]
    for key, value in found.items():
        assert value == pytest.approx(values[key], rel=3e-6), key


def test_readme_loss_and_its_gradient_match(parity: Any, recipe: Any):
    values = json.loads((parity.folder / "structure_pyramid_loss.json").read_text())["values"]
    truth = load_file(parity.folder / "structure_pyramid_loss.safetensors")
    outputs, batch = objective_fixture(recipe, torch.float64)
    slopes = tuple(slope.requires_grad_() for slope in outputs.gradients)
    outputs = StructureOutputs(images=outputs.images, gradients=slopes)
    config = StructureObjectiveConfig(targets="readme", critic_channels=2)
    terms = StructureObjective(config).double().generator_terms(outputs, batch)
    parts = [terms[f"edge_{scale}"] + 0.1 * terms[f"gradient_{scale}"] for scale in SIDES.values()]
    total = torch.stack(parts).sum()
    expected = values["float64"]
    assert float(total.detach()) == pytest.approx(expected["total"], rel=1e-7)
    for part, value in zip(parts, expected["per_scale_64_128_256"], strict=True):
        assert float(part.detach()) == pytest.approx(value, rel=1e-7)
    total.backward()
    for slope, norm in zip(slopes, expected["d_prediction_norm"], strict=True):
        assert slope.grad is not None
        assert float(slope.grad.norm()) == pytest.approx(norm, rel=1e-6)
    assert slopes[0].grad is not None
    crop = nhwc(slopes[0].grad)[:, 16:40, 16:40]
    np.testing.assert_allclose(crop, truth["d_prediction_64_crop.f64"], rtol=0, atol=1e-9)


# -- goldens that need nothing outside ----------------------------------------------------------


def noise(name: str, *shape: int) -> NDArray[np.float64]:
    """Uniform in [-0.5, 0.5) from 64-bit integer arithmetic, the same everywhere."""
    x = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 20)
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):
        x = (x ^ x >> np.uint64(31)) * np.uint64(factor)
    return ((x >> np.uint64(11)) * 2.0**-53 - 0.5).reshape(shape)


def small_official() -> dict[str, Tensor]:
    """Official variables of a network of 16 channels and 2 blocks."""
    found: dict[str, Tensor] = {}

    def layer(scope: str, kernel: tuple[int, ...], norm: str = "") -> None:
        scope, out = f"inpaint_net/{scope}", kernel[2 if "transpose" in scope else 3]
        spread = (12 / math.prod(kernel) * out) ** 0.5
        found[f"{scope}/kernel"] = torch.from_numpy(noise(scope, *kernel) * spread).float()
        found[f"{scope}/bias"] = torch.from_numpy(noise(f"{scope}b", out)).float()
        if norm:
            found[f"inpaint_net/{norm}/beta"] = torch.from_numpy(noise(norm, out)).float()
            found[f"inpaint_net/{norm}/gamma"] = torch.from_numpy(1 + noise(norm, out)).float()

    norms = (f"InstanceNorm{f'_{n}' if n else ''}" for n in range(99))
    convs = (f"conv2d{f'_{n}' if n else ''}" for n in range(99))
    for k, inputs, outputs in ((7, 11, 16), (4, 16, 32), (4, 32, 64)):
        layer(next(convs), (k, k, inputs, outputs), next(norms))
    for n in range(4):
        layer(f"en_64_8_{n // 2}{n % 2}", (3, 3, 64, 64), next(norms))
    for side, c in ((64, 64), (128, 32), (256, 16)):
        scope = f"attention_pooling_{side}"
        layer(f"{scope}/conv2d", (4, 4, c, c), f"{scope}/InstanceNorm")
        for letter in "fgh":
            layer(f"{scope}/{letter}_conv/conv2d", (1, 1, c, c // 16))
        up = f"{scope}/attention_down_upsample"
        layer(f"{up}/conv2d_transpose", (4, 4, c, c // 16), f"{up}/InstanceNorm")
        found[f"inpaint_net/{scope}/gamma"] = torch.tensor([0.5])
        for k, outputs in ((5, c), (1, 6), (1, 3)):
            layer(next(convs), (k, k, c, outputs), next(norms))
    for scope, c in (("de128_conv4_upsample", 32), ("de256_conv5_upsample", 16)):
        layer(f"{scope}/conv2d_transpose", (4, 4, c, 4 * c), f"{scope}/InstanceNorm")
    found["inpaint_net/conv2d/kernel/Adam"] = torch.zeros(7, 7, 11, 16)
    found["beta1_power"] = torch.tensor(0.5)
    return found


def example(count: int = 1, side: int = 64) -> tuple[Tensor, Tensor]:
    """Picture and hole from formulas."""
    y, x = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    wave = [torch.sin(x / (3 + c) + y / (7 - c)) * torch.cos(y / (5 + c)) for c in range(3)]
    image = (torch.stack(wave) / 2 + 0.5).repeat(count, 1, 1, 1)
    mask = ((x - 0.4 * side) ** 2 + (y - 0.5 * side) ** 2 < (0.2 * side) ** 2).float()
    return image, mask.expand(count, 1, -1, -1).contiguous()


def small_network(guides: str = "whole") -> Structure:
    fields, state = IMPORTER.convert(small_official())
    assert fields == {"channels": 16, "blocks": 2, "guides": "whole"}
    network = Structure(StructureConfig(**fields | {"guides": guides})).eval()
    network.load_state_dict(state)
    return network


def golden_outputs(network: Structure) -> dict[str, NDArray[Any]]:
    outputs = network.heads(*(t.to(next(network.parameters()).dtype) for t in example()))
    found = {f"image_{n}": nhwc(x) for n, x in enumerate(outputs.images)}
    found |= {f"gradient_{n}": nhwc(x) for n, x in enumerate(outputs.gradients)}
    # Of the full size only the rows round the hole.
    return {
        key: value[:, 16:48].astype(np.float32) if key.endswith("2") else value.astype(np.float32)
        for key, value in found.items()
    }


@pytest.mark.parametrize("guides", ["whole", "known"])
def test_small_network_gives_the_golden(guides: str):
    with torch.inference_mode():
        found = golden_outputs(small_network(guides))
    golden = load_file(GOLDEN)
    for key, value in found.items():
        expected = golden[f"{guides}/{key}"]
        assert abs(value - expected).max() / abs(expected).max() < 1e-4, key


# -- what the guides and the configuration do ---------------------------------------------------


def test_given_guides_are_what_it_would_find():
    network = small_network("known")
    image, mask = example()
    with torch.inference_mode():
        assert torch.equal(network(image, mask), network(image, mask, network.guide(image, mask)))


def test_the_published_guides_look_under_the_hole():
    network = small_network("whole")
    image, mask = example()
    other = torch.where(mask > 0, 1 - image, image)
    with torch.inference_mode():
        assert not torch.equal(network(image, mask), network(other, mask))


def test_without_attention_or_embedding_parts_are_gone():
    full = sum(p.numel() for p in Structure(SMALL).parameters())
    bare = Structure(StructureConfig(channels=16, blocks=2, attention=0, embedding=False))
    assert not [key for key, _ in bare.named_parameters() if "attention" in key]
    assert bare.ups[0].conv.in_channels == 64  # pyright: ignore
    assert sum(p.numel() for p in bare.parameters()) < full
    image, mask = example()
    assert bare(image, mask).shape == image.shape


def test_patch_attention_learns():
    network = Structure(StructureConfig(channels=16, blocks=1, attention=3))
    with torch.no_grad():
        for level in network.levels:
            level.attention.gamma.fill_(0.5)  # pyright: ignore
    image, mask = example(side=32)
    network(image, mask).sum().backward()
    assert all(p.grad is not None for p in network.levels[0].attention.parameters())


def test_pooled_attention_equals_its_formula():
    attention = PooledAttention(32).double()
    nn.init.ones_(attention.gamma)
    x = torch.rand(2, 32, 16, 16, dtype=torch.float64)
    small = attention.down(x)
    query = attention.query(small).flatten(2)
    key = functional.max_pool2d(attention.key(small), 2).flatten(2)
    value = functional.max_pool2d(attention.value(small), 2).flatten(2)
    weights = torch.softmax(query.transpose(1, 2) @ key, dim=2)
    found = (weights @ value.transpose(1, 2)).transpose(1, 2).reshape(2, 2, 8, 8)
    torch.testing.assert_close(attention(x), x + attention.up(found))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"channels": 24}, "multiple of 16, got 24"),
        ({"blocks": 0}, "at least 1, got 0"),
        ({"attention": 2}, "0 or odd, got 2"),
        ({"attention": -1}, "0 or odd, got -1"),
    ],
)
def test_config_refuses(fields: dict[str, int], match: str):
    with pytest.raises(ValueError, match=match):
        StructureConfig(**fields)  # pyright: ignore[reportArgumentType]


def test_an_unknown_variable_is_named():
    official = small_official() | {"inpaint_net/surprise/kernel": torch.zeros(1, 1, 1, 1)}
    with pytest.raises(KeyError, match="inpaint_net/surprise/kernel"):
        IMPORTER.convert(official)


# -- the objective ------------------------------------------------------------------------------


def small_batch() -> tuple[StructureOutputs, Batch]:
    torch.manual_seed(3)
    sizes = (8, 16, 32)
    images = tuple(torch.rand(4, 3, n, n) for n in sizes)
    slopes = tuple(torch.randn(4, 6, n, n) for n in sizes)
    mask = (torch.rand(4, 1, 32, 32) > 0.7).float()
    truth = functional.interpolate(torch.rand(4, 3, 6, 6), 32, mode="bilinear")
    batch = Batch(image=truth, mask=mask, hole_share=mask.mean())
    return StructureOutputs(images=images, gradients=slopes), batch


def test_micro_batches_average_to_the_whole_batch():
    config = StructureObjectiveConfig(critic_channels=2)
    objective = StructureObjective(config).eval()  # the critic's power iteration rests
    outputs, batch = small_batch()
    shares = objective.shares(batch)
    whole = objective.generator_terms(outputs, batch)
    parts = []
    for n in (0, 2):
        piece = StructureOutputs(
            images=tuple(x[n : n + 2] for x in outputs.images),
            gradients=tuple(x[n : n + 2] for x in outputs.gradients),
        )
        micro = Batch(
            image=batch.image[n : n + 2],
            mask=batch.mask[n : n + 2],
            hole_share=batch.hole_share,
            shares=shares,
        )
        parts.append(objective.generator_terms(piece, micro))
    for key, value in whole.items():
        torch.testing.assert_close((parts[0][key] + parts[1][key]) / 2, value, rtol=1e-5, atol=1e-6)


def test_every_optional_term_can_be_asked_for():
    weights = dict.fromkeys(StructureObjectiveConfig().weights, 1.0)
    config = StructureObjectiveConfig(weights=weights, penalty=10.0, critic_channels=2)
    objective = StructureObjective(config)
    outputs, batch = small_batch()
    terms = objective.generator_terms(outputs, batch)
    assert {"matching_image", "matching_quarter", "matching_half", "matching_full"} <= set(terms)
    assert all(value.isfinite() for value in terms.values())
    with_penalty = objective.critic_terms(outputs, batch)["critic"]
    with_penalty.backward()
    assert all(p.grad is not None for p in objective.critics.parameters())


def test_the_generator_does_not_teach_the_critic():
    objective = StructureObjective(StructureObjectiveConfig(critic_channels=2))
    outputs, batch = small_batch()
    outputs.images[-1].requires_grad_()
    objective.generator_terms(outputs, batch)["adversarial"].backward()
    assert outputs.images[-1].grad is not None
    assert all(p.grad is None for p in objective.critics.parameters())


def test_a_perfect_prediction_costs_nothing_but_the_critic():
    objective = StructureObjective(StructureObjectiveConfig(critic_channels=2))
    _, batch = small_batch()
    images = tuple(batch.image[:, :, ::step, ::step] for step in (4, 2, 1))
    slopes = tuple(sobel(image * 2 - 1) for image in images)
    terms = objective.generator_terms(StructureOutputs(images=images, gradients=slopes), batch)
    for key, value in terms.items():
        assert key in ("adversarial", "variation") or float(value) == 0, key


# -- export -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
def test_compiles_whole():
    network = small_network("known")
    image, mask = example()
    with torch.inference_mode():
        expected = network(image, mask)
        found = torch.compile(network, fullgraph=True)(image, mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter about itself
def test_exports_to_onnx_with_guides(tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is an optional extra")
    network = small_network("known")
    image, mask = example()
    arguments = (image, mask, network.guide(image, mask))
    names = ["image", "mask", "guides"]
    path = tmp_path / "structure.onnx"
    torch.onnx.export(network, arguments, path, input_names=names, dynamo=True)
    session = onnxruntime.InferenceSession(path)
    inputs = {name: value.numpy() for name, value in zip(names, arguments, strict=True)}
    (found,) = session.run(None, inputs)
    with torch.inference_mode():
        expected = network(*arguments)
    torch.testing.assert_close(torch.as_tensor(np.asarray(found)), expected, rtol=0, atol=1e-4)


# -- learning -----------------------------------------------------------------------------------


def freeform(count: int, share: float) -> Tensor:
    """Free-form holes of about this share, from random walks of discs."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    masks = torch.zeros(count, 1, 256, 256)
    for mask in masks:
        at = torch.rand(2, generator=generator) * 256
        while mask.mean() < share:
            at = (at + torch.randn(2, generator=generator) * 12) % 256
            mask[0][(y - at[0]) ** 2 + (x - at[1]) ** 2 < 12**2] = 1
    return masks


@pytest.mark.slow
def test_overfits_four_pictures(faces, record_property):
    """Ends as soon as it is good enough; 32 channels, since 16 leave attention half a channel."""
    image, mask = faces(4, 256), freeform(4, 0.25)
    network = Structure(StructureConfig(channels=32, blocks=1)).train()
    network = network.to(memory_format=torch.channels_last)
    guides = network.guide(image, mask)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=600, pct_start=0.1)
    psnr = 0.0
    for _ in range(600):
        with torch.autocast("cpu", torch.bfloat16):
            prediction = network(image, mask, guides)
        difference = (prediction.float() - image) * mask
        psnr = -10 * float((difference.detach().square().sum() / mask.sum() / 3).log10())
        if psnr > 28:
            break
        optimizer.zero_grad()
        (6 * difference.abs().mean() / mask.mean()).backward()  # the published hole term
        optimizer.step()
        schedule.step()
    record_property("psnr", psnr)
    assert psnr > 28, f"{psnr:.2f} dB"


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_instance_norm_forgets_the_mean_colour(norm: Literal["instance", "none"]):
    network = Structure(StructureConfig(channels=16, blocks=1, norm=norm))
    picture = 0.3 * torch.rand(1, 3, 32, 32)
    redder = picture + torch.tensor([0.6, 0.0, 0.0]).view(3, 1, 1)
    mask = torch.zeros(1, 1, 32, 32)
    with torch.inference_mode():
        same = torch.allclose(network(picture, mask), network(redder, mask), atol=1e-3)
    assert same == (norm == "instance")
