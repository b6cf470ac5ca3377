"""The GPU kernels of the scan, without a GPU: run by Triton's interpreter, and compiled for one.

Triton decides when it is imported whether it interprets, so one child process does all of that; it
prints what it found, and the tests judge it. The interpreter takes milliseconds for a row, hence
small tiles, which the kernels take as they take their own.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from retouch.layers import _scan_gpu
from retouch.layers.selective_scan import selective_scan, selective_scan_reference

INTERPRETER = Path(__file__)
NAMES = ("x", "delta", "a", "b", "c", "d", "gate")
# batch, length, channels, states
SHAPES = {
    "one step": (1, 1, 1, 1),
    "less than a chunk": (2, 3, 2, 3),
    "whole chunks": (1, 8, 2, 2),
    "odd, carried thrice": (2, 39, 3, 2),
    "many states": (1, 6, 2, 16),
}
TRUE_TILES = (1, 35, 2, 1)


def operands(batch: int, length: int, channels: int, states: int) -> tuple[list[Tensor], Tensor]:
    """Operands with the spread of a trained network, and any order."""
    draw = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    rates = -torch.arange(1.0, states + 1) * (0.5 + torch.rand(channels, 1, generator=draw))
    wide, narrow = (batch, length, channels), (batch, length, states)
    tensors = [normal(*wide), normal(*wide) * 2 - 2, rates, normal(*narrow), normal(*narrow)]
    tensors += [normal(channels), normal(*wide)]
    return tensors, torch.randperm(length, generator=draw)


# --------------------------------------------------------------------------- in the child process


def errors(tensors: list[Tensor], order: Tensor) -> dict[str, Any]:
    """Of the result and of all gradients, relative to the largest number of the reference."""
    exact = [tensor.double().requires_grad_() for tensor in tensors]
    ours = [tensor.clone().requires_grad_() for tensor in tensors]
    truth = selective_scan_reference(*exact, order=order)
    y = selective_scan(*ours, order=order)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y.dtype)
    pairs = {"y": (y, truth)}
    expected = torch.autograd.grad((truth * weights.double()).sum(), exact)
    for name, *pair in zip(
        NAMES, torch.autograd.grad((y * weights).sum(), ours), expected, strict=True
    ):
        pairs[name] = tuple(pair)
    found = {"dtypes": [str(result.dtype) for result, _ in pairs.values()]}
    for name, (result, wanted) in pairs.items():
        scale = max(float(wanted.detach().abs().max()), 1e-12)
        found[name] = float((result.detach() - wanted.detach()).abs().max()) / scale
    return found


def shrink() -> None:
    """Make tiles of 4 steps and 2 channels, and carry 4 chunks at a time."""
    import triton.language as tl

    from retouch.layers import _scan_triton

    _scan_triton._STEPS = _scan_triton._STEPS_BACK = 4
    _scan_triton._LANES, _scan_triton._ROWS = tl.constexpr(2), tl.constexpr(4)


def interpret() -> dict[str, Any]:
    """Everything that the tests want to know of interpreted kernels."""
    _scan_gpu.takes = lambda x: True
    found: dict[str, Any] = {"true tiles": errors(*operands(*TRUE_TILES))}
    shrink()
    found |= {name: errors(*operands(*sizes)) for name, sizes in SHAPES.items()}
    tensors, order = operands(1, 9, 2, 2)
    x, delta, a, b, c, d, gate = tensors
    found["bf16"] = errors([tensor.bfloat16() for tensor in tensors], order)
    found["long steps"] = errors([x, torch.full_like(delta, 40), a, b, c, d, gate], order)
    # As a network hands them over: what a split, a transposition and an expansion leave.
    b, c = torch.cat([b, c], dim=2).split(2, dim=2)
    gate = gate.transpose(1, 2).contiguous().transpose(1, 2)
    found["strided"] = errors([x, delta, a, b, c, d[:1].expand(2), gate], order)
    with torch.autocast("cpu", torch.bfloat16):
        found["autocast"] = errors(tensors, order)
    found["compiled"] = compiled(*operands(1, 5, 2, 1))
    torch.library.opcheck(_scan_gpu.scan, (*leaves(tensors), order))
    return found


def leaves(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def compiled(tensors: list[Tensor], order: Tensor) -> bool:
    """Whether torch.compile gives the same bits, in one graph each way."""
    function = torch.compile(selective_scan, backend="aot_eager", fullgraph=True)
    results = []
    for scan in (selective_scan, function):
        given = leaves(tensors)
        y = scan(*given, order)
        results.append([y, *torch.autograd.grad(y.square().sum(), given)])
    return all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


def compile_for_gpu(name: str, floats: str, sizes: dict[str, Any], warps: int) -> str:
    """Compile a kernel down to machine code of compute capability 8.0; return its PTX."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from retouch.layers import _scan_triton

    kernel = getattr(_scan_triton, name)
    types = dict.fromkeys(("length", "channels", "states", "chunks"), "i32") | {"order": "*i64"}
    types |= dict.fromkeys(("ends", "spans", "rates", "after", "later", "d"), "*fp32")
    types |= dict.fromkeys(("da", "db", "dc", "dd"), "*fp32") | dict.fromkeys(sizes, "constexpr")
    signature = {key: types.get(key, f"*{floats}") for key in kernel.arg_names}
    places = {key: (kernel.arg_names.index(key),) for key in signature}
    aligned = {places[k]: [["tt.divisibility", 16]] for k, t in signature.items() if t[0] == "*"}
    source = ASTSource(kernel, signature, {places[k]: v for k, v in sizes.items()}, aligned)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    code = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    assert len(code.asm["cubin"]) > 1000  # ptxas has accepted it
    return code.asm["ptx"]


