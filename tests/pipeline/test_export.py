"""Exported pipelines do what `Inpainter` does, known pixels untouched."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retouch import models
from retouch.pipeline import export, graph
from retouch.pipeline.export import Crop, Exported, ExportError
from retouch.pipeline.inpainter import Inpainter
from retouch.weights.files import Header

LOCAL = "dilated"


def crop(name: str, **more: object) -> Crop:
    torch.manual_seed(0)
    facts = models.card(name)
    network = facts.model(facts.config(**facts.small)).eval()
    return Crop(header=Header(network=name, config=dict(facts.small)), network=network, **more)


def scene(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with soft structure and a mask with a step in colour beside it."""
    y, x = np.mgrid[:h, :w]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], axis=2)
    mask = np.zeros((h, w), bool)
    mask[h // 4 : h // 2, w // 3 : w // 2] = True
    mask[h // 2 + 8, 3:-3] = True
    return (127 + 100 * waves).astype(np.uint8), mask


@pytest.mark.parametrize("name", models.names())
def test_the_graph_repeats_the_pipeline(name: str):
    given = crop(name)
    facts = models.card(name)
    side = facts.fixed_size or max(64, given.smallest)
    h, w = (side, side) if facts.fixed_size else (side + 5, side + 2)
    image, mask = scene(h, w)
    inpainter = Inpainter(given.network, given.header, precision="float32")
    wanted = np.rint(inpaint(inpainter, image, mask) * 255).astype(np.uint8)
    picture, holes = torch.from_numpy(image)[None], torch.from_numpy(mask * np.uint8(255))[None]
    with torch.inference_mode():
        found = given.graph()(picture, holes)[0].numpy()
    assert np.array_equal(found[~mask], image[~mask])
    assert np.abs(found[mask].astype(int) - wanted[mask].astype(int)).max() <= 1


def inpaint(inpainter: Inpainter, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One crop at the network's own size, as `Inpainter` fills it."""
    from retouch.pipeline import compositing

    pixels = image.astype(np.float32) / np.float32(255)
    fill = inpainter.paint(pixels, mask)
    return compositing.match_rim(fill, pixels, mask)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exported]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("onnx")
    return folder, export.to_onnx(crop(LOCAL), folder / "fill.onnx")


def test_an_onnx_file_takes_any_size_and_is_checked(onnx_file: tuple[Path, Exported]):
    import onnxruntime

    folder, done = onnx_file
    assert done.difference <= 1
    assert len(done.checked) == 3
    assert done.bytes == done.path.stat().st_size
    assert [path.name for path in folder.iterdir()] == ["fill.onnx"]
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()] == ["picture", "mask"]
    assert session.get_modelmeta().custom_metadata_map["retouch.network"] == LOCAL
    image, mask = scene(90, 71)
    (filled,) = session.run(None, {"picture": image[None], "mask": mask[None] * np.uint8(255)})
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[0][~mask], image[~mask])
    assert (filled[0][mask] != image[mask]).any()


def test_the_example_of_the_page_runs(
    onnx_file: tuple[Path, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    image, mask = scene(70, 60)
    Image.fromarray(image).save(tmp_path / "photo.jpg", quality=95)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "fill.onnx").symlink_to(onnx_file[1].path)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "export.md", "exec"), {})
    before, after = np.asarray(Image.open("photo.jpg")), np.asarray(Image.open("filled.png"))
    assert np.array_equal(before[~mask], after[~mask])
    assert (before[mask] != after[mask]).any()


@pytest.mark.slow  # 10 to 60 s each
@pytest.mark.parametrize("name", models.names())
def test_every_network_becomes_an_onnx_file(name: str, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    facts = models.card(name)
    size = (64, 64) if facts.one_size_graph else None
    done = export.to_onnx(crop(name, size=size), tmp_path / "net.onnx")
    assert done.difference <= 1
    assert done.bytes < 20e6


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_network_becomes_a_torch_file(name: str, tmp_path: Path):
    size = (64, 64) if models.card(name).one_size_graph else None
    assert export.to_torch(crop(name, size=size), tmp_path / "net.pt2").difference <= 1


def test_mistakes_are_named(tmp_path: Path):
    with pytest.raises(ExportError, match="256x256 px only, got 64x64"):
        crop("semantic", size=(64, 64))
    with pytest.raises(ExportError, match="takes no label map"):
        crop(LOCAL, labels=True)
    with pytest.raises(ExportError, match="at least 16 px"):
        crop(LOCAL, size=(8, 64))
    with pytest.raises(ExportError, match="folder that exists"):
        export.to_torch(crop(LOCAL), tmp_path / "nowhere" / "net.pt2")
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_run_says_so(tmp_path: Path):
    facts = models.card("semantic")
    config = {**facts.small, "segmenter": ""}
    network = facts.model(facts.config(**config)).eval()
    given = Crop(header=Header(network="semantic", config=config), network=network)
    with pytest.raises(ExportError, match="give a label map"):
        export.to_torch(given, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "_TOLERANCE", -1)
    monkeypatch.setattr(graph, "_FADED", 1)  # a smaller graph is made sooner
    with pytest.raises(ExportError, match="it differs from torch"):
        export.to_torch(crop(LOCAL), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())
