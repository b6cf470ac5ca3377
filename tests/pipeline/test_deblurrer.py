"""The door for deblurring."""

import numpy as np
import pytest
import torch

from retouch import models
from retouch.pipeline.deblurrer import Deblurrer
from retouch.pipeline.devices import OptionError
from retouch.pipeline.inpainter import Inpainter
from retouch.weights.files import Header

CONFIG = {**models.card("semnet").small, "task": "deblur"}


@pytest.fixture(scope="module")
def deblurrer() -> Deblurrer:
    torch.manual_seed(0)
    network = models.build("semnet", **CONFIG)
    header = Header(network="semnet", config=CONFIG, name="semnet-deblur")
    return Deblurrer(network, header, precision="float32")


def test_every_form_and_odd_sizes(deblurrer: Deblurrer):
    image = np.random.default_rng(0).integers(0, 256, (45, 37, 4)).astype(np.uint8)
    sharp = deblurrer.sharpen(image)
    assert sharp.shape == image.shape
    assert sharp.dtype == np.uint8
    assert np.array_equal(sharp[..., 3], image[..., 3])
    assert (sharp[..., :3] != image[..., :3]).any()


def test_pieces_of_a_large_picture_are_blended_without_a_seam(monkeypatch: pytest.MonkeyPatch):
    from retouch.pipeline import deblurrer as module

    monkeypatch.setattr(module, "_TILE", 48)
    monkeypatch.setattr(module, "_OVERLAP", 16)

    class Identity(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image

    header = Header(network="semnet", config=CONFIG)
    image = np.random.default_rng(0).integers(0, 256, (150, 97, 3)).astype(np.uint8)
    same = Deblurrer(Identity(), header, precision="float32").sharpen(image)
    assert np.array_equal(same, image)


def test_weights_for_the_other_task_are_refused():
    network = models.build("semnet", **CONFIG)
    with pytest.raises(OptionError, match="retouch deblur"):
        Inpainter(network, Header(network="semnet", config=CONFIG, name="x"))
    with pytest.raises(OptionError, match="retouch fill"):
        Deblurrer(network, Header(network="semnet", config={}))
