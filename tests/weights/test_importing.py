"""Official checkpoints come in through the door that people use, and paint as the official code.

The files are written here from the parity recipe as the authors' tools write them: wrapped in
`generator`, `gen` or `state_dict`, with `module.` before the names, in PyTorch's or TensorFlow's
format.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from retouch import models, segmentation
from retouch.weights import files, importing, named, official, segmenters
from retouch.weights import store as weight_store

Wrap = Callable[[dict[str, Tensor]], Mapping[str, Any]]


def bare(state: dict[str, Tensor]) -> Mapping[str, Any]:
    return state


def parallel(state: dict[str, Tensor]) -> Mapping[str, Any]:
    return {"generator": {f"module.{key}": value for key, value in state.items()}, "iteration": 7}


def lightning(state: dict[str, Tensor]) -> Mapping[str, Any]:
    return {"state_dict": {f"generator.{key}": value for key, value in state.items()}, "epoch": 3}


CASES = (
    ("isnet_b1", "isnet", parallel, "out_64x64"),
    ("semnet_reduced", "semnet", lightning, "out_64x64"),
    ("pennet", "srpnet", bare, "out_64x64"),
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    monkeypatch.setenv("RETOUCH_WEIGHTS", str(folder))
    return folder


@pytest.mark.parametrize(("case", "network", "wrap", "key"), CASES, ids=[c[0] for c in CASES])
def test_an_official_file_paints_as_the_official_code(
    parity: Any, store: Path, tmp_path: Path, case: str, network: str, wrap: Wrap, key: str
):
    file = tmp_path / "Gen_00007.pth"
    torch.save(wrap(parity.official(case)), file)
    found = importing.bring_in(file, name=f"{network}-official")
    assert found.path == store / f"{network}-official.safetensors"
    assert found.what
    header, loaded = named.load(f"{network}-official")
    assert header.network == network
    assert header.source is not None
    assert header.source["file"] == file.name
    image = parity.picture("image", height=64, width=64)
    name, share = ("pennet/mask", 0.12) if case == "pennet" else ("mask", 0.3)
    mask = parity.holes(name, height=64, width=64, share=share)
    with torch.inference_mode():
        painted = loaded(image, mask)
    truth = load_file(parity.folder / f"{case}.safetensors")
    oracle = truth.get(f"{key}.f64", truth.get(key))
    signed = network == "srpnet"
    assert parity.error(painted * 2 - 1 if signed else painted, oracle) < 2e-5


def test_a_face_parser_comes_in_and_labels_as_the_official_code(
    parity: Any, store: Path, tmp_path: Path
):
    file = tmp_path / "79999_iter.pth"
    torch.save(parity.official("bisenet19"), file)
    found = importing.bring_in(file, name="bisenet-celebamask")
    assert found.path.parent == store
    assert segmenters.load("bisenet-celebamask", "faces").config.size == 512
    header, state = files.read(found.path)
    network = segmentation.build("bisenet", **{**header.config, "size": None}).eval()
    network.load_state_dict(state)
    truth = load_file(parity.folder / "bisenet19.safetensors")
    with torch.inference_mode():
        logits = network(parity.picture("image", height=128, width=128))[..., 40:88, 40:88]
    skin, hat = 1, 18  # the authors' places; ours are CelebAMask-HQ's own
    ours = [segmentation.label_set("faces").index(name) for name in ("skin", "hat")]
    oracle = truth["logits_crop.f64"][:, [skin, hat]]
    assert parity.error(logits[:, ours], oracle) < 2e-5


def keep_bisenet(place: Path, labels: str) -> None:
    card = files.card_of("bisenet", "here")
    config = {**card.small, "labels": labels}
    header = files.Header(network="bisenet", config=config)
    files.save(place, header, card.model(card.config(**config)).state_dict())


def test_the_name_leads_to_a_network_with_its_segmenter(store: Path):
    torch.manual_seed(0)
    path = store / "outdoor-scenes.safetensors"
    keep_bisenet(path, "outdoor")
    config = {"channels": 4, "hidden": 8, "labels": "outdoor", "segmenter": "not-at-hand"}
    painter = models.build("semantic", **config)
    header = files.Header(network="semantic", config=config, name="semantic-outdoor")
    files.save(store / "semantic-outdoor.safetensors", header, painter.state_dict())
    _, loaded = named.load("semantic-outdoor")
    assert isinstance(loaded.segmenter, files.card_of("bisenet", "here").model)
    assert "outdoor-scenes" not in named.available()
    path.unlink()
    _, alone = named.load("semantic-outdoor")
    assert alone.segmenter is None


def test_the_best_segmenter_at_hand_is_taken(store: Path):
    best, small = segmenters.DEFAULTS["faces"]
    keep_bisenet(store / f"{small}.safetensors", "faces")
    assert segmenters.default("faces") == small
    keep_bisenet(store / f"{best}.safetensors", "faces")
    assert segmenters.default("faces") == best
    assert segmenters.default("street") == "bisenet-camvid"


def test_a_segmenter_of_other_labels_is_refused(store: Path):
    card = files.card_of("bisenet", "here")
    config = {**card.small, "labels": "street"}
    header = files.Header(network="bisenet", config=config)
    network = card.model(card.config(**config))
    files.save(store / "bisenet-camvid.safetensors", header, network.state_dict())
    with pytest.raises(files.WeightsError, match="labels street, faces is needed"):
        segmenters.load("bisenet-camvid", "faces")


def test_strangers_are_named(store: Path, tmp_path: Path):
    file = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(3, 3)}, file)
    with pytest.raises(files.WeightsError, match=r"no known kind.*conv\.weight.*Known: "):
        importing.bring_in(file)
    assert not list(store.glob("*"))
    save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(files.WeightsError, match="no known kind"):
        importing.bring_in(tmp_path / "plain.safetensors")
    with pytest.raises(files.WeightsError, match="does not exist"):
        importing.bring_in(tmp_path / "absent.pth")
    assert official.read(file).keys() == {"conv.weight"}


def test_weights_are_listed_by_what_they_do(store: Path):
    config = {"channels": 4, "blocks": [1, 1, 1, 1], "task": "deblur"}
    network = models.build("semnet", **config)
    header = files.Header(network="semnet", config=config, name="semnet-sharp")
    files.save(store / "semnet-sharp.safetensors", header, network.state_dict())
    assert "semnet-sharp" in named.available()
    assert "semnet-sharp" in named.available("deblur")
    assert "semnet-sharp" not in named.available("inpaint")
    assert named.DEFAULT in named.available("inpaint")
    assert named.DEFAULT not in named.available("deblur")


def test_a_checkout_is_found_from_inside_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "checkout" / "weights"
    folder.mkdir(parents=True)
    (folder / "sharp.safetensors").touch()
    monkeypatch.chdir(folder.parent)
    assert "sharp" not in weight_store.own()
    (folder / "manifest.json").write_text('{"weights": []}')
    assert weight_store.own()["sharp"].samefile(folder / "sharp.safetensors")
