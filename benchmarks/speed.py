"""What every network costs: CPU seconds, wall time and peak memory, beside its plain form.

`plain` is the network as it is built: float32, eager, maps plane by plane. `ours` is what the
pipeline runs: `retouch.pipeline.devices.prepare` inside its `autocast`. Every cell is measured in a
process of its own, on one thread, with random weights; times are medians, memory is what the passes
add to the process at most.

    python benchmarks/speed.py                                   # the table of docs/speed.md
    python benchmarks/speed.py --networks dilated --sizes 512 --repeat 9
    python benchmarks/speed.py --big 24 100                      # megapixels, with holes
    python benchmarks/speed.py --scan                            # SEM-Net's 80 scans
    python benchmarks/speed.py --migan migan_pipeline_v2.onnx    # ratio to MI-GAN's ONNX file
"""

import argparse
import ctypes
import datetime
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

SIZES = (256, 512, 1024)
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


def network_pass(name: str, form: str, side: int, repeat: int) -> dict[str, float]:
    """One pass of a network with a hole in a quarter of the picture."""
    import torch

    from retouch import models
    from retouch.pipeline import devices

    torch.manual_seed(0)
    facts = models.card(name)
    device = torch.device("cpu")
    bf16 = form == "ours" and devices.computes_in_bf16(device, "auto")
    network = models.build(name).eval()
    if form != "plain":
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
    return timed(lambda: run(side), repeat)


def telea(side: int, repeat: int) -> dict[str, float]:
    """OpenCV's classical fill of the same hole."""
    import cv2
    import numpy as np

    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 255
    return timed(lambda: cv2.inpaint(picture, mask, 5, cv2.INPAINT_TELEA), repeat)


