"""How good the weights are: every table of `docs/quality.md` from one command.

    python benchmarks/quality.py ../shared/data -o runs/quality [--only scenes faces] [--write]

Each exam is one `retouch evaluate` on test pictures that nobody trained on, with the classical
methods and MI-GAN in the same run; methods whose weights are not at hand are left out and named. A
stopped run goes on. `--write` puts the tables into `docs/quality.md`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retouch.cli.evaluate import evaluate
from retouch.weights import named

CLASSICAL = ("telea", "fsr-fast", "patchmatch")
COLUMNS = {
    "psnr_rgb": "PSNR [dB]",
    "ssim_rgb_gaussian11": "SSIM",
    "ms_ssim_rgb": "MS-SSIM",
    "l1_percent": "L1 [%]",
    "lpips_alex": "LPIPS (AlexNet)",
    "lpips_vgg": "LPIPS (VGG)",
}
GROUPS = {
    "hole to 20 %": ("1-10 %", "10-20 %"),
    "20 to 40 %": ("20-30 %", "30-40 %"),
    "40 to 60 %": ("40-50 %", "50-60 %"),
}
PAGE = Path(__file__).parents[1] / "docs" / "quality.md"


@dataclass(frozen=True)
class Exam:
    """Test pictures, their masks, and who is examined."""

    name: str
    what: str
    pictures: str
    """Pattern below the data folder."""
    masks: str
    """Likewise, or `centre`."""
    weights: tuple[str, ...]
    """The first is what others are compared with."""
    baselines: tuple[str, ...] = CLASSICAL
    published: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    """Rows of papers: PSNR, MS-SSIM, L1, as printed."""
    differs: str = ""
    """What keeps the published rows from being compared."""


BUCKETED = "masks/bucketed-test-*.tar"
EXAMS = (
    Exam(
        "scenes",
        "natural scenes, irregular holes of 1 to 60 %",
        "natural_scenes/test-*.tar",
        BUCKETED,
        ("dilated-photos", "isnet-scenes", "structure-scenes", "semnet-scenes"),
        (*CLASSICAL, "migan"),
    ),
    Exam(
        "objects",
        "things, people, animals; irregular holes",
        "natural_objects/test-*.tar",
        BUCKETED,
        ("dilated-photos", "isnet-scenes", "structure-scenes", "semnet-scenes"),
        (*CLASSICAL, "migan"),
    ),
    Exam(
        "facades",
        "facades, irregular holes",
        "cmp_facade/test-*.tar",
        BUCKETED,
        ("srpnet-facades", "semantic-facades", "dilated-photos"),
    ),
    Exam(
        "facades-centre",
        "facades, centred square of 128 px",
        "cmp_facade/test-*.tar",
        "centre",
        ("srpnet-facades", "semantic-facades", "dilated-photos"),
        published={
            "SRPNet, its paper": ("23.22", "0.8249", "3.02"),
            "PEN-Net, in SRPNet's paper": ("21.87", "0.7759", "3.69"),
        },
        differs="The paper trained on 506 facades and tested on 100; ours are 400 and 106, squashed"
        " to squares and stored as JPEG once more.",
    ),
    Exam(
        "textures",
        "textures (10 of DTD's 47 classes), irregular holes",
        "dtd_textures/test-*.tar",
        BUCKETED,
        ("srpnet-textures", "dilated-photos"),
    ),
    Exam(
        "textures-centre",
        "textures, centred square of 128 px",
        "dtd_textures/test-*.tar",
        "centre",
        ("srpnet-textures", "dilated-photos"),
        published={
            "SRPNet, its paper": ("24.17", "0.7662", "3.25"),
            "PEN-Net, in SRPNet's paper": ("23.73", "0.7513", "3.44"),
        },
        differs="The paper has all 47 classes of DTD (4,512 pictures for training, 1,128 for"
        " testing), ours are 10 of them (979 and 100).",
    ),
    Exam(
        "faces",
        "tight face crops, irregular holes",
        "celeba_faces256/test-*.tar",
        BUCKETED,
        ("structure-faces", "semnet-faces", "isnet-faces", "dilated-photos"),
    ),
    Exam(
        "faces-centre",
        "faces with label maps, centred square of 128 px",
        "celebamask_mini/test-*.tar",
        "centre",
        ("semantic-faces", "dilated-photos"),
    ),
    Exam(
        "street-centre",
        "street frames between trained ones of the same drive, centred square of 128 px",
        "camvid/test-*.tar",
        "centre",
        ("semantic-street", "dilated-photos"),
    ),
)


def take(exam: Exam, data: Path, output: Path, limit: int | None) -> dict[str, Any] | None:
    """Run one exam; None if none of its weights are at hand."""
    at_hand = named.available()
    for absent in (name for name in exam.weights if name not in at_hand):
        print(f"{exam.name}: no weights {absent} at hand")
    present = tuple(name for name in exam.weights if name in at_hand)
    if not present:
        return None
    folder, _, pattern = exam.pictures.rpartition("/")
    masks = (exam.masks,)
    if exam.masks != "centre":
        masks = tuple(str(path) for path in sorted(data.glob(exam.masks)))
    evaluate(
        pictures=tuple(sorted((data / folder).glob(pattern))),
        masks=masks,
        output=output / exam.name,
        network=present,
        baselines=exam.baselines,
        metrics=(*COLUMNS, "kid_paired"),
        limit=limit,
    )
    return json.loads((output / exam.name / "report.json").read_text("utf-8"))


def table(exam: Exam, report: Mapping[str, Any]) -> list[str]:
    """Write an exam's table: whole set, then LPIPS by hole share where shares vary."""
    grouped = exam.masks != "centre"
    heads = ["method", *COLUMNS.values(), "KID x 1000"]
    heads += [f"LPIPS, {name}" for name in GROUPS] if grouped else []
    lines = [f"## {exam.name}", "", f"{exam.what}: {report['pairs']} pairs.", ""]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method in report["methods"]:
        name = method["name"]
        scores = report["scores"][name]
        cells = [_number(scores["all"][column]["value"], column) for column in COLUMNS]
        kid = report["sets"][name]["kid_paired"]
        cells.append(_interval(kid))
        if grouped:
            cells += [_mean(scores, bins) for bins in GROUPS.values()]
        shown = f"**{name}**" if name in exam.weights else name
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    for name, (psnr, ms_ssim, l1) in exam.published.items():
        cells = [psnr, "-", ms_ssim, l1, "-", "-", "-"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if exam.differs:
        lines += ["", "Published rows are no like for like: " + exam.differs]
    return [*lines, "", f"Pairs: manifest sha256 `{report['pairs_sha256'][:16]}`.", ""]


def _number(value: float | None, column: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if column in ("psnr_rgb", "l1_percent") else f"{value:.4f}"


def _interval(kid: Mapping[str, Any]) -> str:
    if kid["value"] is None:
        return "-"
    low, high = kid.get("low"), kid.get("high")
    span = "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
    return f"{kid['value']:.1f}{span}"


def _mean(scores: Mapping[str, Any], bins: Sequence[str]) -> str:
    """LPIPS over some bins, each picture counting once."""
    found = [scores[name]["lpips_alex"] for name in bins if name in scores]
    count = sum(cell["n"] for cell in found)
    if not count:
        return "-"
    return f"{sum(cell['value'] * cell['n'] for cell in found) / count:.4f}"


HEAD = """# How good the weights are

Written by `python benchmarks/quality.py DATA --write`. Test pictures that nobody trained on,
256 px; the n-th picture gets the n-th mask, both sorted by name; 8-bit composites; means over
pictures.
KID is that of the pairs (Inception 2015-12-05) with its 95 % interval. Lower is better for L1,
LPIPS and KID. Our weights are in bold. MI-GAN was trained on Places2 at 512 px. Exams that were
not taken with these weights are left out.
"""


def written() -> dict[str, str]:
    """What the page says of each exam: exams that are not taken now keep it."""
    _, *parts = PAGE.read_text(encoding="utf-8").split("\n## ")
    return {part.partition("\n")[0]: "## " + part.rstrip("\n") + "\n" for part in parts}


def main() -> None:
    """Take the exams and print or write the tables."""
    parser = argparse.ArgumentParser(description="All tables on the quality of the weights.")
    parser.add_argument("data", type=Path, help="folder with the packs and masks")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/quality"))
    parser.add_argument("--only", nargs="*", choices=[exam.name for exam in EXAMS])
    parser.add_argument("--limit", type=int, help="only the first so many pictures")
    parser.add_argument("--write", action="store_true", help="write docs/quality.md")
    arguments = parser.parse_args()
    lines = [HEAD]
    for exam in EXAMS:
        if arguments.only and exam.name not in arguments.only:
            lines += [text for name, text in written().items() if name == exam.name]
            continue
        report = take(exam, arguments.data, arguments.output, arguments.limit)
        lines += table(exam, report) if report else []
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
