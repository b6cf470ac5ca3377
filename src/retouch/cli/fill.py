"""`retouch fill`: fill the holes of a picture or of a folder of pictures."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retouch.pipeline.batch import Job, Outcome


def fill(
    picture: Path,
    mask: Path | None = None,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    network: str = "dilated-photos",
    weights: Path | None = None,
    device: str = "auto",
    precision: Literal["auto", "float32", "bf16"] = "auto",
    dilate: int = 0,
    feather: int = 0,
    invert_mask: bool = False,
    resize_mask: bool = False,
    labels: Path | None = None,
    lossless: bool = False,
    skip_existing: bool = False,
    seed: int = 0,
) -> None:
    """Fill the holes of a picture (retouch fill photo.jpg mask.png) or of a folder.

    White in the mask is what goes. Everything else stays as it is, bit for bit in lossless formats
    (JPEG must be encoded again: --lossless writes PNG instead). EXIF, colour profile, transparency
    and bit depth are kept.

    Exit code: 0 all filled, 1 some pictures of a folder failed, 2 nothing could be done.

    Args:
        picture: A picture, or a folder of pictures.
        mask: A mask; for a folder: a folder of masks (same name, or name_mask) or one mask for
            all. Without it, the transparent part of the picture is the hole.
        output: File or folder to write; default: photo_filled.jpg beside photo.jpg, or the folder
            NAME_filled.
        network: Name of weights or of a network: `retouch models` lists them.
        weights: A weight file, instead of --network.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: bf16 is twice as fast where the processor computes in it; auto uses it there.
        dilate: Widen the holes by so many pixels first; 3 to 5 helps when an object is removed.
        feather: Fade the fill in over so many of the pixels that --dilate added.
        invert_mask: Black in the mask is what goes.
        resize_mask: Bring a mask of another size to the picture's size.
        labels: A label map (indexed PNG) for networks that obey one.
        lossless: Write PNG (or TIFF) where the picture's own format loses.
        skip_existing: In a folder, leave out pictures whose output is already there.
        seed: For networks that draw random numbers; the same seed gives the same bytes.
    """
    jobs, problems = _jobs(picture, mask, output, labels)
    if skip_existing:
        jobs = [job for job in jobs if not job.output.exists()]
    for problem in problems:
        print(f"retouch: {problem}", file=sys.stderr)
    failed = list(problems)
    if jobs:
        from retouch.pipeline.batch import ReadOptions, fill_all
        from retouch.pipeline.inpainter import FillOptions, Inpainter

        options = FillOptions(dilate=dilate, feather=feather, seed=seed)
        reading = ReadOptions(invert_mask=invert_mask, resize_mask=resize_mask, lossless=lossless)
        inpainter = Inpainter.load(weights or network, device=device, precision=precision)
        failed += _follow(fill_all(inpainter, jobs, options, reading), len(jobs))
    if failed:
        sys.exit(1 if picture.is_dir() else 2)


def _jobs(
    picture: Path, mask: Path | None, output: Path | None, labels: Path | None
) -> "tuple[list[Job], list[str]]":
    from retouch import pictures
    from retouch.pipeline.batch import Job

    if not picture.is_dir():
        if mask is not None and mask.is_dir():
            raise pictures.PictureError(f"{mask} is a folder, but {picture} is one picture")
        target = output or picture.with_name(f"{picture.stem}_filled{picture.suffix}")
        if target.is_dir():
            target = target / picture.name
        return [Job(picture=picture, mask=mask, output=target, labels=labels)], []
    folder = output or picture.with_name(f"{picture.resolve().name}_filled")
    found = pictures.find(picture)
    if not found:
        raise pictures.PictureError(f"{picture} holds no picture")
    if mask is None:
        return [Job(picture=path, mask=None, output=folder / path.name) for path in found], []
    pairing = pictures.pair(found, mask)
    jobs = [
        Job(picture=path, mask=its_mask, output=folder / path.name, labels=labels)
        for path, its_mask in pairing.pairs
    ]
    return jobs, list(pairing.problems)


def _follow(outcomes: "Iterator[Outcome]", total: int) -> list[str]:
    """Show progress, tell what was written and list what failed."""
    from rich.progress import track

    failed: list[str] = []
    shown = track(outcomes, "Filling", total=total, disable=total == 1, transient=True)
    for outcome in shown:
        if outcome.error:
            failed.append(outcome.error)
            if total == 1:
                print(f"retouch: {outcome.error}", file=sys.stderr)
        elif total == 1:
            print(outcome.written)
    if total > 1:
        print(f"{total - len(failed)} of {total} pictures filled")
        for line in failed:
            print(f"retouch: {line}", file=sys.stderr)
    return failed
