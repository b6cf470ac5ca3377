"""Reading and writing pictures: our readers (Pillow, imagecodecs, tifffile) beside pyvips.

Measures CPU seconds and peak memory of one process each for reading a picture, changing a box of
it and writing it again, and what survives of the file's metadata.
Needs `pip install "pyvips[binary]"`.

    python benchmarks/pictures.py                      # 24 and 100 megapixels
    python benchmarks/pictures.py --megapixels 24
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from synthetic import photo

FORMATS = (".jpg", ".png", "16.png", ".tif", "16.tif", ".webp")
TOOLS = ("retouch", "pyvips-array", "pyvips-stream")
BOX = 512


def make_inputs(folder: Path, megapixels: float) -> None:
    """Write the input of each format, through neither of the two ways under test where possible."""
    import imagecodecs
    import tifffile

    height = round((megapixels * 1e6 * 2 / 3) ** 0.5)
    width = round(megapixels * 1e6 / height)
    pixels = photo(height, width)
    image = Image.fromarray(pixels)
    image.save(folder / "in.jpg", quality=92, subsampling=2)
    image.save(folder / "in.png", compress_level=3)
    if width <= 16383:
        image.save(folder / "in.webp", quality=90, method=2)
    del image
    tifffile.imwrite(folder / "in.tif", pixels, photometric="rgb", compression="lzw")
    deep = pixels.astype(np.uint16) * 257
    (folder / "in16.png").write_bytes(imagecodecs.png_encode(deep, 1))
    tifffile.imwrite(folder / "in16.tif", deep, photometric="rgb", compression="lzw")


def run_retouch(source: Path, target: Path) -> dict[str, float]:
    """Read, fill a box in place, write."""
    from retouch import pictures

    start = time.process_time()
    picture = pictures.read(source)
    read = time.process_time()
    fill = picture.crop(0, 0, BOX, BOX)
    picture = picture.replace(fill, top=100, left=100, copy=False)
    write = time.process_time()
    pictures.write(target, picture)
    return {"read": read - start, "write": time.process_time() - write}


def run_vips_array(source: Path, target: Path) -> dict[str, float]:
    """Read into an array, fill a box, write with the metadata of the input."""
    import pyvips

    start = time.process_time()
    image = pyvips.Image.new_from_file(str(source), access="sequential").autorot()
    pixels = image.numpy()
    read = time.process_time()
    pixels[100 : 100 + BOX, 100 : 100 + BOX] = pixels[:BOX, :BOX].copy()
    write = time.process_time()
    result = pyvips.Image.new_from_array(pixels, interpretation=image.interpretation)
    _save_vips(_with_metadata(result, image), source, target)
    return {"read": read - start, "write": time.process_time() - write}


def run_vips_stream(source: Path, target: Path) -> dict[str, float]:
    """Let pixels flow from file to file with a box inserted; nothing is held whole."""
    import pyvips

    start = time.process_time()
    image = pyvips.Image.new_from_file(str(source), access="sequential").autorot()
    fill = image.crop(0, 0, BOX, BOX).copy_memory()
    image = pyvips.Image.new_from_file(str(source), access="sequential").autorot()
    result = image.insert(fill, 100, 100)
    _save_vips(result, source, target)
    return {"read": 0.0, "write": time.process_time() - start}


def _with_metadata(result: Any, image: Any) -> Any:
    """Copy every field except those of the layout."""
    import pyvips

    result = result.copy(xres=image.xres, yres=image.yres)
    for name in image.get_fields():
        if name not in result.get_fields() and image.get_typeof(name):
            result.set_type(image.get_typeof(name), name, image.get(name))
    del pyvips
    return result


def _save_vips(result: Any, source: Path, target: Path) -> None:
    """Save with the options nearest to the input's encoding."""
    if target.suffix == ".jpg":
        # Quantisation tables cannot be given: the quality must be guessed.
        with Image.open(source) as image:
            subsampling = JpegImagePlugin.get_sampling(image)
        result.jpegsave(str(target), Q=92, subsample_mode="on" if subsampling == 2 else "off")
    elif target.suffix == ".png":
        result.pngsave(str(target), compression=3)
    elif target.suffix == ".tif":
        result.tiffsave(str(target), compression="lzw")
    else:
        result.webpsave(str(target), Q=90)


RUNS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "retouch": run_retouch,
    "pyvips-array": run_vips_array,
    "pyvips-stream": run_vips_stream,
}


