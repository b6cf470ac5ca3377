"""Measures one thing in a process of its own, for `speed.py`: prints its numbers as JSON.

    python benchmarks/cells.py network dilated ours 512 5

Kinds and their arguments are the functions of `KINDS`. Times are medians; memory is what the calls
add to the process at most, beside what it then holds in all [MB].
"""

import ctypes
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SCANS = (
    (8, 96, 65536),
    (24, 192, 16384),
    (24, 384, 4096),
    (16, 768, 1024),
    (8, 192, 65536),
)
"""How many scans of how many channels and steps SEM-Net runs at 256x256."""


def timed(call: Callable[[], Any], repeat: int) -> dict[str, float]:
    """Medians of CPU and wall seconds, and the memory added to the process at most [MB]."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    cpu: list[float] = []
    wall: list[float] = []
    for _ in range(repeat):
        start = time.process_time(), time.perf_counter()
        call()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return {
        "cpu": statistics.median(cpu),
        "wall": statistics.median(wall),
        "memory": _status("VmHWM") - before,
        "total": _status("VmHWM"),
    }


def _status(key: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) / 1024


def build(name: str, size: str) -> tuple[Any, dict[str, Any]]:
    """Make a network with random weights, of full width or as small as in tests."""
    import torch

    from retouch import models

    torch.manual_seed(0)
    config = dict(models.card(name).small) if size == "small" else {}
    return models.build(name, **config).eval(), config


def network_pass(name: str, form: str, side: str, repeat: str, size: str = "") -> dict[str, float]:
    """One pass of a network with a hole in a quarter of the picture."""
    import torch

    from retouch import models
    from retouch.pipeline import devices, openvino

    facts = models.card(name)
    device = torch.device("cpu")
    bf16 = form == "ours" and devices.computes_in_bf16(device, "auto")
    network: Any = build(name, size)[0]
    if form == "openvino":
        network = openvino.OpenVINO(network, facts, bf16=devices.computes_in_bf16(device, "auto"))
    elif form != "plain":
        network = devices.prepare(network, device, bf16=bf16)

    def run(side: int) -> None:
        image = torch.rand(1, side, side, 3).permute(0, 3, 1, 2)  # as pictures come
        if form == "plain":
            image = image.contiguous()
        mask = torch.zeros(1, 1, side, side)
        mask[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
        given = [image, mask]
        if facts.labels:
            given.append(torch.randint(0, 8, (1, side, side)))
        with torch.inference_mode(), devices.autocast(device, bf16):
            network(*given)

    run(facts.fixed_size or max(64, facts.min_size))  # compiles kernels, starts libraries
    if form == "openvino":
        run(int(side))  # makes its primitives for this size
    return timed(lambda: run(int(side)), int(repeat))


def telea(side: str, repeat: str) -> dict[str, float]:
    """OpenCV's classical fill of the same hole."""
    import cv2

    picture, mask = _square(int(side))
    given = picture, mask.astype(np.uint8) * 255
    return timed(lambda: cv2.inpaint(*given, 5, cv2.INPAINT_TELEA), int(repeat))


def telea_big(megapixels: str, share: str) -> dict[str, float]:
    """OpenCV's fill of a large picture."""
    import cv2

    pixels, mask = _large(float(megapixels), float(share))
    given = pixels, mask.view(np.uint8)
    return timed(lambda: cv2.inpaint(*given, 5, cv2.INPAINT_TELEA), 1)


def migan(path: str, side: str, repeat: str) -> dict[str, float]:
    """MI-GAN's published pipeline in ONNX Runtime, one thread."""
    picture, mask = _square(int(side))
    run = _migan(path, picture, mask)
    run()
    return timed(run, int(repeat))


def migan_big(path: str, megapixels: str, share: str) -> dict[str, float]:
    """The same for a large picture, all holes in one call as its pipeline takes them."""
    run = _migan(path, *_large(float(megapixels), float(share)))
    _migan(path, *_square(512))()
    return timed(run, 1)


def _migan(path: str, picture: Any, mask: Any) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
    known = np.where(mask, 0, 255).astype(np.uint8)[None, None]  # white is known there
    given = dict(zip(names, (planes, known), strict=True))
    return lambda: session.run(None, given)


def fill(
    name: str, form: str, megapixels: str, share: str, count: str = "0", size: str = ""
) -> dict[str, float]:
    """The whole pipeline, from array to array, on a picture with holes; see `holes`."""
    from retouch.pictures import Picture

    pixels, mask = _large(float(megapixels), float(share), int(count))
    inpainter = _inpainter(name, form, size)
    inpainter.fill(pixels[:512, :512].copy(), np.tri(512, k=-400, dtype=bool))
    covered = float(mask.sum()) / 1e6
    picture = Picture(pixels=pixels)
    del pixels
    result = timed(lambda: inpainter.fill_picture(picture, mask, consume=True), 1)
    return result | {"holes": covered}


def curve(name: str, megapixels: str, share: str, *counts: str) -> dict[str, float]:
    """CPU seconds of fills in one process, by the number that varies.

    Args:
        name: Of the network.
        megapixels: Of the picture, or `-`: `counts` are megapixels, of pictures with 4 holes.
        share: `-`: `counts` are squares of 160 px; else sides of one square hole [px].
        counts: What varies.
    """
    from retouch.pictures import Picture

    inpainter = _inpainter(name, "ours", "")
    found: dict[str, float] = {}
    inpainter.fill(*_square(512, 80))  # starts libraries
    for count in counts:
        if megapixels == "-":
            pixels, mask = _large(float(count), 0, 4)
        elif share == "-":
            pixels, mask = _large(float(megapixels), 0, int(count))
        else:
            pixels, mask = _large(float(megapixels), -float(count))
        covered = float(count) if megapixels == "-" else float(mask.sum()) / 1e6
        picture = Picture(pixels=pixels)
        cell = timed(lambda p=picture, m=mask: inpainter.fill_picture(p, m, consume=True), 1)
        found[str(covered)] = cell["cpu"]
    return found


