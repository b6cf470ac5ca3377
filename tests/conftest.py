"""Fixtures for all tests."""

import io
import os
import tarfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from official_fixtures import Parity

ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Two test processes share two cores: each, and what it starts, computes with one thread."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


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


@pytest.fixture(scope="session")
def recipe(parity: Parity) -> Any:
    """The module that rebuilds official weights and inputs bit for bit."""
    return parity.recipe


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
