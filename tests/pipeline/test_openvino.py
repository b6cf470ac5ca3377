"""OpenVINO instead of PyTorch: the same fills, for every size, without a word to anybody."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from retouch import models
from retouch.pipeline.devices import Precision
from retouch.pipeline.inpainter import Inpainter, OptionError
from retouch.weights.files import Header


def both(name: str, precision: Precision = "float32", **more: object) -> list[Inpainter]:
    facts = models.card(name)
    config = {**facts.small, **more}
    torch.manual_seed(0)
    network = facts.model(facts.config(**config))
    header = Header(network=name, config=config)
    return [
        Inpainter(network, header, device=device, precision=precision)
        for device in ("cpu", "openvino")
    ]


@pytest.mark.parametrize("name", ["dilated", "isnet", "semantic"])
def test_fills_are_those_of_torch_whatever_the_size(name: str):
    ours, theirs = both(name)
    rng = np.random.default_rng(0)
    for h, w in ((90, 70), (256, 200)):
        image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        mask = np.zeros((h, w), bool)
        mask[h // 3 : h // 2, w // 4 : w // 2] = True
        labels = rng.integers(0, 19, (h, w), dtype=np.uint8) if ours.card.labels else None
        expected = np.asarray(ours.fill(image, mask, labels=labels)).astype(int)
        found = np.asarray(theirs.fill(image, mask, labels=labels))
        assert np.abs(expected - found).max() <= 1
        assert np.array_equal(found[~mask], image[~mask])
    side = ours.card.fixed_size or 64
    batch = [torch.rand(3, 3, side, side), torch.ones(3, 1, side, side)]
    batch += [torch.zeros(3, side, side, dtype=torch.long)] if ours.card.labels else []
    with torch.inference_mode():
        torch.testing.assert_close(theirs.passes(*batch), ours.passes(*batch), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["dilated", "isnet"])
def test_in_bf16_too(name: str):
    ours, theirs = both(name, "bf16")
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    mask = np.zeros((80, 90), bool)
    mask[20:50, 30:60] = True
    expected = np.asarray(ours.fill(image, mask, refine=False)).astype(int)
    assert np.abs(expected - theirs.fill(image, mask, refine=False)).max() <= 12


def test_a_segmenter_runs_inside():
    ours, theirs = both("semantic", channels=4, hidden=8, segmenter="untrained")
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    mask = np.zeros((256, 256), bool)
    mask[80:150, 90:160] = True
    expected = np.asarray(ours.fill(image, mask)).astype(int)
    assert np.abs(expected - theirs.fill(image, mask)).max() <= 1


def test_networks_that_differ_for_every_size_are_refused():
    with pytest.raises(OptionError, match="not SRPNet: choose cpu"):
        both("srpnet")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(OptionError, match=r"pip install 'retouch\[openvino\]'"):
        both("dilated")


def test_telemetry_is_not_loaded():
    """OpenVINO's package reports imports over the network; nothing leaves this machine."""
    script = (
        "import sys; from retouch.pipeline import openvino; openvino._runtime();"
        "assert sys.modules['openvino_telemetry'] is None;"
        "assert 'telemetry_stub' in sys.modules['openvino.tools.ovc'].telemetry.__module__"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
