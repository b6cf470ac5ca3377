"""BiSeNet against zllrunning/face-parsing.PyTorch @ d2e684c on recipe weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from official_fixtures import relative_error
from retouch import segmentation
from retouch.segmentation.bisenet import CARD, BiSeNet, BiSeNetConfig

GOLDEN = Path(__file__).parents[1] / "goldens" / "bisenet.safetensors"
(IMPORTER,) = CARD.official.values()
# CelebAMask-HQ's label of each class of the public file
ORDER = [0, 1, 6, 7, 4, 5, 3, 8, 9, 15, 2, 10, 11, 12, 17, 16, 18, 13, 14]


def build(official: dict[str, Tensor]) -> BiSeNet:
    assert IMPORTER.recognise(official)
    fields, state = IMPORTER.convert(official)
    assert fields["size"] == 512
    network = BiSeNet(BiSeNetConfig(**{**fields, "size": None}))
    network.load_state_dict(state)
    return network.eval()


def test_matches_the_official_network(parity: Any):
    official = parity.official("bisenet19")
    truth = load_file(parity.folder / "bisenet19.safetensors")
    network = build(official)
    assert len(network.state_dict()) == len(official) == 191
    assert sum(p.numel() for p in network.parameters()) == 13_300_416
    image = parity.picture("image", height=128, width=128)
    with torch.inference_mode():
        heads = network.heads(image)
        logits = heads.logits[:, ORDER]
        assert torch.equal(network(image), heads.logits)
    assert heads.logits16 is not None
    assert heads.logits32 is not None
    assert relative_error(logits[..., 40:88, 40:88], truth["logits_crop.f64"]) < 2e-5
    assert relative_error(heads.logits16[:, ORDER, ::16, ::16], truth["logits16_8x8.f64"]) < 2e-5
    assert relative_error(heads.logits32[:, ORDER, ::16, ::16], truth["logits32_8x8.f64"]) < 2e-5
    assert relative_error(logits.mean((0, 2, 3)), truth["logits_mean_std"][0]) < 2e-5
    sure = truth["margin"].float() > 1e-3
    assert torch.equal(logits.argmax(1)[0][sure], truth["argmax"][sure].long())


def test_matches_the_golden():
    golden = load_file(GOLDEN)
    official = {k.removeprefix("state."): v.float() for k, v in golden.items() if "state." in k}
    with torch.inference_mode():
        heads = build(official).heads(golden["image"].float())
    for name in ("logits", "logits16", "logits32"):
        found = getattr(heads, name)[:, ORDER, ::8, ::8]
        assert relative_error(found, golden[name]) < 2e-5


def test_classes_come_in_the_data_sets_order():
    network = BiSeNet(BiSeNetConfig(channels=4))
    official = {
        "cp.resnet.conv1.weight": network.backbone.stem.conv.weight,
        "conv_out.conv_out.weight": torch.arange(19.0).view(19, 1, 1, 1),
    }
    _, state = IMPORTER.convert(official)
    rows = state["head.classifier.weight"].flatten().long().tolist()
    faces = segmentation.label_set("faces")
    # nose, hair, hat and eyeglasses are rows 10, 17, 18 and 6 of the public file
    for name, row in (("nose", 10), ("hair", 17), ("hat", 18), ("eyeglasses", 6), ("neck", 14)):
        assert rows[faces.index(name)] == row
    with pytest.raises(ValueError, match="19 classes, this file 7"):
        IMPORTER.convert({"conv_out.conv_out.weight": torch.zeros(7, 1, 1, 1)})


@pytest.mark.parametrize("size", [(64, 64), (65, 97)])
@pytest.mark.parametrize("working", [None, 64])
def test_labels_any_size(size: tuple[int, int], working: int | None):
    network = BiSeNet(BiSeNetConfig(labels="facades", channels=4, size=working)).eval()
    with torch.inference_mode():
        logits = network(torch.rand(1, 3, *size))
    assert logits.shape == (1, 12, *size)


def test_state_dict_holds_every_buffer():
    network = BiSeNet(BiSeNetConfig(channels=4))
    assert {name for name, _ in network.named_buffers()} <= network.state_dict().keys()


@pytest.mark.parametrize("fields", [{"labels": "cats"}, {"channels": 0}, {"size": 8}])
def test_nonsense_is_refused(fields: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(fields))):
        BiSeNetConfig(**fields)  # pyright: ignore[reportArgumentType]


def test_registry_lists_the_known():
    assert segmentation.names() == ("bisenet", "outdoor")
    with pytest.raises(KeyError, match="bisenet, outdoor"):
        segmentation.card("unet")
