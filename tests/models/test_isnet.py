"""ISNet against GuardSkill/Large-Scale-Feature-Inpainting @ 49b9b0b, and by itself.

The golden holds float64 outputs of our reduced networks, and the official names and shapes of their
weights; the weights are a formula. It was written by `goldens/make_isnet_srpnet.py` after the
full-width fixtures agreed.
"""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from official_fixtures import count, formula
from retouch.critics import patch_critic_from_official
from retouch.data.batch import Batch
from retouch.data.masks import with_share
from retouch.layers.spectral import fold_spectral, settle_spectral
from retouch.layers.vgg import VGG19
from retouch.losses.reconstruction import l1_per_share
from retouch.models.isnet import (
    CARD,
    ISNet,
    ISNetConfig,
    ISNetObjective,
    ISNetObjectiveConfig,
    Variant,
    to_official,
)
from retouch.weights import files
from retouch.weights.files import Header

GOLDEN = Path(__file__).parents[1] / "goldens" / "isnet.safetensors"
(IMPORTER,) = CARD.official.values()
SMALL = ISNetConfig(**CARD.small)
VARIANTS: tuple[Variant, ...] = ("full", "base", "base-ff")


def imported(official: dict[str, Tensor]) -> ISNet:
    assert IMPORTER.recognise(official)
    fields, state = IMPORTER.convert(official)
    network = ISNet(ISNetConfig(**fields))
    network.load_state_dict(state)
    return network.eval()


