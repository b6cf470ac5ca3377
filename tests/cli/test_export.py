"""`retouch export` as people type it."""

from pathlib import Path

import pytest
import torch

from retouch import models
from retouch.cli.export import export
from retouch.pipeline.export import ExportError
from retouch.weights.files import Header, WeightsError, save


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    facts = models.card("dilated")
    path = tmp_path / "tiny.safetensors"
    network = facts.model(facts.config(**facts.small))
    save(path, Header(network="dilated", config=dict(facts.small)), network.state_dict())
    return str(path)


def test_it_says_what_it_wrote_and_checked(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    export(weights, torch=tmp_path / "fill.pt2", size=(48, 40))
    told = capsys.readouterr().out
    assert "MB  picture uint8 (b,48,40,3), mask uint8 (b,48,40)" in told
    assert "/255 of torch in the hole and equal outside" in told
    assert (tmp_path / "fill.pt2").stat().st_size > 10_000


def test_mistakes_are_one_line(weights: str, tmp_path: Path):
    with pytest.raises(ExportError, match="name the file to write: --onnx FILE or --torch FILE"):
        export(weights)
    with pytest.raises(ExportError, match="at least 16 px"):
        export(weights, torch=tmp_path / "fill.pt2", size=(4, 4))
    with pytest.raises(WeightsError, match="no weights and no network named 'lama'"):
        export("lama", torch=tmp_path / "fill.pt2")
    assert not (tmp_path / "fill.pt2").exists()
