"""MobileSAM: the published file's keys fit, every parameter works, prompts do what they say."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from retouch.segmentation.mobilesam import (
    BESIDE,
    BOTTOM_RIGHT,
    INSIDE,
    OFFICIAL,
    TOP_LEFT,
    MobileSAM,
    MobileSAMConfig,
)
from retouch.segmentation.tinyvit import WindowAttention

KEYS = Path(__file__).parents[1] / "goldens" / "mobile_sam.keys.json"
SMALL = MobileSAMConfig(
    side=96,
    channels=(8, 16, 24, 32),
    blocks=(1, 1, 2, 1),
    heads=(1, 2, 3, 4),
    windows=(7, 7, 4, 5),
    embedding=32,
    perceptron=24,
)


@pytest.fixture
def network() -> MobileSAM:
    torch.manual_seed(0)
    return MobileSAM(SMALL).eval()


def test_every_key_of_the_published_file_has_its_place():
    shapes = json.loads(KEYS.read_text())
    official = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert OFFICIAL.recognise(official)
    config, state = OFFICIAL.convert(official)
    with torch.device("meta"):
        network = MobileSAM(MobileSAMConfig(**config))
    network.load_state_dict(state, assign=True)
    dead = sum(value.numel() for key, value in official.items() if "head." in key[:24])
    own = sum(value.numel() for value in network.state_dict().values())
    assert own == sum(value.numel() for value in official.values()) - dead
    assert not OFFICIAL.recognise({"conv.weight": torch.empty(1)})


@pytest.mark.parametrize("size", [(96, 96), (50, 96), (96, 1)])
def test_shapes(network: MobileSAM, size: tuple[int, int]):
    embedding = network.encode(torch.rand(2, 3, *size))
    assert embedding.shape == (2, 32, 6, 6)
    places, kinds = torch.rand(2, 3, 2) * 90, torch.tensor([[INSIDE, BESIDE, INSIDE]] * 2)
    guesses = network.decode(embedding, places, kinds)
    assert guesses.logits.shape == (2, 4, 24, 24)
    assert guesses.quality.shape == (2, 4)
    again = network.decode(embedding, places, kinds, guesses.logits[:, :1])
    assert again.logits.shape == (2, 4, 24, 24)
    with pytest.raises(ValueError, match="longer side must be 96"):
        network.encode(torch.rand(1, 3, 20, 30))


def test_every_parameter_works(network: MobileSAM):
    embedding = network.encode(torch.rand(1, 3, 64, 96))
    places = torch.tensor([[[5.0, 9.0], [60.0, 20.0], [2.0, 2.0], [80.0, 60.0]]])
    box = torch.tensor([[INSIDE, BESIDE, TOP_LEFT, BOTTOM_RIGHT]])
    first = network.decode(embedding, places[:, :2], box[:, :2])
    second = network.decode(embedding, places, box, first.logits[:, :1])
    total = sum(part.square().sum() for g in (first, second) for part in (g.logits, g.quality))
    assert isinstance(total, Tensor)
    total.backward()
    assert not [key for key, p in network.named_parameters() if p.grad is None]


def test_pictures_of_a_batch_do_not_mix(network: MobileSAM):
    images, places = torch.rand(2, 3, 96, 96), torch.rand(2, 2, 2) * 90
    kinds = torch.tensor([[INSIDE, BESIDE], [INSIDE, INSIDE]])
    both = network.decode(network.encode(images), places, kinds)
    one = network.decode(network.encode(images[1:]), places[1:], kinds[1:])
    torch.testing.assert_close(both.logits[1:], one.logits, rtol=1e-4, atol=1e-5)


def test_window_attention_against_a_loop():
    torch.manual_seed(0)
    layer = WindowAttention(12, heads=3, window=2).double()
    torch.nn.init.normal_(layer.biases)
    x = torch.rand(1, 4, 12, dtype=torch.float64)
    rows = [(0, 0), (0, 1), (1, 0), (1, 1)]
    y = layer.norm(x)[0]
    weight, bias = layer.qkv.weight, layer.qkv.bias
    outs = torch.zeros(4, 12, dtype=torch.float64)
    for head in range(3):
        base = head * 12  # q, k and v of one head lie together, 4 channels each
        q, k, v = (
            y @ weight[base + 4 * i : base + 4 * i + 4].T + bias[base + 4 * i : base + 4 * i + 4]
            for i in range(3)
        )
        for i, (top, left) in enumerate(rows):
            scores = torch.stack(
                [
                    q[i] @ k[j] / 2 + layer.biases[head, 2 * abs(top - t) + abs(left - c)]
                    for j, (t, c) in enumerate(rows)
                ]
            )
            outs[i, 4 * head : 4 * head + 4] = scores.softmax(0) @ v
    torch.testing.assert_close(layer(x)[0], layer.proj(outs))