def migan(path: str, side: int, repeat: int) -> dict[str, float]:
    """MI-GAN's published pipeline in ONNX Runtime, one thread."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, side, side), dtype=np.uint8)
    mask = np.full((1, 1, side, side), 255, np.uint8)
    mask[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 0  # white is known there
    names = [entry.name for entry in session.get_inputs()]
    given = dict(zip(names, (picture, mask), strict=True))
    session.run(None, given)
    return timed(lambda: session.run(None, given), repeat)


def big_picture(name: str, megapixels: float, share: float) -> dict[str, float]:
    """The whole pipeline on a picture whose holes, 160 px squares, cover a share of it.

    A negative share is one square hole of that many pixels a side.
    """
    import numpy as np

    from retouch import models
    from retouch.pictures import Picture
    from retouch.pipeline.inpainter import Inpainter
    from retouch.weights import files

    height = round((megapixels * 1e6 * 2 / 3) ** 0.5)
    width = round(megapixels * 1e6 / height)
    tile = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    pixels = np.tile(tile, (-(-height // 512), -(-width // 512), 1))[:height, :width].copy()
    mask = holes(height, width, share)
    header = files.Header(network=name, config={}, name=name)
    inpainter = Inpainter(models.build(name), header)
    inpainter.fill(tile, mask[:512, :512] | (np.arange(512) < 40))
    picture = Picture(pixels=pixels)
    del pixels
    covered = float(mask.sum()) / 1e6
    result = timed(lambda: inpainter.fill_picture(picture, mask, consume=True), 1)
    return result | {"holes": covered}


def holes(height: int, width: int, share: float) -> Any:
    """Lay out the mask of `big_picture`."""
    import numpy as np

    mask = np.zeros((height, width), bool)
    if share < 0:
        side = int(-share)
        top, left = (height - side) // 2, (width - side) // 2
        mask[top : top + side, left : left + side] = True
        return mask
    side = 160
    count = max(1, round(share * height * width / side**2))
    columns = max(1, round((count * width / height) ** 0.5))
    rows = -(-count // columns)
    for index in range(count):
        top = (2 * (index // columns) + 1) * height // (2 * rows) - side // 2
        left = (2 * (index % columns) + 1) * width // (2 * columns) - side // 2
        mask[top : top + side, left : left + side] = True
    return mask


def scans(repeat: int) -> dict[str, float]:
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
        forward += count * timed(scan, repeat)["cpu"]
        for part in given:
            part.requires_grad_()
        kept += count * timed(scan, repeat)["cpu"]
        backward += count * timed(lambda scan=scan: scan().sum().backward(), repeat)["cpu"]
    return {"forward": forward, "kept": kept, "both": backward}


def measure(*arguments: object) -> dict[str, float]:
    """Run one cell in a process of its own."""
    command = [sys.executable, __file__, "--one", *(str(a) for a in arguments)]
    environment = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-800:])
    return json.loads(done.stdout.splitlines()[-1])


def one(arguments: list[str]) -> dict[str, float]:
    """Measure the cell that `measure` asks for."""
    kind, *rest = arguments
    if kind == "network":
        return network_pass(rest[0], rest[1], int(rest[2]), int(rest[3]))
    if kind == "telea":
        return telea(int(rest[0]), int(rest[1]))
    if kind == "migan":
        return migan(rest[0], int(rest[1]), int(rest[2]))
    if kind == "big":
        return big_picture(rest[0], float(rest[1]), float(rest[2]))
    return scans(int(rest[0]))


def network_table(options: argparse.Namespace) -> None:
    """Print the cost of a pass of every network, plain and ours."""
    from retouch import models

    print("| network | size | plain CPU s | CPU s | faster | wall s | CPU s / MP |", end="")
    print(" plain MB | MB | share | Telea |" + (" MI-GAN |" if options.migan else ""))
    print("|" + "---|" * (11 + bool(options.migan)))
    others: dict[int, tuple[float, float]] = {}
    for name in options.networks or models.names():
        fixed = models.card(name).fixed_size
        for side in [fixed] if fixed else options.sizes:
            plain = measure("network", name, "plain", side, options.repeat)
            ours = measure("network", name, "ours", side, options.repeat)
            if side not in others:
                other = measure("migan", options.migan, side, 3)["cpu"] if options.migan else 0.0
                others[side] = measure("telea", side, 3)["cpu"], other
            cells = [
                f"{plain['cpu']:.2f} | {ours['cpu']:.3f} | {plain['cpu'] / ours['cpu']:.1f}x",
                f"{ours['wall']:.2f} | {ours['cpu'] / side**2 * 1e6:.2f}",
                f"{plain['memory']:.0f} | {ours['memory']:.0f}",
                f"{ours['memory'] / max(plain['memory'], 1):.2f}",
                *(f"{ours['cpu'] / c:.2f}x" for c in others[side] if c),
            ]
            print(f"| {name} | {side} | " + " | ".join(cells) + " |", flush=True)


def big_table(options: argparse.Namespace) -> None:
    """Print the cost of large pictures against picture and hole."""
    print("| network | picture MP | hole MP | CPU s | CPU s / hole MP | MB added | MB in all |")
    print("|---|---|---|---|---|---|---|")
    for name in options.networks or ["dilated"]:
        for megapixels in options.big:
            for share in options.shares:
                r = measure("big", name, megapixels, share)
                print(
                    f"| {name} | {megapixels:g} | {r['holes']:.2f} | {r['cpu']:.1f}"
                    f" | {r['cpu'] / r['holes']:.1f} | {r['memory']:.0f} | {r['total']:.0f} |",
                    flush=True,
                )


def main() -> None:
    """Print everything as Markdown."""
    parser = argparse.ArgumentParser(description="Time every network beside its plain form.")
    parser.add_argument("--networks", nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--migan", metavar="FILE")
    parser.add_argument("--big", type=float, nargs="+", metavar="MEGAPIXELS")
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.001, 0.01], help="negative: a hole's side"
    )
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"Commit {commit}, {datetime.date.today()}, {platform.machine()}, one thread\n")
    if options.scan:
        r = measure("scan", options.repeat)
        print(f"80 scans: {r['forward']:.2f} CPU s; keeping states {r['kept']:.2f}; ", end="")
        back = r["both"] - r["kept"]
        print(f"backward {back:.2f}, {back / r['forward']:.1f} times the forward")
    elif options.big:
        big_table(options)
    else:
        network_table(options)


if __name__ == "__main__":
    main()