def overhead(name: str, side: str, hole: str, repeat: str) -> dict[str, float]:
    """CPU seconds of filling one square hole in the middle, and of the network's passes in it."""
    inpainter = _inpainter(name, "ours", "")
    network, spent = inpainter.passes, [0.0]

    def watched(*given: Any) -> Any:
        start = time.process_time()
        result = network(*given)
        spent[0] += time.process_time() - start
        return result

    inpainter.passes = watched
    picture, mask = _photo(int(side)), _square(int(side), int(hole))[1]
    inpainter.fill(picture, mask)
    shares: list[float] = []
    passes: list[float] = []
    for _ in range(int(repeat)):
        spent[0] = 0.0
        start = time.process_time()
        inpainter.fill(picture, mask)
        shares.append((time.process_time() - start) / spent[0] - 1)
        passes.append(spent[0])
    return {"share": statistics.median(shares), "network": statistics.median(passes)}


def _inpainter(name: str, form: str, size: str) -> Any:
    from retouch.pipeline.inpainter import Inpainter
    from retouch.weights import files

    network, config = build(name, size)
    precision = "auto" if form == "ours" else "float32"
    header = files.Header(network=name, config=config, name=name)
    inpainter = Inpainter(network, header, device="cpu", precision=precision)
    if form == "plain":
        inpainter.passes = network
    return inpainter


def _square(side: int, hole: int = 0) -> tuple[Any, Any]:
    """A picture of noise with a square hole in the middle, half as wide if nothing is said."""
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), bool)
    hole = hole or side // 2
    first = (side - hole) // 2
    mask[first : first + hole, first : first + hole] = True
    return picture, mask


def _photo(side: int) -> Any:
    """The example's photo, mirrored outwards: what is searched for in noise is found nowhere."""
    from retouch import pictures

    photo = pictures.read(Path(__file__).parents[1] / "examples" / "meadow.jpg").pixels
    more = [(0, max(0, side - length)) for length in photo.shape[:2]]
    return np.pad(photo, (*more, (0, 0)), mode="symmetric")[-side:, :side]


def _large(megapixels: float, share: float, count: int = 0) -> tuple[Any, Any]:
    height = round((megapixels * 1e6 * 2 / 3) ** 0.5)
    width = round(megapixels * 1e6 / height)
    tile = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    pixels = np.tile(tile, (-(-height // 512), -(-width // 512), 1))[:height, :width].copy()
    return pixels, holes(height, width, share, count)


def holes(height: int, width: int, share: float, count: int = 0) -> Any:
    """Lay out squares of 160 px over a picture.

    Args:
        height: Of the picture [px].
        width: Of the picture [px].
        share: Of the picture that they cover; negative: one square of so many pixels a side.
        count: How many squares, whatever the share; 0: as many as the share asks for.
    """
    mask = np.zeros((height, width), bool)
    if share < 0:
        side = int(-share)
        top, left = (height - side) // 2, (width - side) // 2
        mask[top : top + side, left : left + side] = True
        return mask
    side = 160
    count = count or max(1, round(share * height * width / side**2))
    columns = max(1, round((count * width / height) ** 0.5))
    rows = -(-count // columns)
    for index in range(count):
        top = (2 * (index // columns) + 1) * height // (2 * rows) - side // 2
        left = (2 * (index % columns) + 1) * width // (2 * columns) - side // 2
        mask[top : top + side, left : left + side] = True
    return mask


def scans(repeat: str) -> dict[str, float]:
    """The 80 scans of one SEM-Net pass at 256x256, and a backward pass over its forward."""
    import torch

    from retouch.layers.host_memory import keep_freed_memory
    from retouch.layers.selective_scan import selective_scan
    from retouch.layers.snake import snake_order

    keep_freed_memory()
    torch.manual_seed(0)
    forward = backward = kept = 0.0
    for count, channels, length in SCANS:
        x, delta, gate = (torch.randn(1, length, channels) for _ in range(3))
        b, c = (torch.randn(1, length, 16) for _ in range(2))
        rates, skip = -torch.arange(1.0, 17).repeat(channels, 1), torch.ones(channels)
        given = [x, delta - 3, rates, b, c, skip, gate]
        side = math.isqrt(length)
        order = snake_order(side, side, vertical=count % 16 == 0, device=x.device)
        scan = partial(selective_scan, *given, order=order)
        scan()
        forward += count * timed(scan, int(repeat))["cpu"]
        for part in given:
            part.requires_grad_()
        kept += count * timed(scan, int(repeat))["cpu"]
        back = timed(lambda scan=scan: scan().sum().backward(), int(repeat))
        backward += count * back["cpu"]
    return {"forward": forward, "kept": kept, "both": backward}


KINDS: dict[str, Callable[..., dict[str, float]]] = {
    "network": network_pass,
    "telea": telea,
    "telea_big": telea_big,
    "migan": migan,
    "migan_big": migan_big,
    "fill": fill,
    "curve": curve,
    "overhead": overhead,
    "scans": scans,
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](*sys.argv[2:])))
