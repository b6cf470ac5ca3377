"""Reading other people's checkpoints; every pickle here is made by the test itself."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from retouch.weights.official import CheckpointError, read


class Malicious:
    """Creates a file when a careless reader unpickles it."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("kind", ["numpy", "zip", "legacy"])
def test_refuses_a_malicious_pickle_in_one_line(tmp_path: Path, kind: str):
    victim, file = tmp_path / "victim", tmp_path / "evil.pth"
    content = {"weight": np.zeros(3), "extra": Malicious(victim)}
    if kind == "numpy":
        file.write_bytes(pickle.dumps(content))
    else:
        del content["weight"]
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError) as caught:
        read(file)
    assert not victim.exists()
    assert "evil.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_what_a_numpy_pickle_asks_for(tmp_path: Path):
    file = tmp_path / "evil.ckpt"
    file.write_bytes(pickle.dumps({"a": np.zeros(3), "b": Malicious(tmp_path / "x")}))
    with pytest.raises(CheckpointError, match=r"asks for posix\.mkdir; only arrays"):
        read(file)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_reads_nested_numpy_pickles_of_every_protocol(tmp_path: Path, protocol: int):
    file = tmp_path / "a.ckpt"
    kernel = np.arange(12, dtype=np.float32).reshape(3, 4)
    file.write_bytes(pickle.dumps({"Net_0": {"Conv_0": {"kernel": kernel}}}, protocol))
    if protocol == 0:  # text pickles have no magic byte; nobody ships weights so
        with pytest.raises(CheckpointError):
            read(file)
        return
    state = read(file)
    assert list(state) == ["Net_0.Conv_0.kernel"]
    np.testing.assert_array_equal(state["Net_0.Conv_0.kernel"], kernel)


def test_refuses_object_arrays(tmp_path: Path):
    file = tmp_path / "a.ckpt"
    file.write_bytes(pickle.dumps({"a": np.array([{}, None], dtype=object)}))
    with pytest.raises(CheckpointError, match="'O8' are not read"):
        read(file)


@pytest.mark.parametrize(
    ("wrap", "critic"),
    [
        (lambda s: s, False),
        (lambda s: {"iteration": 7, "generator": s}, False),
        (lambda s: {"netG": s, "netD": {"d": torch.zeros(1)}}, False),
        (lambda s: {"netD": s, "netG": {"g": torch.zeros(1)}}, True),
        (lambda s: {"discriminator": s}, True),
        (lambda s: {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in s.items()}}, False),
        (
            lambda s: {
                "pytorch-lightning_version": "1.2.9",
                "state_dict": {f"generator.{k}": v for k, v in s.items()}
                | {"discriminator.x": torch.zeros(1), "loss.w": torch.zeros(1)},
            },
            False,
        ),
        (lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}}, False),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_takes_off_wrappers(tmp_path: Path, wrap, critic: bool, legacy: bool):
    state = OrderedDict({"model.0.weight": torch.rand(2, 3), "model.0.bias": torch.rand(2)})
    file = tmp_path / "a.pth"
    torch.save(wrap(state), file, _use_new_zipfile_serialization=not legacy)
    found = read(file, critic=critic)
    assert found.keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def test_reads_safetensors(tmp_path: Path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert read(tmp_path / "a.safetensors")["a"].tolist() == [1, 1]


def torchscript(file: Path, data: bytes, storages: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", data)
        archive.writestr("m/constants.pkl", pickle.dumps(()))
        for key, content in storages.items():
            archive.writestr(f"m/data/{key}", content)


def test_reads_torchscript_without_running_it(tmp_path: Path):
    # PROTO 2; __torch__.Net instance with {"weight": 2x2 tensor over storage 0}
    script = (
        b"\x80\x02c__torch__\nNet\n)\x81}X\x06\x00\x00\x00weight"
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00(K\x02K\x02t(K\x02K\x01t\x89"
        b"ccollections\nOrderedDict\n)RtRsb."
    )
    content = np.arange(4, dtype=np.float32)
    torchscript(tmp_path / "n.pt", script, {"0": content.tobytes()})
    state = read(tmp_path / "n.pt")
    torch.testing.assert_close(state["weight"], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))


def test_refuses_a_malicious_torchscript_archive(tmp_path: Path):
    torchscript(tmp_path / "n.pt", pickle.dumps(Malicious(tmp_path / "victim")), {})
    with pytest.raises(CheckpointError, match="asks for posix"):
        read(tmp_path / "n.pt")
    assert not (tmp_path / "victim").exists()


def test_damaged_files_give_one_line(tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"a": torch.rand(100)}, buffer)
    whole = buffer.getvalue()
    numpy = pickle.dumps({"a": np.zeros(50)})
    cases = [b"", b"hello", whole[:300], whole[:-40], numpy[:60], numpy[:-30], b"PK\x03\x04" * 9]
    for number, content in enumerate(cases):
        file = tmp_path / f"{number}.pth"
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"cannot read .*{number}\.pth") as caught:
            read(file)
        assert "\n" not in str(caught.value)


def test_a_file_without_arrays_is_an_error(tmp_path: Path):
    torch.save({"iteration": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds no array"):
        read(tmp_path / "a.pth")
