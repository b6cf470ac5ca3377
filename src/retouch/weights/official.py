"""Reads other people's checkpoints: the one place that unpickles, and it runs no pickled code.

Four containers are known by their first bytes: safetensors; PyTorch files, zipped or legacy
(`torch.load` with `weights_only=True`); TorchScript archives, of which only the tensors are read;
and bare pickles of NumPy arrays, as JAX projects write them. Whatever lies around the state dict
(`{"generator": ...}`, `module.`, Lightning's bookkeeping) is taken off.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

__all__ = ["CheckpointError", "read"]

_WRAPPERS = (
    *("state_dict", "model_state_dict", "generator", "netG", "G", "g_ema", "params_ema", "params"),
    *("discriminator", "netD", "D", "model"),
)
_CRITICS = ("discriminator", "netD", "D")
_PREFIXES = ("module.", "_orig_mod.", "generator.", "netG.", "discriminator.", "netD.")
_LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # pickled magic number of torch < 1.6
_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or asks for more than arrays."""


def read(path: str | Path, *, critic: bool = False) -> dict[str, Any]:
    """Read the bare state dict of a checkpoint without running any of its code.

    Args:
        path: `.safetensors`, `.pth`, `.pt`, `.ckpt` or any other name; the content decides.
        critic: Take the discriminator where the file holds a generator and a discriminator.

    Returns:
        Name -> `Tensor` (PyTorch's formats) or `numpy.ndarray` (NumPy pickles), on the CPU. Nested
        dictionaries are joined with dots; numbers and texts beside the arrays are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged, of no known kind, holds no array, or its pickle
            names anything but arrays, numbers, texts and dictionaries. One line, names the file.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(16)
    try:
        if head[:4] == b"PK\x03\x04":
            raw = _read_zip(path)
        elif head.startswith(_LEGACY_TORCH):
            raw = torch.load(path, map_location="cpu", weights_only=True)
        elif head[:1] == b"\x80":
            with path.open("rb") as file:
                raw = _NumpyUnpickler(file).load()
        elif head[8:9] == b"{":
            raw = load_file(path)
        else:
            raise CheckpointError("it is no safetensors, PyTorch or NumPy checkpoint")
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None
    except pickle.UnpicklingError as error:
        first = str(error).partition("\n")[0]
        raise CheckpointError(f"cannot read {path}: its pickle is refused ({first})") from None
    except (SafetensorError, zipfile.BadZipFile, EOFError, MemoryError, OSError) as error:
        raise CheckpointError(f"cannot read {path}: it is damaged ({_line(error)})") from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"cannot read {path}: it is malformed ({_line(error)})") from None
    state = _flatten(_unwrap(raw, critic=critic))
    if not state:
        raise CheckpointError(f"cannot read {path}: it holds no array")
    return _strip(state, critic=critic)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        scripted = any(name.endswith("/constants.pkl") for name in archive.namelist())
        if scripted:
            return _read_torchscript(archive)
    return torch.load(path, map_location="cpu", weights_only=True)


def _unwrap(raw: Any, *, critic: bool) -> Mapping[str, Any]:
    """Descend into the dictionary that holds the arrays."""
    if not isinstance(raw, Mapping):
        raise CheckpointError(f"cannot read a {type(raw).__name__} as a state dict")
    order = _WRAPPERS if not critic else (*_CRITICS, *_WRAPPERS)
    for key in order:
        if isinstance(raw.get(key), Mapping):
            return _unwrap(raw[key], critic=critic)
    return raw


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    state: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            state.update(_flatten(value, f"{prefix}{key}."))
        elif isinstance(value, Tensor):
            state[f"{prefix}{key}"] = value.detach()
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            state[f"{prefix}{key}"] = value
    return state


def _strip(state: dict[str, Any], *, critic: bool) -> dict[str, Any]:
    """Take off prefixes that all keys share; of a whole Lightning module keep the asked part."""
    for wanted in _CRITICS if critic else ("generator", "netG"):
        part = {k: v for k, v in state.items() if k.startswith(f"{wanted}.")}
        if part:
            state = part
            break
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            return _strip({k.removeprefix(prefix): v for k, v in state.items()}, critic=critic)
    return state


_NDARRAY = object()
"""Stands for `numpy.ndarray` inside pickles, so that no pickle can call it."""


def _reconstruct(kind: object, shape: tuple[int, ...], code: Any) -> np.ndarray:
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError("an array of an unknown kind")
    return np.ndarray.__new__(np.ndarray, (0,), code)  # its pickled state sets shape and content


def _frombuffer(
    content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]
) -> np.ndarray:
    return np.frombuffer(content, dtype=dtype).reshape(shape, order=order).copy()


def _dtype(code: str, *_: Any) -> np.dtype[Any]:
    dtype = np.dtype(code, False, True)  # a copy: what the pickle sets never reaches NumPy's own
    if dtype.kind not in "fiub":
        raise pickle.UnpicklingError(f"arrays of type {code!r} are not read")
    return dtype


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is not read")
    return text.encode("latin1")


_NUMPY: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
}


class _NumpyUnpickler(pickle.Unpickler):
    """Builds arrays and dictionaries, refuses every other name."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _NUMPY[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}; only arrays and dictionaries are read"
            ) from None


def _read_torchscript(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Collect the tensors of a TorchScript archive; its code is neither compiled nor run."""
    names = archive.namelist()
    root = next((n for n in names if n.endswith("/data.pkl")), None)
    if root is None:
        raise CheckpointError("it is a TorchScript archive without data.pkl")
    folder = root.removesuffix("data.pkl")
    unpickler = _ScriptUnpickler(
        archive.read(root), lambda key: archive.read(f"{folder}data/{key}")
    )
    return unpickler.load().__dict__


class _ScriptModule:
    """Stands for any class of the archive: holds attributes, does nothing."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            self.__dict__[name] = value.__dict__ if isinstance(value, _ScriptModule) else value


class _ScriptUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, storage: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._storage = storage

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name.startswith("__torch__"):
            return _ScriptModule
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            ("torch.jit._pickle", "build_intlist"): list,
        }
        try:
            return known[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}; only tensors are read"
            ) from None

    def persistent_load(self, pid: Any, /) -> Tensor:
        _, dtype, key, _, _ = pid
        return torch.frombuffer(bytearray(self._storage(str(key))), dtype=dtype)


def _rebuild(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)
