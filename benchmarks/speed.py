"""What every network costs: CPU seconds, wall time and peak memory, beside its plain form.

`plain` is the network as it is built: float32, eager, maps plane by plane. `ours` is what the
pipeline runs: `retouch.pipeline.devices.prepare` inside its `autocast`. Every cell is measured in a
process of its own (`cells.py`), on one thread, with random weights; times are medians, memory is
what the passes add to the process at most. Sizes with `MP` are whole pictures, 1 % of them holes,
from array to array through the pipeline.

    python benchmarks/speed.py                                   # the tables of docs/speed.md
    python benchmarks/speed.py --networks dilated --sizes 512 24MP --repeat 9
    python benchmarks/speed.py --migan migan_pipeline_v2.onnx    # ratio to MI-GAN's ONNX file
    python benchmarks/speed.py --big 100 --shares 0.01 -4000     # large pictures
    python benchmarks/speed.py --growth                          # cost per pixel, 256 to 2048 px
    python benchmarks/speed.py --overhead                        # of the pipeline
    python benchmarks/speed.py --curves docs/images              # cost against areas, as plots
    python benchmarks/speed.py --scan                            # SEM-Net's 80 scans
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

SIZES = ("256", "512", "1024", "24MP")
LINEAR = (("dilated", ""), ("isnet", ""), ("semnet", "small"))
"""Networks whose cost should grow with the area alone, and the width they are measured in."""


def measure(kind: str, *arguments: object) -> dict[str, float]:
    """Run one cell in a process of its own."""
    script = str(Path(__file__).with_name("cells.py"))
    command = [sys.executable, script, kind, *(str(a) for a in arguments)]
    environment = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-800:])
    return json.loads(done.stdout.splitlines()[-1])


class Cells:
    """The cells of the network table; what stands beside several networks is measured once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._others: dict[str, list[float]] = {}

    def network(self, name: str, form: str, size: str) -> dict[str, float]:
        """Measure a pass, or a fill of a whole picture."""
        if size.endswith("MP"):
            return measure("fill", name, form, size.removesuffix("MP"), 0.01)
        return measure("network", name, form, size, self._options.repeat)

    def openvino(self, name: str, size: str) -> str:
        """CPU seconds of a pass by OpenVINO, for networks that it runs."""
        from retouch import models
        from retouch.pipeline import openvino

        facts = models.card(name)
        if size.endswith("MP") or not openvino.suits(facts, facts.config()):
            return "-"
        return f"{self.network(name, 'openvino', size)['cpu']:.3f}"

    def others(self, size: str) -> list[float]:
        """CPU seconds of Telea and, where its file is given, of MI-GAN."""
        if size not in self._others:
            big, path = size.endswith("MP"), self._options.migan
            given = (size.removesuffix("MP"), 0.01) if big else (size, 3)
            found = [measure("telea_big" if big else "telea", *given)]
            if path:
                found.append(measure("migan_big" if big else "migan", path, *given))
            self._others[size] = [cell["cpu"] for cell in found]
        return self._others[size]


def network_table(options: argparse.Namespace) -> None:
    """Print the cost of every network at every size, plain and ours."""
    from retouch import models

    print(
        "| network | size | plain CPU s | CPU s | faster | wall s | OpenVINO CPU s | CPU s / MP |",
        end="",
    )
    print(" plain MB | MB | share | Telea |" + (" MI-GAN |" if options.migan else ""))
    print("|" + "---|" * (12 + bool(options.migan)))
    cells = Cells(options)
    for name in options.networks or models.names():
        fixed = models.card(name).fixed_size
        for size in options.sizes:
            if fixed and size.isdigit() and int(size) != fixed:
                continue
            plain, ours = (cells.network(name, form, size) for form in ("plain", "ours"))
            area = int(size) ** 2 / 1e6 if size.isdigit() else float(size.removesuffix("MP"))
            row = [
                f"{plain['cpu']:.2f} | {ours['cpu']:.3f} | {plain['cpu'] / ours['cpu']:.1f}x",
                f"{ours['wall']:.2f} | {cells.openvino(name, size)} | {ours['cpu'] / area:.2f}",
                f"{plain['memory']:.0f} | {ours['memory']:.0f}",
                f"{ours['memory'] / max(plain['memory'], 1):.2f}",
                *(f"{ours['cpu'] / other:.2f}x" for other in cells.others(size)),
            ]
            print(f"| {name} | {size} | " + " | ".join(row) + " |", flush=True)


