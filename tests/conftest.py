"""Fixtures for all tests."""

import importlib.util
import io
import json
import tarfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of parity fixtures and research pictures beside the project, if any."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared folder beside the project (parity fixtures, research pictures)")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the parity fixtures are, a parity test that is skipped is a parity test that failed."""
    report = yield
    wanted = "parity" in getattr(item, "fixturenames", ())
    if report.skipped and wanted and (ROOT.parent / "shared" / "parity").is_dir():
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} needs ../shared/parity, which is there, but was skipped"
    return report


class Parity:
    """Weights, inputs and outputs of the official networks, rebuilt by `../shared/parity`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("seeded", folder / "seeded.py")
        assert spec is not None
        assert spec.loader is not None
        self.recipe: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.recipe)

    def official(self, case: str, **renamed: str) -> dict[str, Tensor]:
        """The official state dict; `renamed` maps parts of keys to those that seed them."""
        state: dict[str, Tensor] = {}
        for key, shape in self.json(f"{case}.keys.json").items():
            seed = key
            for part, other in renamed.items():
                seed = seed.replace(part, other)
            state[key] = torch.from_numpy(self.recipe.seeded(seed, shape))
        return state

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def picture(self, *names: str, height: int, width: int) -> Tensor:
        """Pictures (b, 3, h, w) in [0, 1], float32."""
        found = [torch.from_numpy(self.recipe.picture(name, height, width)) for name in names]
        return torch.stack(found).permute(0, 3, 1, 2).float() / 255

    def holes(self, *names: str, height: int, width: int, share: float = 0.3) -> Tensor:
        """Masks (b, 1, h, w), 1 = hole."""
        found = [torch.from_numpy(self.recipe.holes(n, height, width, share=share)) for n in names]
        return torch.stack(found)[:, None]

    @staticmethod
    def error(found: Tensor, truth: Tensor) -> float:
        """max|a-b| / max|b|."""
        truth = truth.double()
        return float((found.double() - truth).abs().max() / truth.abs().max())


@pytest.fixture(scope="session")
def faces(shared: Path) -> Callable[[int, int], Tensor]:
    """Real pictures to learn by heart: `faces(count, side)`, (count, 3, side, side) in [0, 1]."""

    def first(count: int, side: int) -> Tensor:
        found: list[np.ndarray] = []
        with tarfile.open(shared / "data" / "celebamask_mini" / "train-000.tar") as archive:
            for key in sorted(name for name in archive.getnames() if name.endswith(".jpg"))[:count]:
                file = archive.extractfile(key)
                assert file is not None
                picture = Image.open(io.BytesIO(file.read()))
                found.append(np.array(picture.resize((side, side), Image.Resampling.BOX)))
        return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255

    return first


@pytest.fixture(scope="session")
def parity(shared: Path) -> Parity:
    """Fixtures made with the official code, see `../shared/parity/README.md`."""
    return Parity(shared / "parity")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
