"""What the documentation says in Python works as it stands."""

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from retouch.web.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_example_removes_what_was_clicked_on(
    serve: Any, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    spec = importlib.util.spec_from_file_location("client", ROOT / "examples" / "client.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    before = np.full((90, 120, 3), (60, 140, 70), np.uint8)
    before[30:60, 40:80] = (190, 60, 50)
    Image.fromarray(before).save(tmp_path / "in.png")
    with serve(Settings(network=tiny)) as client:
        base = str(client.base_url).removesuffix("/api/v1/")
        with httpx.Client(base_url=base, timeout=60) as http:
            example.remove(http, tmp_path / "in.png", tmp_path / "out.png", 60, 45)
            with pytest.raises(SystemExit, match="outside"):
                example.remove(http, tmp_path / "in.png", tmp_path / "out.png", 600, 45)
    after = np.asarray(Image.open(tmp_path / "out.png"))
    far = np.ones((90, 120), bool)
    far[20:70, 30:90] = False
    assert np.array_equal(after[far], before[far])
    assert (after[30:60, 40:80] != before[30:60, 40:80]).any(-1).mean() > 0.9
    assert "done 100%" in capsys.readouterr().out


def test_the_python_of_the_page_on_the_server_runs(
    serve: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = (ROOT / "docs" / "web.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    shutil.copy(ROOT / "examples" / "meadow.jpg", tmp_path / "photo.jpg")
    shutil.copy(ROOT / "examples" / "meadow-mask.png", tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    with serve(Settings(network=tiny)) as client:
        base = str(client.base_url).removesuffix("/api/v1/")
        scope: dict[str, Any] = {}
        for block in blocks:
            exec(block.replace("http://127.0.0.1:8480", base), scope)
    with Image.open("photo.jpg") as photo, Image.open("filled.jpg") as filled:
        assert filled.size == photo.size
