"""How well fills obey their label map: segment the result, compare with the map inside the hole.

Each picture of a labelled pack gets a centred square of half its sides as hole. A judge (the public
face parser for faces) segments the fills; intersections and unions are summed over all pixels of
all holes, for classes above 0.5 % of them. Rows: the true pictures (what the judge itself gives),
each weight file guided by the true maps and by the maps that it proposes, and a fill without maps.

    python benchmarks/fidelity.py ../shared/data/celebamask_mini/test-*.tar --network semantic-faces
    python benchmarks/fidelity.py SHARDS --network a --network b --against dilated-photos --limit 20
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from retouch.data import sources
from retouch.evaluation import pairs, pixels
from retouch.evaluation.lpips import LPIPS
from retouch.pictures import Picture
from retouch.pipeline.editing import EditingSession
from retouch.pipeline.inpainter import Inpainter
from retouch.weights import segmenters

LEAST = 0.005
"""Share of the holes' pixels above which a class counts."""

Image = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass
class Row:
    """One line of the table: fills of one kind, compared as they come."""

    name: str
    confusion: NDArray[np.int64]
    psnr: list[float]
    lpips: list[float]

    def add(self, asked: Labels, found: Labels, mask: Mask) -> None:
        """Count the hole's pixels of known class: rows are asked for, columns found."""
        count = len(self.confusion)
        inside = mask & (asked < count)
        both = asked[inside].astype(np.int64) * count + found[inside]
        self.confusion += np.bincount(both, minlength=count**2).reshape(count, count)

    def mean_iou(self, counted: NDArray[np.bool_]) -> float:
        """Mean over the counted classes."""
        met = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - met
        return float((met[counted] / np.maximum(union[counted], 1)).mean())


def samples(shards: Sequence[str], limit: int | None) -> Iterator[tuple[Image, Labels, Mask]]:
    """Yield pictures, their maps and the centred hole."""
    found = [entry for entry in sources.entries(shards) if entry.label is not None]
    if not found:
        raise SystemExit("no label maps beside these pictures")
    for entry in track(found[:limit], "pictures"):
        image = sources.decode(entry)
        yield image, sources.decode_labels(entry), pairs.centre_square(image.shape[:2])


def guided(inpainter: Inpainter) -> Callable[[Image, Mask, Labels | None], tuple[Image, Labels]]:
    """Fill as a map says (None: as the network proposes); returns the fill and the map."""

    def fill(image: Image, mask: Mask, labels: Labels | None) -> tuple[Image, Labels]:
        session = EditingSession(inpainter, Picture(pixels=image), mask)
        box = session.box
        if labels is None:
            given = session.labels
        else:
            given = labels[box.slices]
        whole = np.zeros(mask.shape, np.uint8)
        whole[box.slices] = given
        return session.render(given).pixels, whole

    return fill


def load(name: str) -> Inpainter:
    """Load weights by name, or by file."""
    return Inpainter.load(Path(name) if name.endswith(".safetensors") else name, device="cpu")


def judge(network: torch.nn.Module) -> Callable[[Image], Labels]:
    """What the judge sees, (h, w)."""

    @torch.inference_mode()
    def segment(image: Image) -> Labels:
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        return network.eval()(x).argmax(dim=1)[0].byte().numpy()

    return segment


def table(rows: Iterable[Row], counted: NDArray[np.bool_], classes: Sequence[str]) -> None:
    """Print Markdown."""
    used = [name for name, counts in zip(classes, counted, strict=True) if counts]
    print(f"classes: {', '.join(used)}")
    print("| fill | mean IoU in the hole | of the true pictures' | PSNR [dB] | LPIPS (AlexNet) |")
    print("|---|---|---|---|---|")
    best = None
    for row in rows:
        value = row.mean_iou(counted)
        best = best or value
        exact = [f"{np.mean(row.psnr):.2f}", f"{np.mean(row.lpips):.4f}"] if row.psnr else ["", ""]
        print(f"| {row.name} | {value:.3f} | {value / best:.2f} | {' | '.join(exact)} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--network", action="append", required=True, help="guided weights")
    parser.add_argument("--against", action="append", default=[], help="weights without maps")
    parser.add_argument("--judge", default="", help="weights; default: those of the label set")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    inpainters = {name: load(name) for name in options.network}
    free = {name: load(name) for name in options.against}
    first: Any = next(iter(inpainters.values())).network
    names = first.label_set
    see = judge(segmenters.load(options.judge or segmenters.default(names.name), names.name))
    lpips = LPIPS.from_store("alex").eval()

    def row(name: str) -> Row:
        return Row(name, np.zeros((len(names), len(names)), np.int64), [], [])

    true = row("true pictures")
    rows = {key: row(key) for name in inpainters for key in (f"{name}, true maps", f"{name}, own")}
    rows |= {name: row(name) for name in free}

    def score(to: Row, image: Image, fill: Image, asked: Labels, mask: Mask) -> None:
        to.add(asked, see(fill), mask)
        to.psnr.append(pixels.psnr(image, fill))
        both = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] / 255 for x in (image, fill))
        with torch.inference_mode():
            to.lpips.append(float(lpips(*both)))

    for image, labels, mask in samples(options.shards, options.limit):
        true.add(labels, see(image), mask)
        for name, inpainter in inpainters.items():
            fill = guided(inpainter)
            score(rows[f"{name}, true maps"], image, fill(image, mask, labels)[0], labels, mask)
            own, proposed = fill(image, mask, None)
            score(rows[f"{name}, own"], image, own, proposed, mask)
        for name, inpainter in free.items():
            score(rows[name], image, np.asarray(inpainter.fill(image, mask)), labels, mask)
    shares = true.confusion.sum(1) / true.confusion.sum()
    table([true, *rows.values()], shares > LEAST, names.names)


if __name__ == "__main__":
    main()
