"""What every network promises. A new file in `models/` is tested here without an edit."""

import inspect
import itertools
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from retouch import models, recipe
from retouch.data.batch import Batch
from retouch.layers.vgg import VGG19
from retouch.weights import files

pytestmark = pytest.mark.parametrize("name", models.names())


def small(name: str) -> nn.Module:
    """The network at reduced width, past its first (often zero) outputs."""
    torch.manual_seed(0)
    facts = models.card(name)
    return facts.model(facts.config(**facts.small)).eval()


def side_of(name: str) -> int:
    facts = models.card(name)
    return facts.fixed_size or max(facts.min_size, 32, 2 * facts.multiple_of)


def example(name: str, count: int = 2) -> tuple[Tensor, Tensor]:
    facts, side = models.card(name), side_of(name)
    width = side if facts.fixed_size else side + facts.multiple_of
    image = torch.rand(count, 3, side, width)
    mask = torch.zeros(count, 1, side, width)
    for index in range(count):
        mask[index, :, side // 4 : side // 2 + index, side // 4 : side // 2 + 2 * index] = 1
    return image, mask


def test_is_one_file_that_can_be_read_beside_the_paper(name: str):
    path = Path(inspect.getfile(models.card(name).model))
    assert path.name == f"{name}.py"
    assert len(path.read_text("utf-8").splitlines()) < 400


def test_keeps_shape_dtype_and_range(name: str):
    image, mask = example(name)
    with torch.inference_mode():
        prediction = small(name)(image, mask)
    assert prediction.shape == image.shape
    assert prediction.dtype == image.dtype
    assert prediction.min() >= 0
    assert prediction.max() <= 1


def test_ignores_what_is_under_the_mask(name: str):
    network = small(name)
    image, mask = example(name)
    other = image * (1 - mask) + torch.rand_like(image) * mask
    with torch.inference_mode():
        assert torch.equal(network(image, mask), network(other, mask))


def test_samples_of_a_batch_do_not_mix(name: str):
    network = small(name)
    image, mask = example(name)
    with torch.inference_mode():
        together = network(image, mask)
        alone = torch.cat([network(image[i : i + 1], mask[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


def test_every_live_parameter_gets_a_gradient(name: str):
    facts = models.card(name)
    network = small(name).train()
    idle = {key for key, p in network.named_parameters() if p.requires_grad}
    image, mask = example(name)
    labels = torch.zeros(image.shape[0], *image.shape[-2:], dtype=torch.long)
    batch = Batch(image=image, mask=mask, hole_share=mask.mean(), labels=labels)
    for objective in objectives(facts):
        network.zero_grad()
        outputs = objective.predict(network, batch)
        terms = objective.generator_terms(outputs, batch)
        torch.stack([value.float() for value in terms.values()]).sum().backward()
        trained = getattr(objective, "trainable", lambda n: list(n.parameters()))(network)
        chosen = {id(p) for p in trained}
        got = {k for k, p in network.named_parameters() if id(p) in chosen and p.grad is not None}
        idle -= got
    assert not idle


def objectives(facts: models.Card) -> list[nn.Module]:
    """One per training stage, with slim VGG features."""
    config = facts.objective_config
    stages = getattr(config, "STAGES", (None,))
    slim = VGG19((4, 8, 16, 32, 32))
    return [
        facts.objective(config() if stage is None else config(stage=stage), slim)
        for stage in stages
    ]


def test_generator_terms_and_weights_have_the_same_names(name: str):
    facts = models.card(name)
    network = small(name).train()
    image, mask = example(name)
    labels = torch.zeros(image.shape[0], *image.shape[-2:], dtype=torch.long)
    batch = Batch(image=image, mask=mask, hole_share=mask.mean(), labels=labels)
    for objective in objectives(facts):
        outputs = objective.predict(network, batch)
        terms = objective.generator_terms(outputs, batch)
        assert set(terms) <= set(objective.config.weights)
        assert all(value.ndim == 0 and value.isfinite() for value in terms.values())
        for value in objective.critic_terms(outputs, batch).values():
            assert value.ndim == 0
            assert value.requires_grad


def test_weight_file_round_trip(name: str, tmp_path: Path):
    network = small(name)
    header = files.Header(network=name, config=dict(models.card(name).small), name=f"{name}-test")
    files.save(tmp_path / "w.safetensors", header, network.state_dict())
    read, again = files.load(tmp_path / "w.safetensors")
    assert read == recipe.structure(recipe.plain(header), files.Header, where="test")
    image, mask = example(name)
    with torch.inference_mode():
        assert torch.equal(network(image, mask), again(image, mask))


def test_bf16_stays_close_to_float32(name: str):
    network = small(name)
    image, mask = example(name)
    with torch.inference_mode():
        exact = network(image, mask)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(image, mask)
    assert rough.float().isfinite().all()
    assert (exact - rough.float()).abs().mean() < 0.02


@pytest.mark.slow  # 10 to 30 s each, most of it the C++ compiler's
def test_compiles_as_one_graph(name: str):
    if shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    network = small(name)
    image, mask = example(name)
    torch.compiler.reset()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(image, mask)
        found = torch.compile(network, fullgraph=True)(image, mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow  # 5 to 30 s each
def test_runs_as_an_onnx_file(name: str, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = small(name)
    image, mask = example(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(network, (image, mask), dynamo=True, verbose=False)
    assert program is not None
    program.save(str(tmp_path / "network.onnx"))
    session = onnxruntime.InferenceSession(
        str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (image.numpy(), mask.numpy()), strict=True)))
    with torch.inference_mode():
        expected = network(image, mask)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


def test_card_is_complete(name: str):
    facts = models.card(name)
    assert facts.paper
    assert facts.license
    assert facts.tasks
    for key, importer in itertools.chain(facts.official.items()):
        assert key
        assert importer.what
    assert not any(importer.recognise({}) for importer in facts.official.values())
