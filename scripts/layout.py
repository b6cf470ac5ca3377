"""Write where the classes of a label set lie on average in pictures that are framed alike.

    python scripts/layout.py --labels faces SHARDS

Writes `src/retouch/segmentation/layouts/NAME.png`: one square of 32x32 cells below the other for
each class, white where every picture has it. Pictures held out for validation are left out.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from retouch.data import sources
from retouch.segmentation.labels import label_set

CELLS = 32
FOLDER = Path(__file__).parents[1] / "src" / "retouch" / "segmentation" / "layouts"


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--labels", default="faces")
    given = parser.parse_args()
    classes = range(len(label_set(given.labels)))
    total, count = np.zeros((len(classes), CELLS, CELLS)), 0
    for entry in track(sources.split(sources.entries(given.shards), part=0)[0], "pictures"):
        labels = sources.decode_labels(entry)
        shares = [(labels == index).astype(np.float32) for index in classes]
        total += [cv2.resize(s, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for s in shares]
        count += 1
    stacked = (total / count * 255).round().astype(np.uint8).reshape(-1, CELLS)
    target = FOLDER / f"{given.labels}.png"
    cv2.imwrite(str(target), stacked)
    print(f"{count} pictures, {target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
