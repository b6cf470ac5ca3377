"""OutdoorSceneSeg: there is no public file at hand, so shapes, counts and arithmetic."""

import pytest
import torch

from retouch import segmentation
from retouch.segmentation.outdoor import CARD, OutdoorSceneSeg, OutdoorSceneSegConfig


def test_has_the_official_tensors():
    with torch.device("meta"):
        network = OutdoorSceneSeg()
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 52_068_296
    assert len(state) == 645
    assert state["deconv.weight"].shape == (8, 1, 16, 16)
    assert state["feature.0.weight"].shape == (64, 3, 3, 3)
    assert state["feature.10.proj.0.weight"].shape == (256, 128, 1, 1)
    assert state["feature.13.res.3.weight"].shape == (128, 128, 3, 3)
    assert state["feature.39.res.6.weight"].shape == (1024, 256, 1, 1)
    assert state["feature.42.res.7.running_var"].shape == (2048,)
    assert state["feature.47.bias"].shape == (8,)
    assert "feature.11.proj.0.weight" not in state


@pytest.mark.parametrize("size", [(64, 64), (61, 83)])
@pytest.mark.parametrize("blur", [True, False])
def test_labels_any_size(size: tuple[int, int], blur: bool):
    network = segmentation.build("outdoor", **CARD.small, blur=blur).eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 8, *size)


def test_importer_keeps_the_file():
    network = OutdoorSceneSeg(OutdoorSceneSegConfig(**CARD.small))
    (importer,) = CARD.official.values()
    assert importer.recognise(network.state_dict())
    assert not importer.recognise({})
    fields, state = importer.convert(network.state_dict())
    assert fields == {"labels": "outdoor", "channels": 4}
    assert state.keys() == network.state_dict().keys()


def test_upsampling_starts_bilinear():
    network = OutdoorSceneSeg(OutdoorSceneSegConfig(**CARD.small))
    flat = torch.full((1, 8, 6, 6), 3.0)
    with torch.inference_mode():
        large = network.deconv(flat)
    torch.testing.assert_close(large[..., 8:-8, 8:-8], torch.full((1, 8, 32, 32), 3.0))


def test_input_is_caffe_bgr():
    seen = {}
    network = OutdoorSceneSeg(OutdoorSceneSegConfig(**CARD.small, blur=False)).eval()
    network.feature.register_forward_pre_hook(lambda _, x: seen.update(x=x[0]))
    image = torch.zeros(1, 3, 16, 16)
    image[:, 0] = 1  # red
    with torch.inference_mode():
        network(image)
    found = seen["x"][0, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor([-103.939, -116.779, 255 - 123.68]))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="labels"):
        OutdoorSceneSegConfig(labels="cats")
    with pytest.raises(ValueError, match="blocks"):
        OutdoorSceneSegConfig(blocks=(1, 0, 1, 1))
