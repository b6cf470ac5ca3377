"""`retouch fill`: fill the holes of a picture or of a folder of pictures."""

import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retouch.pipeline.batch import Job, Outcome
    from retouch.pipeline.places import Place


def fill(
    picture: str,
    mask: str | None = None,
    *,
    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
    network: str = "dilated-photos",
    weights: Path | None = None,
    device: str = "auto",
    precision: Literal["auto", "float32", "bf16"] = "auto",
    dilate: int = 0,
    feather: int = 0,
    invert_mask: bool = False,
    resize_mask: bool = False,
    labels: str | None = None,
    lossless: bool = False,
    skip_existing: bool = False,
    seed: int = 0,
    refine: bool = True,
    engine: Literal["here", "ray"] = "here",
    workers: int | None = None,
) -> None:
    """Fill the holes of a picture (retouch fill photo.jpg mask.png) or of a folder.

    White in the mask is what goes. Everything else stays as it is, bit for bit in lossless formats
    (JPEG must be encoded again: --lossless writes PNG instead). EXIF, colour profile, transparency
    and bit depth are kept. Pictures, masks and outputs may also lie at any address that fsspec
    knows: s3://bucket/folder, gs://, http://, ...

    Exit code: 0 all filled, 1 some pictures of a folder failed, 2 nothing could be done.

    Args:
        picture: A picture, or a folder of pictures.
        mask: A mask; for a folder: a folder of masks (same name, or name_mask) or one mask for
            all. Without it, the transparent part of the picture is the hole.
        output: File or folder to write; default: photo_filled.jpg beside photo.jpg, or the folder
            NAME_filled.
        network: Name of weights or of a network: `retouch models` lists them.
        weights: A weight file, instead of --network.
        device: auto, cpu, cuda, cuda:1, mps; openvino runs the CPU faster after a slower start,
            for folders, and needs pip install "retouch[openvino]".
        precision: bf16 is twice as fast where the processor computes in it; auto uses it there.
        dilate: Widen the holes by so many pixels first; 3 to 5 helps when an object is removed.
        feather: Fade the fill in over so many of the pixels that --dilate added.
        invert_mask: Black in the mask is what goes.
        resize_mask: Bring a mask of another size to the picture's size.
        labels: A label map (indexed PNG) for networks that obey one.
        lossless: Write PNG (or TIFF) where the picture's own format loses.
        skip_existing: In a folder, leave out pictures whose output is already there.
        seed: For networks that draw random numbers; the same seed gives the same bytes.
        refine: Copy from like places of the picture the finest grain of the fill, and the middle
            of thick holes where the network smears; --no-refine leaves the network's own.
        engine: here, or ray: a folder is shared out to the Ray cluster at RAY_ADDRESS, or to
            workers on this machine; needs pip install "retouch[ray]".
        workers: Pictures of a folder filled at once, here or on the cluster; default: one for each
            GPU, else for each processor.
    """
    from retouch.pipeline import places
    from retouch.pipeline.batch import ReadOptions, fill_all, undone
    from retouch.pipeline.inpainter import Inpainter
    from retouch.pipeline.options import FillOptions

    source = places.place(picture)
    if output is not None and output.endswith("/") and not places.is_folder(source):
        output += places.name_of(source)
    others = (None if text is None else places.place(text) for text in (mask, output, labels))
    jobs, problems = _jobs(source, *others)
    reading = ReadOptions(invert_mask=invert_mask, resize_mask=resize_mask, lossless=lossless)
    jobs = undone(jobs, reading) if skip_existing else jobs
    for problem in problems:
        print(f"retouch: {problem}", file=sys.stderr)
    failed = list(problems)
    if jobs:
        options = FillOptions(dilate=dilate, feather=feather, seed=seed, refine=refine)
        if engine == "ray":
            from retouch.pipeline.cluster import Task, fill_on_ray
            from retouch.weights import named

            header, module = named.load(weights or network)
            task = Task(
                network=module, header=header, device=device, precision=precision,
                options=options, reading=reading, workers=workers,
            )  # fmt: skip
            outcomes = fill_on_ray(task, jobs)
        else:
            inpainter = Inpainter.load(weights or network, device=device, precision=precision)
            outcomes = fill_all(inpainter, jobs, options, reading, together=workers)
        failed += _follow(outcomes, len(jobs))
    if failed:
        sys.exit(1 if places.is_folder(source) else 2)


def _jobs(
    picture: "Place", mask: "Place | None", output: "Place | None", labels: "Place | None"
) -> "tuple[list[Job], list[str]]":
    from retouch.pictures import PictureError
    from retouch.pipeline import places
    from retouch.pipeline.batch import Job

    name = places.name_of(picture)
    if not places.is_folder(picture):
        if mask is not None and places.is_folder(mask):
            raise PictureError(f"{mask} is a folder, but {picture} is one picture")
        pure = PurePath(name)
        target = output or places.beside(picture, f"{pure.stem}_filled{pure.suffix}")
        if places.is_folder(target):
            target = places.inside(target, name)
        return [Job(picture=picture, mask=mask, output=target, labels=labels)], []
    if isinstance(picture, Path):
        name = picture.resolve().name
    folder = output or places.beside(picture, f"{name}_filled")
    found = places.find(picture)
    if not found:
        raise PictureError(f"{picture} holds no picture")
    pairs: list[tuple[Place, Place | None]] = [(path, None) for path in found]
    problems: list[str] = []
    if mask is not None:
        matched, problems = places.pair(found, mask)
        pairs = list(matched)
    jobs = [
        Job(
            picture=path,
            mask=its_mask,
            output=places.inside(folder, places.name_of(path)),
            labels=labels,
        )
        for path, its_mask in pairs
    ]
    return jobs, problems


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