def big_table(options: argparse.Namespace) -> None:
    """Print the cost of large pictures against picture and hole."""
    print("| network | picture MP | hole MP | CPU s | CPU s / hole MP | MB added | MB in all |")
    print("|---|---|---|---|---|---|---|")
    for name in options.networks or ["dilated"]:
        for megapixels in options.big:
            for share in options.shares:
                r = measure("fill", name, "ours", megapixels, share)
                print(
                    f"| {name} | {megapixels:g} | {r['holes']:.2f} | {r['cpu']:.1f}"
                    f" | {r['cpu'] / r['holes']:.1f} | {r['memory']:.0f} | {r['total']:.0f} |",
                    flush=True,
                )


def growth_table(options: argparse.Namespace) -> None:
    """Print the cost per pixel of one pass from 256 to 2048 px."""
    sides = (256, 512, 1024, 2048)
    heads = " | ".join(f"{side} px" for side in sides)
    print(f"| network | CPU s / MP at {heads} | largest growth |\n|" + "---|" * 6)
    for name, size in LINEAR:
        if options.networks and name not in options.networks:
            continue
        costs: list[float] = []
        for side in sides:
            repeat = max(1, options.repeat * 512 // side)
            given = (name, "ours", side, repeat) + ((size,) if size else ())
            costs.append(measure("network", *given)["cpu"] / side**2 * 1e6)
        shown = " | ".join(f"{cost:.2f}" for cost in costs)
        grown = max(costs) / costs[0] - 1
        print(f"| {name}{' (small)' if size else ''} | {shown} | {grown:+.0%} |", flush=True)


def overhead_table(options: argparse.Namespace) -> None:
    """Print what the pipeline costs beside the network's passes, one hole in the middle."""
    print("| network | picture | hole | network CPU s | pipeline beside it |")
    print("|---|---|---|---|---|")
    for name in options.networks or ("dilated", "isnet", "structure", "srpnet"):
        for side, hole in ((512, 80), (512, 256), (1024, 80), (1024, 512)):
            r = measure("overhead", name, side, hole, options.repeat)
            row = f"| {name} | {side} | {hole} | {r['network']:.3f} | {r['share']:.1%} |"
            print(row, flush=True)


def curves(folder: Path, name: str) -> None:
    """Draw CPU seconds against the picture's area and against the hole's."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    varied = {
        "4 holes of 160 x 160 px": measure("curve", name, "-", "-", 1, 4, 12, 24, 50, 100),
        "holes of 160 x 160 px": measure("curve", name, 24, "-", 1, 2, 4, 8, 16, 32),
        "one square hole": measure("curve", name, 24, 1, 80, 160, 320, 640, 1280, 2560),
    }
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    titles = ("cost against the picture's area", "cost against the holes' area, 24 megapixels")
    for index, (legend, costs) in enumerate(varied.items()):
        points = sorted((float(at), cpu) for at, cpu in costs.items())
        axis = axes[min(index, 1)]
        axis.plot(*zip(*points, strict=True), marker="o", label=legend)
        print(f"{legend}: " + ", ".join(f"{at:.4g} MP {cpu:.2f} s" for at, cpu in points))
    for axis, title, what in zip(axes, titles, ("picture", "holes"), strict=True):
        axis.set(title=title, xlabel=f"{what} [megapixels]", ylabel="CPU seconds", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    path = folder / f"speed-{name}.png"
    figure.savefig(path, dpi=100)
    print(f"wrote {path}")


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time every network beside its plain form.")
    parser.add_argument("--networks", nargs="+")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="sides [px], or as in 24MP")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--migan", metavar="FILE")
    parser.add_argument("--big", type=float, nargs="+", metavar="MEGAPIXELS")
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.001, 0.01], help="negative: a hole's side"
    )
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--curves", type=Path, metavar="FOLDER")
    parser.add_argument("--scan", action="store_true")
    return parser.parse_args(arguments)


def scan_line(options: argparse.Namespace) -> None:
    """Print the cost of SEM-Net's scans."""
    r = measure("scans", options.repeat)
    back = r["both"] - r["kept"]
    print(
        f"80 scans: {r['forward']:.2f} CPU s; keeping states {r['kept']:.2f};"
        f" backward {back:.2f}, {back / r['forward']:.1f} times the forward"
    )


def main() -> None:
    """Print everything as Markdown."""
    options = options_of()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"Commit {commit}, {datetime.date.today()}, {platform.machine()}, one thread\n")
    special: list[tuple[Any, Any]] = [
        (options.scan, scan_line),
        (options.big, big_table),
        (options.growth, growth_table),
        (options.overhead, overhead_table),
        (options.curves, lambda o: curves(o.curves, (o.networks or ["dilated"])[0])),
    ]
    wanted = [show for asked, show in special if asked] or [network_table]
    for show in wanted:
        show(options)


if __name__ == "__main__":
    main()