def example(height: int = 32, width: int = 48) -> tuple[Tensor, Tensor]:
    """Picture and hole from formulas, float64."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    wave = [torch.sin(x / (4.0 + c) + y / (9.0 - c)) for c in range(3)]
    image = (torch.stack(wave) / 2 + 0.5).double()[None]
    mask = ((x - 20) ** 2 / 80 + (y - 15) ** 2 / 60 < 1).double()[None, None]
    return image, mask


# -- against the official code ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "parameters", "dead"),
    [
        ("isnet_b1", 19_908_259, 0),
        ("isnet_b4", 24_774_307, 0),
        ("isnet_base", 16_516_995, 7_464_960),
        ("isnet_base_ff", 14_610_083, 0),
    ],
)
def test_matches_the_official_network(parity, case: str, parameters: int, dead: int):
    official = parity.official(case)
    network = imported(official)
    assert count(network) == parameters - dead
    with safe_open(parity.folder / f"{case}.safetensors", "pt") as truth:
        for height, width in ((64, 64), (80, 96)):
            key = f"out_{height}x{width}.f64"
            if key not in truth.keys():  # noqa: SIM118 - not a mapping
                continue
            image = parity.picture("image", height=height, width=width)
            mask = parity.holes("mask", height=height, width=width)
            with torch.inference_mode():
                found = network(image, mask)
            assert parity.error(found, truth.get_tensor(key)) < 2e-5


def test_training_pass_iterates_as_the_official_one(parity):
    network = imported(parity.official("isnet_b1")).train()
    image, mask = (
        parity.picture("image", height=64, width=64),
        parity.holes("mask", height=64, width=64),
    )
    with torch.no_grad():
        found = network(image, mask)
    state = to_official(network.state_dict())
    with safe_open(parity.folder / "isnet_b1.safetensors", "pt") as truth:
        assert parity.error(found, truth.get_tensor("train_out.f64")) < 2e-5
        for key in ("final_layer.0.weight_u", "stage2.fuse_layers.1.0.0.0.weight_v"):
            assert parity.error(state[key], truth.get_tensor(f"train.{key}.f64")) < 2e-5


@pytest.mark.parametrize("kind", ["nsgan", "hinge", "lsgan"])
def test_losses_match_the_official_training_step(parity, kind: Any):
    numbers = parity.json("isnet_losses.json")
    truth = numbers["losses"][kind]["float64"]
    vgg = parity.official("vgg_slim")
    features = VGG19.from_state({k.removeprefix("vgg."): v for k, v in vgg.items()})
    objective = ISNetObjective(ISNetObjectiveConfig(gan=kind), features).eval()
    objective.critics["patch"].load_state_dict(
        patch_critic_from_official(parity.official("isnet_dis", **{"features.0": "conv1.0"}))
    )
    image = parity.picture("image", "image_b", height=64, width=64)
    output = parity.picture("output", "output_b", height=64, width=64)
    mask = parity.holes("mask", "mask_b", height=64, width=64)
    batch = Batch(image=image, mask=mask, hole_share=mask.mean())
    with torch.no_grad():
        terms = objective.generator_terms(output, batch)
        (critic,) = objective.critic_terms(output, batch).values()
    weighted = {key: float(value) * objective.config.weights[key] for key, value in terms.items()}
    names = {
        "l1": "l_l1",
        "feature_matching": "l_fm",
        "content": "l_per",
        "style": "l_sty",
        "adversarial": "l_g2",
    }
    for ours, theirs in names.items():
        assert weighted[ours] == pytest.approx(truth[theirs], rel=2e-5), ours
    assert sum(weighted.values()) == pytest.approx(truth["gen_total"], rel=2e-5)
    constant = 0.5 if kind == "hinge" else 0.0  # the reference adds 1 to the real half
    assert float(critic) == pytest.approx(truth["dis_total"] - constant, rel=2e-5)


# -- the golden -------------------------------------------------------------------------------


def reduced_outputs(shapes: dict[str, dict[str, list[int]]]) -> dict[str, Tensor]:
    """Float64 outputs by variant, of formula weights with the official names and shapes."""
    outputs: dict[str, Tensor] = {}
    for variant, keys in shapes.items():
        network = imported({key: formula(key, shape) for key, shape in keys.items()}).double()
        settle_spectral(network, 50)
        with torch.inference_mode():
            outputs[variant] = network(*example())
    return outputs


def test_reduced_networks_match_the_golden():
    with safe_open(GOLDEN, "pt") as golden:
        outputs = reduced_outputs(json.loads(golden.metadata()["shapes"]))
        assert set(outputs) == set(VARIANTS)
        for variant, found in outputs.items():
            truth = golden.get_tensor(variant)
            assert float((found - truth).abs().max() / truth.abs().max()) < 1e-6, variant


# -- by itself --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "parameters", "printed"),
    [
        ({"blocks": 4}, 24_774_307, "23.63"),
        ({"blocks": 3}, 23_152_291, "22.08"),
        ({"blocks": 2}, 21_530_275, "20.53"),
        ({"blocks": 1}, 19_908_259, "18.99"),
        ({"variant": "base-ff"}, 14_610_083, "13.93"),
        ({"variant": "unet"}, 24_403_715, "23.27"),
    ],
)
def test_has_as_many_parameters_as_the_paper_prints(settings: Any, parameters: int, printed: str):
    with torch.device("meta"):
        assert count(ISNet(ISNetConfig(**settings))) == parameters
    assert f"{parameters / 2**20:.2f}" == printed  # Tables 1 and 2; their M is 2^20


def test_base_ablation_leaves_out_what_nothing_reads():
    with torch.device("meta"):
        base = ISNet(ISNetConfig(variant="base"))
    assert count(base) + 7_464_960 == 16_516_995
    assert f"{16_516_995 / 2**20:.2f}" == "15.75"


@pytest.mark.parametrize("variant", VARIANTS)
def test_official_names_round_trip(variant: Variant):
    network = ISNet(ISNetConfig(width=2, blocks=2, variant=variant))
    official = to_official(network.state_dict())
    fields, state = IMPORTER.convert(official)
    assert fields == {"width": 2, "blocks": 2, "variant": variant}
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_official_generator_has_276_entries():
    with torch.device("meta"):
        assert len(to_official(ISNet().state_dict())) == 276


def test_importer_leaves_unknown_and_missing_keys_to_strict_loading():
    official = to_official(ISNet(SMALL).state_dict())
    del official["up_layer.1.0.weight_orig"]
    fields, state = IMPORTER.convert(official | {"extra.weight": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"(?s)body\.up\.1\.0\.weight.*extra\.weight"):
        ISNet(ISNetConfig(**fields)).load_state_dict(state)


@pytest.mark.parametrize("variant", [*VARIANTS, "unet"])
def test_ablations_train_without_idle_parameters(variant: Variant):
    network = ISNet(ISNetConfig(width=2, blocks=1, variant=variant, init_std=0.02)).train()
    image, mask = (t.float() for t in example())
    network(image, mask).sum().backward()
    assert not [key for key, p in network.named_parameters() if p.grad is None]


def test_isometric_start_lets_the_picture_through():
    """Random kernels under the unit norm lose it: what reaches the output is nearly constant."""
    image, mask = (t.float() for t in example(64, 64))
    spread: dict[bool, float] = {}
    for isometric in (False, True):
        torch.manual_seed(0)
        network = ISNet(ISNetConfig(width=8, blocks=1, init_std=0.02, isometric=isometric)).eval()
        with torch.inference_mode():
            spread[isometric] = float(network(image, mask).std())
    assert spread[True] > 4 * spread[False]


def test_values_under_the_hole_do_not_count_even_if_they_are_no_numbers():
    network = ISNet(SMALL).eval()
    image, mask = (t.float() for t in example())
    broken = torch.where(mask > 0, torch.nan, image)
    with torch.inference_mode():
        assert torch.equal(network(image, mask), network(broken, mask))


def test_fresh_network_is_the_same_in_training_and_evaluation():
    """The official one is not: its vectors are random until it has been trained."""
    network = ISNet(SMALL)
    image, mask = (t.float() for t in example())
    with torch.no_grad():
        training = network.train()(image, mask)
        evaluation = network.eval()(image, mask)
    torch.testing.assert_close(training, evaluation, rtol=0, atol=1e-2)


def test_folded_network_gives_the_same_bits():
    network = ISNet(SMALL).eval()
    image, mask = (t.float() for t in example())
    with torch.inference_mode():
        assert torch.equal(fold_spectral(network)(image, mask), network(image, mask))


def test_terms_without_features_leave_content_and_style_out():
    objective = ISNetObjective(ISNetObjectiveConfig(critic_width=2))
    image, mask = (t.float() for t in example())
    batch = Batch(image=image, mask=mask, hole_share=mask.mean())
    terms = objective.generator_terms(image.flip(3), batch)
    assert set(terms) == {"l1", "feature_matching", "adversarial"}


def test_critic_learns_from_its_own_terms_only():
    objective = ISNetObjective(ISNetObjectiveConfig(critic_width=2))
    image, mask = (t.float() for t in example())
    batch = Batch(image=image, mask=mask, hole_share=mask.mean())
    output = image.flip(3).requires_grad_()
    torch.stack(list(objective.generator_terms(output, batch).values())).sum().backward()
    assert output.grad is not None
    assert all(parameter.grad is None for parameter in objective.critics.parameters())
    output.grad = None
    objective.critic_terms(output, batch)["patch"].backward()
    assert output.grad is None
    assert all(parameter.grad is not None for parameter in objective.critics.parameters())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", 3, "width must be even and at least 2, got 3"),
        ("blocks", 0, "blocks must be at least 1, got 0"),
        ("variant", "other", "variant must be in .*full.*, got 'other'"),
        ("init_std", 0.0, r"init_std must be positive, got 0\.0"),
    ],
)
def test_wrong_settings_are_refused(field: str, value: Any, message: str):
    with pytest.raises(ValueError, match=message):
        ISNetConfig(**{field: value})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exports_to_onnx():
    network = ISNet(SMALL).eval()
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
    network = ISNet(SMALL).train()
    twin = ISNet(SMALL)
    twin.load_state_dict(network.state_dict())
    image, mask = (t.float() for t in example())
    found, truth = torch.compile(twin)(image, mask), network(image, mask)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-5)
    found.sum().backward()
    settled = dict(network.named_buffers())
    for key, value in twin.named_buffers():
        torch.testing.assert_close(value, settled[key], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_overfits_four_pictures(faces, record_property):
    image = faces(4, 64)
    rng = np.random.default_rng(0)
    mask = np.stack([with_share(rng, (64, 64), 0.22, 0.28) for _ in image])
    mask = torch.from_numpy(mask)[:, None].float()
    network = ISNet(ISNetConfig(width=8, blocks=1, init_std=0.02)).train()
    steps = 1500
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        l1_per_share(network(image, mask), image, mask.mean()).backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        error = (network.eval()(image, mask) - image).square() * mask
    psnr = -10 * float((error.sum() / mask.sum() / 3).log10())
    record_property("psnr", psnr)
    assert psnr > 28, f"{psnr:.2f} dB"


def test_released_kernels_start_as_the_same_function_and_come_back_from_a_file(tmp_path: Path):
    config = replace(SMALL, isometric=True)
    torch.manual_seed(0)
    spectral = ISNet(config).eval()
    torch.manual_seed(0)
    plain = ISNet(replace(config, spectral=False)).eval()
    assert not [key for key in plain.state_dict() if key.endswith((".u", ".v"))]
    image, mask = (x.float() for x in example())
    assert torch.equal(plain(image, mask), spectral(image, mask))
    header = Header(network="isnet", config={**CARD.small, "spectral": False})
    path = tmp_path / "isnet-plain.safetensors"
    files.save(path, header, plain.state_dict())
    _, loaded = files.load(path)
    assert torch.equal(loaded.eval()(image, mask), plain(image, mask))
