"""The semantic network against Mark-Yu1/Interactive-Image-Inpainting @ 3cf442a, and by itself.

The golden holds random float16 weights of a reduced network (the first stage under its official
names) and outputs of our float64 run, written after the full-width fixtures agreed.
"""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from official_fixtures import relative_error
from retouch.data.batch import Batch
from retouch.layers.vgg import VGG19
from retouch.models._semantic_objective import (
    SemanticCritic,
    SemanticObjective,
    SemanticObjectiveConfig,
    critic_from_official,
)
from retouch.models.semantic import CARD, ESPA, SPADE, Semantic, SemanticConfig
from retouch.segmentation.bisenet import BiSeNet, BiSeNetConfig

GOLDEN = Path(__file__).parents[1] / "goldens" / "semantic.safetensors"
(IMPORTER,) = CARD.official.values()
SMALL = SemanticConfig(**CARD.small)


def example(count: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Picture, hole and label map from formulas."""
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    wave = [torch.sin(x / (9 + c) + y / (17 - c)) * torch.cos(y / (23 + c)) for c in range(3)]
    image = (torch.stack(wave) / 2 + 0.5).repeat(count, 1, 1, 1)
    mask = ((x - 130) ** 2 / 70**2 + (y - 110) ** 2 / 50**2 < 1).float().repeat(count, 1, 1, 1)
    labels = ((x / 60).long() + 5 * (y / 80).long()).repeat(count, 1, 1)
    return image, mask, labels


# -- against the official code ----------------------------------------------------------------


@pytest.mark.parametrize("channels", [32, 64])
def test_first_stage_matches_the_official_network(parity: Any, recipe: Any, channels: int):
    case = f"espa_generator_ngf{channels}"
    official = parity.official(case)
    truth = load_file(parity.folder / f"{case}.safetensors")
    assert len(official) == 41
    assert IMPORTER.recognise(official)
    fields, state = IMPORTER.convert(official)
    assert fields == {"channels": channels, "espa": True, "guided": False}
    network = Semantic(SemanticConfig(**fields)).eval()
    network.load_state_dict(state)
    expected = {32: 1_481_635, 64: 5_815_107}[channels]
    assert sum(p.numel() for p in network.parameters()) == expected
    image = torch.from_numpy(recipe.picture("image", 256, 256)).permute(2, 0, 1)[None].float() / 255
    mask = torch.from_numpy(recipe.holes("mask", 256, 256))[None, None]
    with torch.inference_mode():
        encoded = network.encode(image, mask)
        assert torch.equal(network(image, mask), encoded.coarse)
    coarse = encoded.coarse * 2 - 1
    pooled = truth["coarse_mean_4x4.f64"]
    assert relative_error(coarse[..., 128:224, 88:184], truth["coarse_crop.f64"]) < 2e-5
    cell = 256 // pooled.shape[-1]
    assert relative_error(functional.avg_pool2d(coarse, cell), pooled) < 2e-5
    crop = encoded.feature[..., 36:52, 28:44]
    assert relative_error(crop, truth["feature_crop.f64"]) < 2e-5
    assert relative_error(encoded.feature.mean((0, 2, 3)), truth["feature_mean_std"][0]) < 2e-5


def test_espa_alone_matches_the_official_one(parity: Any, recipe: Any):
    _, state = IMPORTER.convert(parity.official("espa_generator_ngf32"))
    espa = ESPA(128)
    prefix = "encoder.espa."
    espa.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if prefix in k})
    truth = load_file(parity.folder / "espa_alone.safetensors")
    query = torch.from_numpy(recipe.normal("espa/query", (1, 128, 64, 64)).astype("float32"))
    with torch.inference_mode():
        found = espa(query)
    assert relative_error(found[..., 20:36, 20:28], truth["out_crop.f64"]) < 2e-5
    assert relative_error(found.mean(2), truth["rows_mean.f64"]) < 2e-5


def test_critic_matches_the_official_one(parity: Any, recipe: Any):
    critic = SemanticCritic()
    critic.load_state_dict(critic_from_official(parity.official("espa_dis")))
    assert sum(p.numel() for p in critic.parameters()) == 2_764_736
    truth = load_file(parity.folder / "espa_dis.safetensors")
    image = torch.from_numpy(recipe.picture("image", 256, 256)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        assert relative_error(critic(image), truth["out.f64"]) < 2e-5


def test_matches_the_golden():
    golden = load_file(GOLDEN)
    official = {k.removeprefix("first."): v.float() for k, v in golden.items() if "first." in k}
    second = {k.removeprefix("second."): v.float() for k, v in golden.items() if "second." in k}
    fields, first = IMPORTER.convert(official)
    network = Semantic(SemanticConfig(**{**fields, "guided": True, "hidden": 4})).eval()
    network.load_state_dict(first | {f"decoder.{k}": v for k, v in second.items()})
    image, mask, labels = example(1)
    with torch.inference_mode():
        encoded = network.encode(image, mask)
        fine = network.decode(encoded, labels)
    assert relative_error(encoded.coarse[..., ::8, ::8], golden["coarse"]) < 2e-5
    assert relative_error(encoded.feature[..., ::4, ::4], golden["feature"]) < 2e-5
    assert relative_error(fine[..., ::8, ::8], golden["fine"]) < 2e-5


# -- parts ------------------------------------------------------------------------------------


def test_espa_is_eq_3():
    espa = ESPA(6, length=8).double()
    x = torch.randn(2, 6, 8, 8, dtype=torch.double)
    normed = functional.layer_norm(x.movedim(1, -1), (6,)).movedim(-1, 1)  # (b, c, h, w)

    def memory(first: Tensor, second: Tensor, column: Tensor) -> Tensor:
        return second @ functional.gelu(first @ column)

    rows = memory(espa.key.first.weight, espa.key.second.weight, normed)  # mixes h
    columns = memory(espa.value.first.weight, espa.value.second.weight, rows.transpose(2, 3))
    torch.testing.assert_close(espa(x), columns.transpose(2, 3))


def test_spade_is_its_formula():
    spade = SPADE(5, 3, 7).double()
    x = torch.randn(2, 5, 9, 9, dtype=torch.double)
    guide = functional.one_hot(torch.randint(0, 3, (2, 9, 9)), 3).movedim(-1, 1).double()
    hidden = spade.shared(guide).clamp(min=0)
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    expected = (x - mean) / (variance + 1e-5).sqrt() * (1 + spade.scale(hidden))
    torch.testing.assert_close(spade(x, guide), expected + spade.shift(hidden))


@pytest.mark.parametrize(
    ("channels", "hidden", "expected"),
    [(32, 128, 3_247_587), (32, 64, 1_994_723), (64, 128, 7_751_619)],
)
def test_decoder_has_the_parameters_of_the_design(channels: int, hidden: int, expected: int):
    with torch.device("meta"):
        network = Semantic(SemanticConfig(channels=channels, hidden=hidden))
    assert network.decoder is not None
    assert sum(p.numel() for p in network.decoder.parameters()) == expected


def test_edit_needs_the_decoder_only():
    network = Semantic(SMALL).eval()
    image, mask, labels = example()
    with torch.inference_mode():
        encoded = network.encode(image, mask)
        network.encoder.forward = None  # pyright: ignore[reportAttributeAccessIssue]
        before = network.decode(encoded, labels)
        labels[:, 100:140, 100:160] = 13
        after = network.decode(encoded, labels)
    assert not torch.equal(before, after)


def test_unknown_labels_guide_nothing():
    network = Semantic(SMALL).eval()
    image, mask, labels = example()
    with torch.inference_mode():
        encoded = network.encode(image, mask)
        void = network.decode(encoded, torch.full_like(labels, 255))
        other = network.decode(encoded, torch.full_like(labels, 19))
    assert torch.equal(void, other)


def test_without_espa_any_multiple_of_four():
    network = Semantic(SemanticConfig(channels=4, hidden=8, espa=False)).eval()
    assert not [key for key in network.state_dict() if "espa" in key or "context" in key]
    image, mask = torch.rand(1, 3, 44, 60), torch.zeros(1, 1, 44, 60)
    with torch.inference_mode():
        assert network(image, mask, torch.zeros(1, 44, 60).long()).shape == image.shape
        with pytest.raises(ValueError, match="multiples of 4, got 42x60"):
            network(image[:, :, :42], mask[:, :, :42])


def test_mistakes_are_told():
    network = Semantic(SemanticConfig(channels=4, hidden=8))
    image, mask, labels = example(1)
    with pytest.raises(ValueError, match="256x256 pictures only, got 128x256"):
        network(image[:, :, :128], mask[:, :, :128])
    with pytest.raises(ValueError, match="load a segmenter"):
        network(image, mask)
    with pytest.raises(ValueError, match=r"labels must be \(1, 256, 256\), got \(1, 1, 256, 256\)"):
        network(image, mask, labels[None])
    network.segmenter = BiSeNet(BiSeNetConfig(labels="street", channels=2))
    with pytest.raises(ValueError, match="faces has 19 classes, the segmenter 11"):
        network(image, mask)
    first = Semantic(SemanticConfig(channels=4, guided=False))
    with pytest.raises(ValueError, match="guided = false"):
        first.decode(first.encode(image, mask), labels)


@pytest.mark.parametrize("fields", [{"channels": 5}, {"hidden": 0}, {"labels": "cats"}])
def test_nonsense_is_refused(fields: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(fields))):
        SemanticConfig(**fields)


# -- the segmenter ----------------------------------------------------------------------------


def test_segmenter_is_a_guest():
    network = Semantic(SemanticConfig(channels=4, hidden=8, labels="facades"))
    keys, count = set(network.state_dict()), len(list(network.parameters()))
    guest = BiSeNet(BiSeNetConfig(labels="facades", channels=2))
    network.segmenter = guest
    assert network.segmenter is guest
    assert set(network.state_dict()) == keys
    assert len(list(network.parameters())) == count
    network.train().double()
    assert not guest.training
    assert all(not p.requires_grad for p in guest.parameters())
    assert guest.backbone.stem.conv.weight.dtype == torch.double


def test_labels_are_proposed_from_the_composited_coarse_fill():
    network = Semantic(SMALL).eval()
    image, mask, _ = example(1)
    with torch.inference_mode():
        encoded = network.encode(image, mask)
        labels = network.label(encoded.coarse * mask + image * (1 - mask))
        assert torch.equal(network(image, mask), network.decode(encoded, labels))
    assert labels.dtype == torch.int64
    assert len(labels.unique()) > 1


# -- the objective ----------------------------------------------------------------------------


def batch_of(count: int = 2, *, with_labels: bool = True) -> Batch:
    image, mask, labels = example(count)
    chosen = labels if with_labels else None
    return Batch(image=image, mask=mask, hole_share=mask.mean(), labels=chosen)


@pytest.mark.parametrize("stage", ["coarse", "fine", "joint"])
def test_stages_train_their_parts(stage: Any):
    network = Semantic(SMALL).train()
    objective = SemanticObjective(
        SemanticObjectiveConfig(stage=stage, critic_channels=4), VGG19((2, 2, 2, 2, 2))
    )
    batch = batch_of()
    outputs = objective.predict(network, batch)
    terms = objective.generator_terms(outputs, batch)
    coarse, fine = {"coarse_l1", "coarse_content"}, {"l1", "content", "adversarial"}
    assert set(terms) == {"coarse": coarse, "fine": fine, "joint": coarse | fine}[stage]
    torch.stack(list(terms.values())).sum().backward()
    reached = {key for key, p in network.named_parameters() if p.grad is not None}
    ids = {id(p) for p in objective.trainable(network)}
    assert reached == {key for key, p in network.named_parameters() if id(p) in ids}
    assert set(objective.critics) == (set() if stage == "coarse" else {"critic"})
    assert set(objective.critic_terms(outputs, batch)) == set(objective.critics)


def test_terms_are_the_papers():
    objective = SemanticObjective(SemanticObjectiveConfig(critic_channels=4))
    network = Semantic(SMALL)
    batch = batch_of()
    with torch.no_grad():
        outputs = objective.predict(network, batch)
        terms = objective.generator_terms(outputs, batch)
        critic = objective.critics["critic"]
        assert outputs.fine is not None
        real, fake = critic(batch.image), critic(outputs.fine)
        judged = objective.critic_terms(outputs, batch)["critic"]
    assert set(terms) == {"coarse_l1", "l1", "adversarial"}  # no features, no content
    torch.testing.assert_close(terms["adversarial"], ((fake - 1) ** 2).mean())
    torch.testing.assert_close(judged, ((real - 1) ** 2).mean() + (fake**2).mean())
    torch.testing.assert_close(terms["coarse_l1"], (outputs.coarse - batch.image).abs().mean())
    torch.testing.assert_close(terms["l1"], (outputs.fine - batch.image).abs().mean())


def test_content_sees_normalised_pictures():
    features = VGG19((2, 2, 2, 2, 2))
    objective = SemanticObjective(SemanticObjectiveConfig(stage="coarse"), features)
    network = Semantic(SemanticConfig(channels=4, guided=False))
    batch = batch_of(1)
    with torch.no_grad():
        outputs = objective.predict(network, batch)
        found = objective.generator_terms(outputs, batch)["coarse_content"]
        mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
        deviation = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
        names = [f"relu{i}_1" for i in range(1, 6)]
        a, b = (
            features((picture - mean) / deviation, names)
            for picture in (outputs.coarse, batch.image)
        )
        expected = torch.stack([((a[k] - b[k]) ** 2).mean() for k in names]).sum()
    torch.testing.assert_close(found, expected)


def test_missing_labels_come_from_the_segmenter():
    network = Semantic(SMALL)
    objective = SemanticObjective(SemanticObjectiveConfig(stage="fine", critic_channels=4))
    with torch.no_grad():
        outputs = objective.predict(network, batch_of(with_labels=False))
    assert outputs.fine is not None
    network.segmenter = None
    with pytest.raises(ValueError, match="load a segmenter"):
        objective.predict(network, batch_of(with_labels=False))


def test_proposed_maps_are_those_of_a_fill_without_a_map():
    network = Semantic(SMALL).eval()
    network.segmenter = nn.Conv2d(3, len(network.label_set), 1)
    batch = batch_of(8)

    def fine(share: float, seed: int = 0) -> Tensor:
        torch.manual_seed(seed)
        config = SemanticObjectiveConfig(critic_channels=4, proposed=share)
        found = SemanticObjective(config).predict(network, batch).fine
        assert found is not None
        return found

    with torch.no_grad():
        own, given = network(batch.image, batch.mask), fine(0)
        torch.testing.assert_close(fine(1), own)
        torch.testing.assert_close(given, network(batch.image, batch.mask, batch.labels))
        mixed = fine(0.5)
    alike = [
        [torch.allclose(a, b, atol=1e-6) for a, b in zip(mixed, which, strict=True)]
        for which in (own, given)
    ]
    assert all(a != b for a, b in zip(*alike, strict=True))  # each is one or the other
    assert any(alike[0])
    assert any(alike[1])


def test_proposals_need_a_segmenter():
    with pytest.raises(ValueError, match=r"proposed must lie in \[0, 1\], got 2"):
        SemanticObjectiveConfig(proposed=2)
    objective = SemanticObjective(SemanticObjectiveConfig(critic_channels=4, proposed=0.5))
    network = Semantic(SMALL)
    network.segmenter = None
    with pytest.raises(ValueError, match=r"name one in model\.segmenter"):
        objective.trainable(network)


def test_stage_must_fit_the_network():
    with pytest.raises(ValueError, match="stage must be coarse, fine or joint"):
        SemanticObjectiveConfig(stage="late")  # pyright: ignore[reportArgumentType]
    objective = SemanticObjective(SemanticObjectiveConfig(stage="fine", critic_channels=4))
    with pytest.raises(ValueError, match="guided = true"):
        objective.trainable(Semantic(SemanticConfig(channels=4, guided=False)))


# -- export -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiles_with_labels():
    network = Semantic(SMALL).eval()
    arguments = example(1)
    with torch.inference_mode():
        expected = network(*arguments)
        found = torch.compile(network, fullgraph=True)(*arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own exporter and compiler warn
def test_exports_to_onnx_with_labels(tmp_path: Path):
    network = Semantic(SMALL).eval()
    arguments = example(1)
    names = ["image", "mask", "labels"]
    path = tmp_path / "semantic.onnx"
    torch.onnx.export(network, arguments, path, input_names=names, dynamo=True)
    session = onnxruntime.InferenceSession(path)
    inputs = {name: value.numpy() for name, value in zip(names, arguments, strict=True)}
    (found,) = session.run(None, inputs)
    with torch.inference_mode():
        expected = network(*arguments)
    torch.testing.assert_close(torch.as_tensor(np.asarray(found)), expected, rtol=0, atol=1e-4)


# -- learning ---------------------------------------------------------------------------------


def faces(shared: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first labelled faces of the mini set."""
    images, labels = [], []
    with tarfile.open(shared / "data" / "celebamask_mini" / "train-000.tar") as archive:
        keys = sorted(name for name in archive.getnames() if name.endswith(".jpg"))[:count]
        for key in keys:
            for name, found in ((key, images), (key.replace(".jpg", ".label.png"), labels)):
                file = archive.extractfile(name)
                assert file is not None
                found.append(torch.from_numpy(np.array(Image.open(io.BytesIO(file.read())))))
    return torch.stack(images).permute(0, 3, 1, 2).float() / 255, torch.stack(labels).long()


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
def test_overfits_four_pictures(shared: Path, record_property):
    image, labels = faces(shared, 4)
    mask = freeform(4, 0.25)
    network = Semantic(SemanticConfig(channels=8, hidden=16)).train()
    objective = SemanticObjective(SemanticObjectiveConfig(critic_channels=2))
    batch = Batch(image=image, mask=mask, hole_share=mask.mean(), labels=labels)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=600)
    psnr = 0.0
    for _ in range(600):
        outputs = objective.predict(network, batch)
        terms = objective.generator_terms(outputs, batch)
        optimizer.zero_grad()
        (terms["coarse_l1"] + terms["l1"]).backward()
        optimizer.step()
        schedule.step()
        assert outputs.fine is not None
        error = (outputs.fine.detach() - image).square() * mask
        psnr = -10 * float((error.sum() / mask.sum() / 3).log10())
    record_property("psnr", psnr)
    assert psnr > 28, f"{psnr:.2f} dB"