def measure(tool: str, source: Path, target: Path) -> dict[str, float]:
    """Run one tool in a process of its own."""
    command = [sys.executable, __file__, "--one", tool, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    return json.loads(done.stdout.splitlines()[-1])


def known_survive(source: Path, target: Path) -> str:
    """Compare the pixels outside the box."""
    from retouch import pictures

    before, after = pictures.read(source).pixels, pictures.read(target).pixels
    before[100 : 100 + BOX, 100 : 100 + BOX] = after[100 : 100 + BOX, 100 : 100 + BOX]
    if np.array_equal(before, after):
        return "identical"
    error = np.mean(
        [np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(before, after, strict=True)]
    )
    return f"{10 * np.log10(255**2 / error):.1f} dB"


def speed(megapixels: float) -> None:
    """Print the table of times and memory."""
    print(f"\n### {megapixels:g} megapixels: read, fill a box, write\n")
    print("| file | tool | read CPU s | write CPU s | peak MB | output MB | known pixels |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, megapixels)
        for kind in FORMATS:
            source = folder / f"in{kind}"
            for tool in TOOLS if source.exists() else ():
                target = folder / f"out-{tool}{kind}"
                result = measure(tool, source, target)
                read = f"{result['read']:.2f}" if result["read"] else "(streamed)"
                print(
                    f"| {kind} {source.stat().st_size / 1e6:.0f} MB | {tool} | {read} "
                    f"| {result['write']:.2f} | {result['peak']:.0f} "
                    f"| {target.stat().st_size / 1e6:.0f} | {known_survive(source, target)} |",
                    flush=True,
                )
                target.unlink()


def fidelity() -> None:
    """Print what survives of small files full of metadata."""
    print("\n### What survives\n")
    print("| property | retouch | pyvips (array) |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_rich(folder)
        rows: dict[str, list[str]] = {}
        for tool in ("retouch", "pyvips-array"):
            for source in sorted(folder.glob("rich-*")):
                target = folder / f"{tool}-{source.name}"
                try:
                    measure(tool, source, target)
                    found = {key: a == b for key, a, b in _compare(source, target)}
                except RuntimeError:
                    found = {key: False for key, _, _ in _compare(source, source)}
                for key, same in found.items():
                    rows.setdefault(f"{source.name[5:]}: {key}", []).append("yes" if same else "no")
        for key, values in rows.items():
            print(f"| {key} | {' | '.join(values)} |")


def _make_rich(folder: Path) -> None:
    image = Image.fromarray(photo(700, 800))
    exif = Image.Exif()
    exif[271] = "Maker"
    exif[272] = "Model"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    icc = b"\0" * 128 + b"profile"
    tables = [[5 + i // 4 for i in range(64)], [9 + i // 2 for i in range(64)]]
    common: dict[str, Any] = {"exif": exif, "dpi": (300, 150)}
    image.save(
        folder / "rich-tables.jpg", qtables=tables, subsampling=1, progressive=True, **common
    )
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Somebody")
    text.add_itxt("Title", "Über", "de", "Titel")
    image.save(folder / "rich-rgb.png", pnginfo=text, icc_profile=icc, **common)
    palette = image.quantize(200)
    palette.save(folder / "rich-palette.png", pnginfo=text)
    image.convert("1").save(folder / "rich-bilevel.png")
    image.convert("L").save(folder / "rich-grey.png")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "a description"
    tags[65000] = "a private tag"
    tags.tagtype[65000] = 2
    image.save(folder / "rich-tags.tif", tiffinfo=tags, compression="tiff_lzw", dpi=(300, 150))


def _compare(source: Path, target: Path) -> list[tuple[str, Any, Any]]:
    """List properties of both files as Pillow sees them."""
    with Image.open(source) as a, Image.open(target) as b:
        rows: list[tuple[str, Any, Any]] = [("mode", a.mode, b.mode)]
        for key in ("dpi", "icc_profile", "progressive", "compression"):
            if key in a.info:
                rows.append((key, a.info[key], b.info.get(key)))
        first, second = a.getexif(), b.getexif()
        if 0x8769 in first or 271 in first:
            rows.append(("EXIF maker", first.get(271), second.get(271)))
            dates = [tags.get_ifd(0x8769).get(0x9003) for tags in (first, second)]
            rows.append(("EXIF date", dates[0], dates[1]))
        if isinstance(a, JpegImagePlugin.JpegImageFile):
            rows.append(("quantisation tables", a.quantization, getattr(b, "quantization", None)))
            samplings = [JpegImagePlugin.get_sampling(image) for image in (a, b)]
            rows.append(("subsampling", samplings[0], samplings[1]))
        if isinstance(a, PngImagePlugin.PngImageFile) and a.text:
            rows.append(("text", a.text, getattr(b, "text", None)))
        if isinstance(a, TiffImagePlugin.TiffImageFile):
            for code in (270, 65000):
                rows.append((f"tag {code}", a.tag_v2.get(code), getattr(b, "tag_v2", {}).get(code)))
        return rows


def main() -> None:
    """Print everything as Markdown."""
    parser = argparse.ArgumentParser(description="Time and compare reading and writing pictures.")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[24, 100])
    parser.add_argument("--one", nargs=3, metavar=("TOOL", "SOURCE", "TARGET"))
    options = parser.parse_args()
    if options.one:
        tool, source, target = options.one
        result = RUNS[tool](Path(source), Path(target))
        status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        print(json.dumps(result | {"peak": peak}))
        return
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"Commit {commit}, {datetime.date.today()}, {platform.machine()}, {platform.platform()}")
    fidelity()
    for megapixels in options.megapixels:
        speed(megapixels)


if __name__ == "__main__":
    main()
