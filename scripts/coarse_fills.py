"""Write what a semantic network's first stage makes of holes in labelled pictures, with the maps.

    python scripts/coarse_fills.py --network semantic-faces -o runs/coarse-fills SHARDS

A segmenter that has seen only true pictures finds neither eyes nor nose in a coarse fill, which is
smooth. One that is trained on these pictures learns what belongs there: `KEY-0.jpg` has a centred
square filled, the others irregular holes; `KEY-0.label.png` is the true map.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from retouch.data import masks, sources
from retouch.pipeline import devices
from retouch.weights import named


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--network", default="semantic-faces")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--holes", type=int, default=3, help="pictures made of each")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    cpu = torch.device("cpu")
    bf16 = devices.computes_in_bf16(cpu, "auto")
    network = devices.prepare(named.load(given.network)[1], cpu, bf16=bf16)
    rng = np.random.default_rng(0)
    for entry in track(sources.entries(given.shards), "pictures"):
        picture, labels = sources.decode(entry), sources.decode_labels(entry)
        for number in range(given.holes):
            size = picture.shape[:2]
            hole = masks.centre(size) if number == 0 else masks.with_share(rng, size, 0.1, 0.5)
            image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
            mask = torch.from_numpy(hole)[None, None].float()
            with torch.inference_mode(), devices.autocast(cpu, bf16):
                coarse = network.encode(image, mask).coarse.float()  # pyright: ignore[reportCallIssue]
            filled = torch.where(mask > 0, coarse, image)[0].permute(1, 2, 0).clamp(0, 1)
            stem = given.output / f"{Path(entry.key).name}-{number}"
            Image.fromarray((filled * 255).round().byte().numpy()).save(
                stem.with_suffix(".jpg"), quality=95
            )
            Image.fromarray(labels).save(stem.with_suffix(".label.png"))
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