# ------------------------------------------------------------------------------ in the test process


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    version("triton")  # raises where it is missing, which on Linux it must not
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    child = [sys.executable, "-W", "error", str(INTERPRETER)]
    run = subprocess.run(child, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton comes for Linux only")


def test_result_and_gradients_agree_with_the_reference_in_float64(found: dict[str, Any]):
    cases = dict.fromkeys((*SHAPES, "true tiles", "strided", "autocast"), 2e-6)
    cases["long steps"] = 1e-5  # where all that is left of a state is e^-60 of it, to 60 * 2^-24
    for case, bound in cases.items():
        assert max(found[case][name] for name in ("y", *NAMES)) < bound, (case, found[case])


def test_bf16_goes_in_and_out(found: dict[str, Any]):
    assert set(found["bf16"].pop("dtypes")) == {"torch.bfloat16"}
    # The interpreter cuts the lower bits off where a GPU rounds (`cvt.rn` in the code below).
    assert max(found["bf16"].values()) < 2**-7, found["bf16"]


def test_compiles_into_one_graph(found: dict[str, Any]):
    assert found["compiled"]


@pytest.mark.parametrize(
    ("name", "floats", "sizes", "warps"),
    [
        ("_summarize", "fp32", {"STEPS": 32}, 1),
        ("_carry", "fp32", {"BACKWARD": False}, 4),
        ("_carry", "fp32", {"BACKWARD": True}, 4),
        ("_finish", "fp32", {"STEPS": 32}, 1),
        ("_finish", "bf16", {"STEPS": 32}, 1),
        ("_summarize_back", "fp32", {"STEPS": 16}, 1),
        ("_differentiate", "fp32", {"STEPS": 16}, 1),
        ("_differentiate", "bf16", {"STEPS": 16}, 1),
    ],
)
def test_kernels_compile_for_a_gpu(
    name: str,
    floats: str,
    sizes: dict[str, Any],
    warps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    code = compile_for_gpu(name, floats, sizes, warps)
    assert "cvt.rz" not in code
    if name in ("_summarize", "_finish"):  # a thread scans its channel without a word to others
        assert not re.search(r"\bshfl\b", code)


def test_the_cpu_is_left_to_its_own_kernels():
    assert not _scan_gpu.takes(torch.zeros(1))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(interpret()))
