"""What bf16 costs in quality: the same fills in float32 and in bf16, measured against the truth.

Each picture gets a square hole of a quarter of its area at a seeded place. The composites of both
precisions are compared with the picture: PSNR over the whole crop, as papers give it.

    python benchmarks/precision.py dilated-photos photos/*.jpg
    python benchmarks/precision.py runs/isnet/best/isnet.safetensors photos/*.jpg --size 256
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from retouch import pictures
from retouch.pipeline.inpainter import Inpainter


def crop(path: Path, size: int) -> Any:
    """The middle of a picture, (size, size, 3) in [0, 1]; None if it is smaller or grey."""
    pixels = pictures.read(path).pixels
    if pixels.ndim != 3 or min(pixels.shape[:2]) < size:
        return None
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    part = pixels[top : top + size, left : left + size]
    return part.astype(np.float32) / np.float32(np.iinfo(part.dtype).max)


def psnr(fill: Any, image: Any, mask: Any) -> float:
    """Of the composite against the picture [dB]."""
    composite = np.where(mask[..., None], fill, image)
    return -10 * float(np.log10(np.mean((composite - image).astype(np.float64) ** 2)))


def main() -> None:
    """Print both means, their difference, and the largest single one."""
    parser = argparse.ArgumentParser(description="Compare fills in bf16 and float32.")
    parser.add_argument("weights", help="a file, or the name of weights")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args()
    path = Path(options.weights)
    name: str | Path = path if path.suffix else options.weights
    both = [Inpainter.load(name, device="cpu", precision=p) for p in ("float32", "bf16")]
    rng = np.random.default_rng(0)
    found: list[list[float]] = []
    for file in options.pictures:
        image = crop(file, options.size)
        if image is None:
            continue
        side = options.size // 2
        top, left = rng.integers(0, options.size - side, 2)
        mask = np.zeros(image.shape[:2], bool)
        mask[top : top + side, left : left + side] = True
        found.append([psnr(inpainter.predict(image, mask), image, mask) for inpainter in both])
        if len(found) == options.count:
            break
    values = np.array(found)
    change = values[:, 1] - values[:, 0]
    print(
        f"{options.weights}: {len(values)} pictures of {options.size} px; PSNR float32"
        f" {values[:, 0].mean():.3f} dB, bf16 {values[:, 1].mean():.3f} dB;"
        f" mean change {change.mean():+.4f} dB, worst {change.min():+.4f} dB"
    )


if __name__ == "__main__":
    main()
